"""``workbench samples``, ``degrade`` and ``prepare``: clips to work on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from workbench.cli.command import command
from workbench.cli.stills import prepare_stills
from workbench.cli.terminal import OutputConsole, notes

if TYPE_CHECKING:
    from workbench.data.sampling.footage_motion import MotionSummary


@command
def samples() -> int:
    """List the sample clips that come with the installation, with credit and license."""
    from workbench.data.datasets.samples import samples

    table = Table("sample", "size", "frames", "licence", "credit")
    for clip in samples():
        table.add_row(clip.name, f"{clip.width}x{clip.height}", str(clip.frames), clip.licence, clip.credit)
    OutputConsole().print(table)
    return 0


@command
def degrade(
    source: tyro.conf.Positional[Path],
    target: tyro.conf.Positional[Path],
    /,
    *,
    family: str = "bi",
    scale: int = 4,
) -> int:
    """Write the low resolution of a clip or of a whole dataset, as PNG.

    A degradation.json next to it says how it was made, and the frame rate and times of videos.

    Start it again after it was stopped: clips that are done are looked over and kept.

    Args:
        source: a folder of pictures, a video, or a folder of such, however deep (Vid4/GT).
        target: where the low resolution comes, in the same folders (Vid4/BIx4).
        family: bi (MATLAB's bicubic), bd_basicvsr, bd_duf or bd_tecogan (three blurs that do not go together).
        scale: how many times smaller: 2, 3, 4.
    """
    from workbench.data.degradation.write_lr import Stage, write_low
    from workbench.devices import set_num_threads

    set_num_threads()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("looking for clips", total=None)

        def observe(stage: Stage) -> None:
            frame = f" frame {stage.frames}" if stage.frames else ""
            bar.update(task, description=f"{stage.clip}{frame}", completed=stage.done, total=stage.clips)

        made = write_low(source, target, family=family, scale=scale, progress=observe)
    print(f"{target}: {family} x{scale}, clips written: {made.clips} ({made.frames} frames), kept: {made.kept}")
    return 0


def print_motion(motion: MotionSummary | None) -> None:
    """Print a histogram of the motion of the training footage and its description; nothing where there is none."""
    from workbench.data.sampling.footage_motion import CELL, EDGES

    if motion is None:
        return
    print(f"motion of the training footage, in low-resolution pixels a frame (squares of {CELL}x{CELL}):")
    names = [f"{low:g} to {high:g}" for low, high in pairwise((0, *EDGES))] + [f"{EDGES[-1]:g} or more"]
    for name, share in zip(names, motion.shares, strict=True):
        print(f"  {name:>12} {share:>5.0%} {'#' * round(share * 50)}".rstrip())
    low, middle, high = motion.quartiles
    print(
        f"  a quarter moves less than {low:.2f}, half less than {middle:.2f}, a quarter more than {high:.2f}; "
        f"{motion.moving:.0%} move more than 0.25"
    )


def prepare(args: Sequence[str]) -> int:
    """Make a training set of your own footage, or of still images in motion (--stills)."""
    stills = any(arg.partition("=")[0] == "--stills" for arg in args)
    return tyro.cli(prepare_stills if stills else prepare_footage, args=list(args), prog="workbench prepare")


def prepare_footage(
    footage: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path,
    form: Literal["arrays", "folders", "shards"] = "arrays",
    shrink: Literal["auto", "1", "2", "3"] = "2",
    crop: str = "",
    stride: int = 7,
    scale: int = 4,
    degradation: str = "bi",
    validation: tuple[str, ...] = (),
    validation_share: float = 0.1,
    on_damage: Literal["raise", "keep"] = "raise",
    cut_above: float = 6.0,
    black_below: float = 8.0,
    repeat_below: float = 1.0,
    still_below: float = 0.4,
    threads: int = 0,
) -> int:
    """Make a training set of your own footage: cut at its cuts, without what is black, repeated or still.

    Folders of frames are also cut where the numbers in the file names show that frames are missing.

    Start it again after it was stopped: sources that are done are looked over and kept. Then train on it with
    `workbench train --data.clips OUT`, and look at OUT/contact_sheet.png first.

    With --stills FOLDER, a folder of images, it prepares clips of still images in motion instead; the options are
    then others: `workbench prepare --stills FOLDER --help`.

    Args:
        footage: video files, folders of pictures, or folders that hold either.
        out: the folder to write: new, empty, or that of the job to go on with.
        form: arrays (memory-mapped, the fastest on one machine), folders (PNGs in Vimeo-90K's layout, read by many
            programs) or shards (tar files, for clusters).
        shrink: make frames so many times smaller, to hide the artefacts of their coding; auto: as much as leaves
            the size of a tile.
        crop: WIDTHxHEIGHT of the tiles cut out of every frame, or whole; empty: whole for arrays, 448x256 else.
        stride: septuplets begin every so many frames; 7 for arrays.
        scale: how many times smaller the low resolution is: 2, 3, 4.
        degradation: its family: bi, bd_basicvsr, bd_duf, bd_tecogan.
        validation: names of sources to hold out.
        validation_share: where none are named, this share of the sources is held out, by a hash of their names.
        on_damage: of a damaged file, keep the good frames, or raise an error.
        cut_above: score of FFmpeg's scdet from which a frame begins a new shot.
        black_below: frames whose mean luma (of 255) is lower are dropped.
        repeat_below: frames that differ less than this from the last, in every square of 16 pixels, are dropped.
        still_below: septuplets whose frames differ less than this on average are dropped.
        threads: of the CPU; 0: as many as there are cores.
    """
    from workbench.data.preparation.manifest import Settings
    from workbench.data.preparation.prepare import Progress as Stage
    from workbench.data.preparation.prepare import prepare
    from workbench.training.machine import configure_torch

    settings = Settings(
        form=form, shrink=shrink, crop=crop, stride=stride, scale=scale, degradation=degradation,
        validation=validation, validation_share=validation_share, cut_above=cut_above, black_below=black_below,
        repeat_below=repeat_below, still_below=still_below,
    )  # fmt: skip
    configure_torch(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames, left"),
               TimeRemainingColumn(), TextColumn("{task.fields[made]}"))  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("looking at the footage", total=None, made="")

        def observe(stage: Stage) -> None:
            where = f"{stage.stage} {stage.source} ({min(stage.done + 1, stage.sources)} of {stage.sources})"
            made = f"{stage.septuplets} septuplets" if stage.septuplets else ""
            bar.update(task, description=where, completed=stage.frames, total=stage.expected or None, made=made)

        manifest = prepare(footage, out, settings, on_damage=on_damage, observe=observe)
    table = Table("source", "split", "frames", "cuts", "gaps", "dropped", "septuplets")
    for source in manifest.sources:
        counts = source.counts
        dropped = ", ".join(f"{n} {why}" for why, n in counts.items() if n and why not in ("frames", "cuts", "gaps"))
        table.add_row(
            source.name,
            source.split,
            str(counts["frames"]),
            str(counts["cuts"]),
            source.gaps,
            dropped,
            str(source.septuplets),
        )
        if source.damage:
            notes.print(f"{source.file}: {source.damage}")
    OutputConsole().print(table)
    print_motion(manifest.motion)
    print(
        f"{out}: {manifest.septuplets('train')} septuplets to train on, {manifest.septuplets('validation')} held "
        f"out, {manifest.num_bytes / 1e6:,.1f} MB"
    )
    notes.print(f"look at {out / 'contact_sheet.png'}; train with `workbench train --data.clips {out}`")
    return 0
