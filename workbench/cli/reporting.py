"""``workbench report``: a scene or a run as one page to send."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.amounts import parse_bytes
from workbench.cli.command import command
from workbench.cli.terminal import RUNS, SCENES, notes, split_names
from workbench.errors import ConfigError, FolderError
from workbench.runs import Run, find_run, list_runs, shipped
from workbench.scenes import Scene, list_scenes, read_scene

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@command
def report(
    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|SCENE")],
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
    """Write a scene or a run as one HTML file that opens without a server.

    The page contains the viewer, the frames and the scores.

    It opens from disk, from the attachment of a mail or on any web host, and loads nothing. The pictures are
    lossless; what does not fit is left out, frames from the end first, and the page says which.

    Args:
        what: a run or a scene, by its name (of yours, or shipped) or its folder.
        out: the file; NAME.html where left out.
        max_size: what the file may take, such as 20M or 512KiB; many mailboxes refuse more than 25M.
        methods: only these, separated by commas, as the scene calls them: high,plain,distilled.
        steps: of a run: only the snapshots of these training steps, separated by commas.
        replace: overwrite a file that is there.
        runs: where runs are looked for.
        scenes: where scenes are looked for.
    """
    from workbench.views.report import in_megabytes, write_report

    began = time.perf_counter()
    try:
        limit = parse_bytes(max_size)
    except ConfigError as error:
        raise ConfigError(f"max-size: want a size such as 20M or 512KiB, got {max_size!r}") from error
    found = find(what, runs=[runs, shipped("runs")], scenes=[scenes, shipped("scenes")])
    with Progress(*COLUMNS, console=notes) as bar:
        task = bar.add_task(f"{found.name}: frames", total=None)
        made = write_report(
            found,
            out or Path(f"{found.name}.html"),
            max_bytes=limit,
            methods=split_names(methods),
            steps=[_number(step) for step in split_names(steps)],
            replace_file=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    told = f"{made.frames} of {made.of} frames" if made.frames < made.of else f"{made.of} frames"
    snapshots = f", {len(made.steps)} snapshots" if made.steps else ""
    print(f"{made.path}: {told}{snapshots}, {in_megabytes(made.bytes)}, {time.perf_counter() - began:.1f} s")
    if made.left_out:
        notes.print(
            f"{made.left_out} More fits with --max-size, or with fewer --methods.", style="yellow", markup=False
        )
    return 0


def find(what: str, *, runs: Sequence[Path], scenes: Sequence[Path]) -> Run | Scene:
    """The run or the scene that a name or a folder says.

    Args:
        what: a folder with ``run.json`` or ``scene.json``, or a name.
        runs: folders that hold runs.
        scenes: folders that hold scenes.

    Raises:
        FolderError: there is none, or one of each.
    """
    folder = Path(what)
    if (folder / "run.json").is_file():
        return Run(folder.resolve())
    if (folder / "scene.json").is_file():
        return read_scene(folder.resolve())
    home = next((root for root in scenes if what in list_scenes(root)), None)
    known = [name for root in runs for name in list_runs(root)]
    if what in known and home:
        raise FolderError(f"{what!r} is both a run and a scene; give its folder, such as {home / what}")
    if what in known:
        return find_run(runs, what)
    if home:
        return read_scene(home / what)
    known += [name for root in scenes for name in list_scenes(root)]
    raise FolderError(f"no run or scene {what!r}; there are: {', '.join(known) or 'none yet'}")


def _number(given: str) -> int:
    if not given.isdecimal():
        raise ConfigError(f"steps: want training steps such as 0,200,400, got {given!r}")
    return int(given)
