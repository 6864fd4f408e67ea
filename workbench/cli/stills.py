"""``workbench prepare --stills``: clips of still images in motion, prepared on disk."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.cli.terminal import notes


def prepare_stills(
    *,
    stills: Path,
    out: Path,
    sequences: int = 2000,
    crop: int = 40,
    frames: int = 7,
    scale: int = 4,
    degradation: str = "bi",
    seed: int = 0,
    threads: int = 1,
) -> int:
    """Prepare clips of still images in motion, with their exact optical flow.

    A training can also render them as it goes, without this: `workbench train --data.stills FOLDER`. Prepared
    clips cost it no time, take 0.8 MB each, and repeat.

    Start it again after it was stopped: clips that are done are kept. Then train on it with
    `workbench train --data.stills OUT`, and look at OUT/contact_sheet.png first.

    Args:
        stills: a folder of images, with folders below it.
        out: the folder to write: new, empty, or that of the job to go on with.
        sequences: number of clips.
        crop: side of a clip in low-resolution pixels; trainings can take smaller crops of it.
        frames: frames of a clip; trainings can take fewer.
        scale: how many times smaller the low resolution is: 2, 3, 4.
        degradation: its family: bi, bd_basicvsr, bd_duf, bd_tecogan.
        seed: decides every clip.
        threads: of the CPU.
    """
    from workbench.data.sampling.pool import PoolSettings, prepare_pool
    from workbench.training.machine import configure_torch

    settings = PoolSettings(
        sequences=sequences, crop=crop, frames=frames, scale=scale, degradation=degradation, seed=seed
    )
    configure_torch(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clips, left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("rendering", total=sequences)
        manifest = prepare_pool(stills, out, settings, observe=lambda done: bar.update(task, completed=done))
    size = sum(size for size, _ in manifest.files.values())
    print(f"{out}: {sequences} clips of {frames} frames from {len(manifest.images)} images, {size / 1e6:,.1f} MB")
    notes.print(f"look at {out / 'contact_sheet.png'}; train with `workbench train --data.stills {out}`")
    return 0
