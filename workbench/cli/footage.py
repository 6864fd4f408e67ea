"""``workbench samples``, ``degrade`` and ``prepare``: clips to work on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from workbench.choices import Downscale, PreparedFormat
from workbench.cli.command import command
from workbench.cli.terminal import COLUMNS, OutputConsole, notes
from workbench.config import Data

if TYPE_CHECKING:
    from workbench.data.preparation.manifest import Manifest
    from workbench.data.sampling.footage_motion import MotionSummary


@command
def samples() -> int:
    """List the sample clips of the installation, with credit and license.

    Example: `workbench samples`
    """
    from workbench.data.datasets.samples import SAMPLES

    table = Table("sample", "size", "frames", "license", "credit")
    for clip in SAMPLES.values():
        table.add_row(clip.name, f"{clip.width}x{clip.height}", str(clip.frames), clip.license, clip.credit)
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

    A degradation.json next to the images contains their degradation, and the frame rate and times of videos.

    A stopped job continues when it is started again: finished clips are checked and kept.

    Example: `workbench degrade Vid4/GT Vid4/BIx4 --family bi`

    Args:
        source: Folder of images, video, or folder that contains such (Vid4/GT).
        target: Folder of the low resolution, with the same subfolders (Vid4/BIx4).
        family: Degradation: bi (MATLAB's bicubic), bd_basicvsr, bd_duf or bd_tecogan (three different blurs).
        scale: Downsampling factor: 2, 3, 4.
    """
    from workbench.data.degradation.write_lr import WriteProgress, write_lr
    from workbench.devices import set_num_threads

    set_num_threads()
    with Progress(*COLUMNS, console=notes) as bar:
        task = bar.add_task("searching for clips", total=None)

        def observe(progress: WriteProgress) -> None:
            frame = f" frame {progress.frames}" if progress.frames else ""
            bar.update(task, description=f"{progress.clip}{frame}", completed=progress.done, total=progress.clips)

        made = write_lr(source, target, family=family, scale=scale, progress=observe)
    print(f"{target}: {family} x{scale}, clips written: {made.clips} ({made.frames} frames), kept: {made.kept}")
    return 0


def prepare(args: Sequence[str]) -> int:
    """Prepare a training set from your own footage or still images."""
    stills = any(arg.partition("=")[0] == "--stills" for arg in args)
    return tyro.cli(prepare_stills if stills else prepare_footage, args=list(args), prog="workbench prepare")


def prepare_footage(
    footage: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path,
    format: PreparedFormat = "arrays",
    downscale: Downscale = "2",
    tile_size: str = "",
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
    """Prepare a training set from your own footage: split at its cuts, without black, repeated and still frames.

    Folders of frames are also split where the numbers in the file names show that frames are missing.

    A stopped job continues when it is started again: finished sources are checked and kept. Then look at
    OUT/contact_sheet.png, and train with `workbench train --data.clips OUT`.

    With --stills FOLDER, a folder of images, the command prepares clips of still images in motion instead. Their
    options differ: `workbench prepare --stills FOLDER --help`.

    Example: `workbench prepare holiday.mp4 walks/ --out data/mine`

    Args:
        footage: Video files, folders of images, or folders that contain either.
        out: Folder to write: new, empty, or that of a job to continue.
        format: Storage: arrays (memory-mapped, the fastest on one machine), folders (PNGs in Vimeo-90K's layout, which
            many programs read) or shards (tar files, for clusters).
        downscale: Factor by which frames are downscaled to hide compression artifacts; auto: the largest that leaves
            one tile.
        tile_size: Size of the tiles cut from every frame, as WIDTHxHEIGHT, or whole; empty: whole for arrays, else
            448x256.
        stride: Frames from the beginning of one septuplet to that of the next; 7 for arrays.
        scale: Downsampling factor of the low resolution: 2, 3, 4.
        degradation: Degradation of the low resolution: bi, bd_basicvsr, bd_duf, bd_tecogan.
        validation: Names of sources to hold out.
        validation_share: Share of the sources to hold out where none are named, chosen by a hash of their names.
        on_damage: Treatment of a damaged file: keep the good frames, or raise an error.
        cut_above: Score of FFmpeg's scdet from which a frame begins a new shot.
        black_below: Mean luma (of 255) below which frames are dropped.
        repeat_below: Difference to the last frame, in every block of 16 pixels, below which frames are dropped.
        still_below: Mean difference between the frames of a septuplet below which it is dropped.
        threads: Threads of the CPU; 0: all cores, or OMP_NUM_THREADS.
    """
    from workbench.data.preparation.manifest import PrepareSettings
    from workbench.data.preparation.prepare import PrepareProgress, prepare
    from workbench.training.torch_setup import configure_torch

    settings = PrepareSettings(
        format=format, downscale=downscale, tile_size=tile_size, stride=stride, scale=scale, degradation=degradation,
        validation=validation, validation_share=validation_share, cut_above=cut_above, black_below=black_below,
        repeat_below=repeat_below, still_below=still_below,
    )  # fmt: skip
    configure_torch(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames, left"),
               TimeRemainingColumn(), TextColumn("{task.fields[made]}"))  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("inspecting the footage", total=None, made="")

        def observe(progress: PrepareProgress) -> None:
            number = min(progress.done + 1, progress.sources)
            bar.update(
                task,
                description=f"{progress.stage} {progress.source} ({number} of {progress.sources})",
                completed=progress.frames,
                total=progress.expected or None,
                made=f"{progress.septuplets} septuplets" if progress.septuplets else "",
            )

        manifest = prepare(footage, out, settings, on_damage=on_damage, observe=observe)
    OutputConsole().print(_source_table(manifest))
    print_motion(manifest.motion)
    print(
        f"{out}: {manifest.septuplets('train')} septuplets to train on, {manifest.septuplets('validation')} held "
        f"out, {manifest.num_bytes / 1e6:,.1f} MB"
    )
    if not manifest.septuplets("validation"):
        few = " (one source cannot be split)" if len(manifest.sources) == 1 else ""
        notes.print(
            f"nothing is held out{few}: scores on this footage would be of frames of the training. The validation clip "
            f"of a training is the shipped sample {Data.validation_clip}, unless --data.validation-clip names another",
            markup=False,
        )
    notes.print(f"look at {out / 'contact_sheet.png'}; train with `workbench train --data.clips {out}`")
    return 0


def _source_table(manifest: Manifest) -> Table:
    """Tabulate the sources of a prepared set, and print the damage of each."""
    table = Table("source", "split", "frames", "cuts", "gaps", "dropped", "septuplets")
    for source in manifest.sources:
        counts = source.counts
        dropped = [f"{n} {why}" for why, n in counts.items() if n and why not in ("frames", "cuts", "gaps")]
        numbers = (str(counts["frames"]), str(counts["cuts"]), source.gaps, ", ".join(dropped), str(source.septuplets))
        table.add_row(source.name, source.split, *numbers)
        if source.damage:
            notes.print(f"{source.file}: {source.damage}")
    return table


def prepare_stills(
    *,
    stills: Path,
    out: Path,
    sequences: int = 2000,
    crop_size: int = 40,
    num_frames: int = 7,
    scale: int = 4,
    degradation: str = "bi",
    seed: int = 0,
    threads: int = 1,
) -> int:
    """Prepare clips of still images in motion, with their exact optical flow.

    A training can also render them as it goes, without this command: `workbench train --data.stills FOLDER`. Prepared
    clips cost it no time, take 0.8 MB each, and repeat.

    A stopped job continues when it is started again: finished clips are kept. Then look at OUT/contact_sheet.png, and
    train with `workbench train --data.stills OUT`.

    Example: `workbench prepare --stills photos --out data/stills --sequences 500`

    Args:
        stills: Folder of images, with subfolders.
        out: Folder to write: new, empty, or that of a job to continue.
        sequences: Number of clips.
        crop_size: Side of a clip in low-resolution pixels; trainings can take smaller crops.
        num_frames: Frames of a clip; trainings can take fewer.
        scale: Downsampling factor of the low resolution: 2, 3, 4.
        degradation: Degradation of the low resolution: bi, bd_basicvsr, bd_duf, bd_tecogan.
        seed: Seed of every clip.
        threads: Threads of the CPU.
    """
    from workbench.data.sampling.pool import PoolSettings, prepare_pool
    from workbench.training.torch_setup import configure_torch

    settings = PoolSettings(
        sequences=sequences, crop_size=crop_size, num_frames=num_frames, scale=scale, degradation=degradation, seed=seed
    )
    configure_torch(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clips, left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("rendering", total=sequences)
        manifest = prepare_pool(stills, out, settings, observe=lambda done: bar.update(task, completed=done))
    size = sum(size for size, _ in manifest.files.values())
    print(f"{out}: {sequences} clips of {num_frames} frames from {len(manifest.images)} images, {size / 1e6:,.1f} MB")
    notes.print(f"look at {out / 'contact_sheet.png'}; train with `workbench train --data.stills {out}`")
    return 0


def print_motion(motion: MotionSummary | None) -> None:
    """Print a histogram of the motion of the training footage and its description; nothing for None."""
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
