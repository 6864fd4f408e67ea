"""``workbench train``, ``runs``, ``stop``: trainings from the terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
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
        queue: bool = False,
        layout_only: bool = False,
    ) -> int:
        """Train a student. The run folder can be watched with `workbench app` while it grows.

        Args:
            config: the settings of the run.
            preset: where the defaults of all settings come from.
            name: name of the run; made of preset and time where it is empty.
            runs: the folder that holds the run folders.
            resume: go on with the run of this name, from its last saved state; its own settings hold.
            detach: start it in the background and return.
            queue: wait until no other run of the folder is at work.
            layout_only: check everything and make the run folder, for `torchrun` to work on (docs/distributed.md).
        """
        if resume:
            run = find_run([runs], resume)
        else:
            from workbench.training.worker import prepare_run

            run = prepare_run(runs / check_name(name or time.strftime(f"{preset}-%Y%m%d-%H%M%S"), "run"), config)
        if layout_only:
            print(run.folder)
            return 0
        if detach:
            start_worker(run, queue=queue)
            notes.print(
                f"{run.name} goes on in the background: `workbench app` shows it, `workbench stop {run.name}` ends it"
            )
            return 0
        return _work(run, queue=queue)

    return tyro.cli(command, args=list(args), prog="workbench train")


def _work(run: Run, *, queue: bool = False) -> int:
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

        state = work(run, observe, queue=queue)
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


def follow(args: Sequence[str]) -> int:
    """Watch a run in the terminal, live."""

    def command(
        name: Annotated[str, tyro.conf.Positional] = "", /, *, runs: Path = RUNS, seconds_between: float = 1.0
    ) -> int:
        """Watch a run in the terminal until it ends; Ctrl-C ends the watching, never the run.

        Args:
            name: the run; the newest one where it is left out.
            runs: the folder that holds the run folders.
            seconds_between: between two looks.
        """
        names = list_runs(runs)
        run = find_run([runs], name or (names[0] if names else ""))
        with Live(_view(run), console=Console(), auto_refresh=False, transient=False) as live:
            while run.status().live:
                time.sleep(seconds_between)
                live.update(_view(run), refresh=True)
        return 0 if run.status().state in ("finished", "stopped") else 1

    return tyro.cli(command, args=list(args), prog="workbench follow")


def _view(run: Run) -> Group:
    """A run as it stands: where it is, its newest losses beside earlier ones, and the scores of its last snapshot."""
    status, rows = run.status(), run.metrics()
    left = f", about {timedelta(seconds=round(status.seconds_left))} left" if status.seconds_left else ""
    pace = f", {1 / status.seconds_per_step:.2g} steps a second" if status.seconds_per_step and status.live else ""
    bar = Table.grid()
    bar.add_row(ProgressBar(total=status.steps, completed=status.step, width=60), f" {status.step} of {status.steps}")
    lines: list[Any] = [
        f"[bold]{run.name}[/bold]: {status.state}"
        + (f" ({escape(status.reason)})" if status.reason else "")
        + pace
        + left,
        bar,
    ]
    if rows:
        lines.append(_loss_table(rows))
    if steps := run.snapshots():
        lines.append(score_table(run.snapshot(steps[-1]), f"probe clip at step {steps[-1]}, mean over frames"))
    return Group(*lines)


def _loss_table(rows: list[dict[str, Any]]) -> Table:
    """Unweighted terms: the mean of the first, the middle and the last tenth of the steps so far."""
    tenth = max(len(rows) // 10, 1)
    middle = max(len(rows) // 2 - tenth // 2, 0)
    parts = {"first": rows[:tenth], "middle": rows[middle : middle + tenth], "last": rows[-tenth:]}
    title = f"loss terms, unweighted, means of {tenth} steps; step {rows[-1]['step']}"
    table = Table("term", *parts, "weight now", title=title, title_justify="left")
    for name in rows[-1]["terms"]:
        means = [sum(row["terms"].get(name, 0.0) for row in part) / len(part) for part in parts.values()]
        table.add_row(name, *(f"{mean:.5f}" for mean in means), f"{rows[-1]['weights'].get(name, 0.0):.4g}")
    waited = sum(row.get("waited", 0.0) for row in rows[-tenth:]) / sum(row["seconds"] for row in rows[-tenth:])
    watched = next((row for row in reversed(rows) if any(key.startswith("cosine.") for key in row)), {})
    told = [f"waiting for data {waited:.0%} of the time", f"gradient norm {rows[-1]['gradient_norm']:.3g}"]
    told += [f"{key.removeprefix('cosine.').replace('.', ' / ')} pull at cosine {value:+.2f}"
             for key, value in watched.items() if key.startswith("cosine.")]  # fmt: skip
    table.caption, table.caption_justify = "; ".join(told), "left"
    return table


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
        if state not in ("running", "queued"):
            notes.print(f"{name} is not running: {state}")
            return 1
        request_stop(run)
        notes.print(f"{name} will stop after its step; go on with `workbench train --resume {name}`")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench stop")
