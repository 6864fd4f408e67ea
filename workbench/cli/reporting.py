"""``workbench report``: a scene or a run as one HTML file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import Progress

from workbench.amounts import parse_bytes
from workbench.cli.command import command
from workbench.cli.terminal import COLUMNS, RUNS, SCENES, notes, split_names
from workbench.errors import ConfigError, FolderError
from workbench.runs import Run, find_run, list_runs, shipped
from workbench.scenes import Scene, list_scenes, read_scene


@command
def report(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|SCENE")],
    /,
    *,
    out: Path | None = None,
    max_size: str = "20M",
    methods: str = "",
    steps: str = "",
    replace: bool = False,
    runs: Path = RUNS,
    scenes: Path = SCENES,
) -> int:
    """Write a scene or a run as one HTML file: the viewer, the frames and the scores.

    It opens from disk, from an attachment or on any web host, and loads nothing. Frames are lossless; those that exceed
    the size are left out, from the end first, and the page lists them.

    Example: `workbench report first --out first.html --max-size 10M`

    Args:
        source: name of a run or scene, yours or shipped, or its folder.
        out: file to write; NAME.html by default.
        max_size: maximum size of the file, such as 20M or 512KiB; many mailboxes refuse more than 25M.
        methods: methods to show, separated by commas, by their keys in the scene: high,plain,distilled.
        steps: training steps of a run whose snapshots are shown, separated by commas.
        replace: overwrite an existing file.
        runs: folder of the runs.
        scenes: folder of the scenes.
    """
    from workbench.views.report import in_megabytes, write_report

    began = time.perf_counter()
    limit = parse_bytes(max_size, "max-size")
    found = find(source, runs=[runs, shipped("runs")], scenes=[scenes, shipped("scenes")])
    with Progress(*COLUMNS, console=notes) as bar:
        task = bar.add_task(f"{found.name}: frames", total=None)
        written = write_report(
            found,
            out or Path(f"{found.name}.html"),
            max_bytes=limit,
            methods=split_names(methods),
            steps=[_step(step) for step in split_names(steps)],
            replace_file=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    frames = f"{written.frames} of {written.of} frames" if written.frames < written.of else f"{written.of} frames"
    snapshots = f", {len(written.steps)} snapshots" if written.steps else ""
    size, seconds = in_megabytes(written.bytes), time.perf_counter() - began
    print(f"{written.path}: {frames}{snapshots}, {size}, {seconds:.1f} s")
    if written.left_out:
        notes.print(
            f"{written.left_out} More fits with --max-size, or with fewer --methods.", style="yellow", markup=False
        )
    return 0


def find(source: str, *, runs: Sequence[Path], scenes: Sequence[Path]) -> Run | Scene:
    """Return the run or the scene of a name or folder.

    Args:
        source: folder with ``run.json`` or ``scene.json``, or a name.
        runs: folders that contain runs.
        scenes: folders that contain scenes.

    Raises:
        FolderError: there is none, or one of each.
    """
    folder = Path(source)
    if (folder / "run.json").is_file():
        return Run(folder.resolve())
    if (folder / "scene.json").is_file():
        return read_scene(folder.resolve())
    root = next((root for root in scenes if source in list_scenes(root)), None)
    names = [name for one in runs for name in list_runs(one)]
    if source in names and root:
        raise FolderError(f"{source!r} is both a run and a scene; give its folder, such as {root / source}")
    if source in names:
        return find_run(runs, source)
    if root:
        return read_scene(root / source)
    names += [name for one in scenes for name in list_scenes(one)]
    raise FolderError(f"no run or scene {source!r}; there are: {', '.join(names) or 'none yet'}")


def _step(given: str) -> int:
    if not given.isdecimal():
        raise ConfigError(f"steps: got {given!r}, expected training steps such as 0,200,400")
    return int(given)
