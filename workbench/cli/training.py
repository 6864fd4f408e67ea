"""``workbench train``, ``runs``, ``stop``: trainings from the terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from workbench.cli.terminal import RUNS, notes, score_table
from workbench.config import PRESETS, RunConfig
from workbench.errors import WorkbenchError, unknown_name
from workbench.runs import Run, find_run, list_runs, request_stop, start_worker
from workbench.scenes import check_name


def train(args: Sequence[str]) -> int:
    """Train a student: distilled from a teacher, or plain; any setting can be overridden."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="cpu")
    chosen = first.parse_known_args(args)[0].preset
    if chosen not in PRESETS:
        raise unknown_name("preset", chosen, PRESETS)

    def command(
        config: Annotated[RunConfig, tyro.conf.arg(name="")] = PRESETS[chosen](),  # noqa: B008
        *,
        preset: Literal["smoke", "demo", "cpu", "paper"] = chosen,
        name: str = "",
        runs: Path = RUNS,
        resume: str = "",
        detach: bool = False,
    ) -> int:
        """Train a student. The run folder can be watched with `workbench app` while it grows.

        Args:
            config: the settings of the run.
            preset: where the defaults of all settings come from.
            name: name of the run; made of preset and time where it is empty.
            runs: the folder that holds the run folders.
            resume: go on with the run of this name, from its last saved state; its own settings hold.
            detach: start it in the background and return.
        """
        if resume:
            run = find_run([runs], resume)
        else:
            from workbench.training.worker import prepare_run

            run = prepare_run(runs / check_name(name or time.strftime(f"{preset}-%Y%m%d-%H%M%S"), "run"), config)
        if detach:
            start_worker(run)
            notes.print(
                f"{run.name} goes on in the background: `workbench app` shows it, `workbench stop {run.name}` ends it"
            )
            return 0
        return _work(run)

    return tyro.cli(command, args=list(args), prog="workbench train")


def _work(run: Run) -> int:
    from workbench.training.worker import work

    config = run.config()
    whom = f"{config.teacher.name} teaches {config.student.name}" if config.distils else f"{config.student.name} alone"
    notes.print(f"{run.name}: {whom}; watch it with `workbench app`, Ctrl-C stops and saves")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[terms]}"),
    )  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("looking at the probe clip", total=config.steps, terms="")

        def observe(step: Any, steps: int) -> None:
            terms = "  ".join(f"{name} {value:.3g}" for name, value in step.terms.items())
            bar.update(task, description="training", completed=step.number, total=steps, terms=terms)

        state = work(run, observe)
    _summarise(run, state)
    return 0


def _summarise(run: Run, state: str) -> None:
    """What came of a run, and what to do next."""
    status = run.status()
    steps = run.snapshots()
    notes.print(
        f"{run.name}: {state} at step {status.step} of {status.steps}"
        + (f" ({status.reason})" if status.reason else "")
    )
    if steps:
        notes.print(score_table(run.snapshot(steps[-1]), f"probe clip at step {steps[-1]}, mean over frames"))
    if status.resumable:
        notes.print(f"go on:    workbench train --resume {run.name} --runs {run.folder.parent}")
    notes.print("look:     workbench app")
    if run.weights().is_file():
        notes.print(f"weights:  {run.weights()}")


def runs(args: Sequence[str]) -> int:
    """List the runs and where they stand."""

    def command(*, runs: Path = RUNS) -> int:
        """List the runs and where they stand, newest first.

        Args:
            runs: the folder that holds the run folders.
        """
        table = Table("run", "state", "step", "what")
        for name in list_runs(runs):
            run = Run(runs / name)
            try:
                status, config = run.status(), run.config()
            except WorkbenchError as error:
                table.add_row(name, "unreadable", "", str(error))
                continue
            what = f"{config.teacher.name} -> {config.student.name}" if config.distils else config.student.name
            table.add_row(
                name,
                status.state,
                f"{status.step} / {status.steps}",
                what + (f": {status.reason}" if status.reason else ""),
            )
        Console().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench runs")


def stop(args: Sequence[str]) -> int:
    """Ask a run to finish its step, save, and stop."""

    def command(name: Annotated[str, tyro.conf.Positional], /, *, runs: Path = RUNS) -> int:
        """Ask a run to finish its step, save, and stop; it can be resumed.

        Args:
            name: the run.
            runs: the folder that holds the run folders.
        """
        run = find_run([runs], name)
        state = run.status().state
        if state != "running":
            notes.print(f"{name} is not running: {state}")
            return 1
        request_stop(run)
        notes.print(f"{name} will stop after its step; go on with `workbench train --resume {name}`")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench stop")
