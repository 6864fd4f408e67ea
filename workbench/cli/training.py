"""Commands ``workbench train``, ``tune``, ``runs``, ``follow`` and ``stop``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Column, Table

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, OutputConsole, join_fitting, notes, score_table
from workbench.config import RunConfig
from workbench.errors import ConfigError, OutOfMemory, WorkbenchError, unknown_name
from workbench.presets import PRESETS, without_unfit_files
from workbench.runs import Run, RunWriter, find_run, list_runs, request_stop, start_worker
from workbench.settings import differences

FREE_ON_RESUME = frozenset({"data.clips", "data.stills", "data.validation_clip", "data.num_workers"})
"""Settings that may be given with ``--resume``: the first three as long as they name the same content."""

BAR_WIDTH = 16
TIMES_WIDTH = BAR_WIDTH + len("training  /  0:00:00 left 0:00:00 ")
"""Width of the progress of a training without the numbers of its steps and its loss terms."""


def train(args: Sequence[str]) -> int:
    """Train a student: distilled from a teacher, or plain; any setting can be overridden."""
    chosen = _preset(args)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--resume", default="")
    first.add_argument("--runs", type=Path, default=RUNS)
    given = first.parse_known_args(args)[0]
    defaults = find_run([given.runs], given.resume).config() if given.resume else PRESETS[chosen]()

    def command(
        config: Annotated[RunConfig, tyro.conf.arg(name="")] = defaults,
        *,
        preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = chosen,
        name: str = "",
        runs: Path = RUNS,
        resume: str = "",
        other_data: bool = False,
        detach: bool = False,
        queue: bool = False,
        init_only: bool = False,
        estimate: bool = False,
        tune: bool = True,
    ) -> int:
        """Train a student. The run folder can be watched with `workbench app` while it grows.

        Example: `workbench train --preset cpu --data.clips data/mine --name first`

        Args:
            config: settings of the run.
            preset: preset that the defaults of all settings come from: smoke, demo, cpu, cpu_long or paper.
            name: name of the run; preset and time by default.
            runs: folder of the run folders.
            resume: run to resume from its last checkpoint, with its own settings; others are refused, except
                --data.num-workers, and --data.clips, --data.stills and --data.validation-clip where data was moved.
            other_data: accept, with --resume, training data or a validation clip with other content than at the
                beginning; the run records both.
            detach: start the run in the background and return.
            queue: wait until no other run of the folder is in progress.
            init_only: check everything and create the run folder, for `torchrun` (docs/distributed.md).
            estimate: measure a few steps, print the time and memory of the run and the largest batch size that fits;
                nothing is written.
            tune: measure the fastest memory format and number of threads before a new run (`workbench tune`), once per
                machine and training; not before a short run, and not with --init-only.
        """
        if not resume:
            config = _with_own_weights(config, args)
        if estimate:
            return _estimate(config, measure=tune)
        if resume:
            run = find_run([runs], resume)
            changed = differences(defaults.to_dict(), config.to_dict())
            if other_data or (changed and changed.keys() <= FREE_ON_RESUME):
                from workbench.training.data_check import rename_data

                changed = {name: change for name, change in changed.items() if name not in FREE_ON_RESUME}
                if not changed:
                    rename_data(run, config, other=other_data)
            if changed:
                message = "; ".join(f"{name}: the run has {old!r}, not {new!r}" for name, (old, new) in changed.items())
                raise ConfigError(
                    f"{resume}: a run is resumed with its own settings ({message}); leave them out, or begin a new run"
                )
        else:
            if other_data:
                raise ConfigError("other-data: want it with --resume, got a new run")
            from workbench.evaluation.methods import check_run_name
            from workbench.training.worker import prepare_run

            folder = runs / check_run_name(name or time.strftime(f"{preset}-%Y%m%d-%H%M%S"))
            with notes.status("checking the data"):
                run = prepare_run(folder, config, measure=tune and not init_only, announce=notes.print)
            notes.print(f"precision: {run.record()['precision']['reason']}")
            notes.print(f"settings: {run.record()['tuning']['reason']}")
        if init_only:
            if not resume:
                writer = RunWriter(run.folder)
                writer.write_status("created", 0, reason="not started; torchrun or --resume starts it")
                writer.close()
            print(run.folder)
            return 0
        if detach:
            start_worker(run, queue=queue)
            notes.print(
                f"{run.name} runs in the background: `workbench app` shows it, `workbench stop {run.name}` ends it"
            )
            return 0
        return _work(run, queue=queue)

    return tyro.cli(command, args=list(args), prog="workbench train")


def tune(args: Sequence[str]) -> int:
    """Measure the fastest settings of a training on this machine, for later runs."""
    chosen = _preset(args)

    def command(
        config: Annotated[RunConfig, tyro.conf.arg(name="")] = PRESETS[chosen](),  # noqa: B008 - read at every call
        *,
        preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = chosen,
        accumulate: bool = False,
    ) -> int:
        """Measure memory format and number of threads with steps of a training, and keep the fastest.

        `workbench train` measures by itself where nothing is kept; a new processor, a new torch and other networks or
        sizes are measured again. Example: `workbench tune --preset cpu --data.crop-size 32`.

        Args:
            config: settings of the training.
            preset: preset that the defaults of all settings come from: smoke, demo, cpu, cpu_long or paper.
            accumulate: time a step in more micro-batches too, for --optimizer.gradient-accumulation-steps.
        """
        from workbench.training.trainer import check
        from workbench.training.tuning import MAX_TUNE_SECONDS, compare_accumulation, tune
        from workbench.training.worker import settle_precision

        config = _with_own_weights(config, args)
        check(config)
        config, choice = settle_precision(config)
        notes.print(f"precision: {choice.reason}")
        notes.print(f"timing steps of the training, at most {MAX_TUNE_SECONDS:.0f} s")
        with notes.status("timing steps of the training"):
            tuning = tune(config)
        if not tuning.seconds:
            notes.print(f"chosen: {tuning.reason}")
            return 1
        table = Table("settings", "s per step", "relative speed", title_justify="left")
        slowest = max(tuning.seconds.values())
        for label, seconds in sorted(tuning.seconds.items(), key=lambda item: item[1]):
            table.add_row(label, f"{seconds:.3g}", f"{slowest / seconds:.2f}")
        OutputConsole().print(table)
        notes.print(f"chosen: {tuning.reason}{'; kept for this machine' if tuning.kept else ''}")
        if accumulate:
            table = Table("micro-batches per step", "s per step", "peak memory", title_justify="left")
            with notes.status("timing steps in more micro-batches"):
                for number, seen in compare_accumulation(replace(config, memory_format=tuning.memory_format)):
                    table.add_row(str(number), f"{seen.seconds_per_step:.3g}", f"{seen.peak_mib / 1024:.2f} GiB")
            OutputConsole().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench tune")


def _preset(args: Sequence[str]) -> str:
    """Return the preset that arguments name, before they are parsed with its settings as defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="cpu")
    chosen = parser.parse_known_args(args)[0].preset
    if chosen not in PRESETS:
        raise unknown_name("preset", chosen, PRESETS)
    return chosen


def _with_own_weights(config: RunConfig, args: Sequence[str]) -> RunConfig:
    """Return the settings without files of the preset that do not fit, and with the skips of the weights."""
    from workbench.evaluation.methods import with_skip_of_weights

    given = {arg.partition("=")[0].removeprefix("--").replace("-", "_") for arg in args if arg.startswith("--")}
    config, left_out = without_unfit_files(config, PRESETS[_preset(args)](), given)
    for note in left_out:
        notes.print(note)
    chosen = {"student": config.student, "teacher": config.teacher, "plain": config.plain}
    return replace(config, **{
        role: with_skip_of_weights(network) for role, network in chosen.items() if f"{role}.skip" not in given
    })  # fmt: skip


def _estimate(config: RunConfig, *, measure: bool) -> int:
    """Print estimates at the batch size and its doubles, each measured in a process of its own."""
    from workbench.training.estimate import estimate_batch_sizes, largest_batch
    from workbench.training.trainer import check
    from workbench.training.tuning import settle_tuning
    from workbench.training.worker import settle_precision

    check(config)
    config, choice = settle_precision(config)  # once, not in each of the processes that measure
    notes.print(f"precision: {choice.reason}")
    config, tuning = settle_tuning(config, measure=measure, announce=notes.print)
    config = replace(config, threads=tuning.threads)
    notes.print(f"settings: {tuning.reason}")
    table = Table("batch", "s a step", "clips a second", "peak memory", f"{config.steps:,} steps", title_justify="left")
    estimates = []
    with notes.status("measuring a few steps"):
        for one in estimate_batch_sizes(config):
            estimates.append(one)
            table.add_row(
                str(one.batch_size), f"{one.seconds_per_step:.3g}", f"{one.clips_per_second:.3g}",
                f"{one.peak_mib / 1024:.2f} GiB", str(timedelta(seconds=round(3600 * one.hours(config.steps)))),
            )  # fmt: skip
    if not estimates:
        raise OutOfMemory(
            f"not even a step of batch {config.data.batch_size} fits; halve data.batch_size or data.crop_size"
        )
    OutputConsole().print(table)
    if len(estimates) > 1:
        most, best = largest_batch(*estimates[-2:]), max(estimates, key=lambda one: one.clips_per_second)
        notes.print(
            f"batch {most} fits by extrapolation ({estimates[0].free_mib / 1024:.1f} GiB free); of those measured, "
            f"batch {best.batch_size} is the fastest in clips a second. Snapshots take additional time."
        )
    return 0


def _work(run: Run, *, queue: bool = False) -> int:
    from workbench.training.worker import work

    config = run.config()
    what = f"{config.student.name} distilled from {config.teacher.name}" if config.distills else config.student.name
    notes.print(f"{run.name}: {what}; watch it with `workbench app`, Ctrl-C stops and saves")
    whole, cut = Column(no_wrap=True), Column(overflow="ellipsis")
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=BAR_WIDTH), MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole), TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False, table_column=whole),
        TextColumn("{task.fields[terms]}", table_column=cut),
    )  # fmt: skip
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("first snapshot", total=config.steps, terms="")

        def observe(step: Any, steps: int) -> None:
            texts = [f"{name} {value:.3g}" for name, value in step.terms.items()]
            terms = join_fitting(texts, notes.width - TIMES_WIDTH - 2 * len(str(steps)))
            bar.update(task, description="training", completed=step.number, total=steps, terms=terms)

        state = work(run, observe, queue=queue)
    _summarize(run, state)
    return 0


def _summarize(run: Run, state: str) -> None:
    """Print the result of a run, and the next commands."""
    status = run.status()
    steps = run.snapshots()
    notes.print(
        f"{run.name}: {state} at step {status.step} of {status.steps}"
        + (f" ({status.reason})" if status.reason else "")
    )
    if steps:
        notes.print(_validation_scores(run, steps[-1]))
    if status.resumable:
        notes.print(f"resume:   workbench train --resume {run.name} --runs {run.folder.parent}")
    notes.print("view:     workbench app")
    if run.weights().is_file():
        notes.print(f"weights:  {run.weights()}")


def _validation_scores(run: Run, step: int) -> Table:
    """Return the table of the scores of a snapshot."""
    clip = escape(run.config().data.validation_clip)
    return score_table(run.snapshot(step), f"validation clip {clip} at step {step}, mean over frames")


@command
def runs(*, runs: Path = RUNS) -> int:
    """List the runs and their states, newest first.

    Example: `workbench runs`

    Args:
        runs: folder of the run folders.
    """
    table = Table("run", "state", "step", "networks")
    for name in list_runs(runs):
        run = Run(runs / name)
        try:
            status, config = run.status(), run.config()
        except WorkbenchError as error:
            table.add_row(name, "unreadable", "", str(error))
            continue
        what = f"{config.teacher.name} -> {config.student.name}" if config.distills else config.student.name
        table.add_row(
            name,
            status.state,
            f"{status.step} / {status.steps}",
            what + (f": {status.reason}" if status.reason else ""),
        )
    OutputConsole().print(table)
    return 0


@command
def follow(
    name: Annotated[str, tyro.conf.Positional] = "", /, *, runs: Path = RUNS, seconds_between: float = 1.0
) -> int:
    """Watch a run in the terminal until it ends; Ctrl-C ends the watching, not the run.

    Example: `workbench follow first`

    Args:
        name: run to watch; the newest one by default.
        runs: folder of the run folders.
        seconds_between: seconds between two updates.
    """
    names = list_runs(runs)
    run = find_run([runs], name or (names[0] if names else ""))
    with Live(_view(run), console=OutputConsole(), auto_refresh=False, transient=False) as live:
        while run.status().live:
            time.sleep(seconds_between)
            live.update(_view(run), refresh=True)
    return 0 if run.status().state in ("finished", "stopped") else 1


def _view(run: Run) -> Group:
    """Render a run: its status, its newest losses next to earlier ones, and the scores of its last snapshot."""
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
        lines.append(_validation_scores(run, steps[-1]))
    return Group(*lines)


def _loss_table(rows: list[dict[str, Any]]) -> Table:
    """Return a table of the unweighted terms: means of the first, the middle and the last tenth of the steps."""
    tenth = max(len(rows) // 10, 1)
    middle = max(len(rows) // 2 - tenth // 2, 0)
    parts = {"first": rows[:tenth], "middle": rows[middle : middle + tenth], "last": rows[-tenth:]}
    title = f"loss terms, unweighted, means of {tenth} steps; step {rows[-1]['step']}"
    table = Table("term", *parts, "weight now", title=title, title_justify="left")
    for name in rows[-1]["terms"]:
        means = [sum(row["terms"].get(name, 0.0) for row in part) / len(part) for part in parts.values()]
        table.add_row(name, *(f"{mean:.5f}" for mean in means), f"{rows[-1]['weights'].get(name, 0.0):.4g}")
    data_time = sum(row.get("data_time", 0.0) for row in rows[-tenth:]) / sum(row["seconds"] for row in rows[-tenth:])
    measured = next((row for row in reversed(rows) if any(key.startswith("cosine.") for key in row)), {})
    caption = [f"waiting for data {data_time:.0%} of the time", f"gradient norm {rows[-1]['gradient_norm']:.3g}"]
    if "peak_memory_mib" in rows[-1]:
        caption.append(f"peak memory {rows[-1]['peak_memory_mib'] / 1024:.2f} GiB")
    caption += [f"{key.removeprefix('cosine.').replace('.', ' / ')} gradients at cosine {value:+.2f}"
             for key, value in measured.items() if key.startswith("cosine.")]  # fmt: skip
    table.caption, table.caption_justify = "; ".join(caption), "left"
    return table


@command
def stop(name: Annotated[str, tyro.conf.Positional], /, *, runs: Path = RUNS) -> int:
    """Make a run finish its step, save a checkpoint and stop; it can be resumed.

    Example: `workbench stop first`

    Args:
        name: the run.
        runs: folder of the run folders.
    """
    run = find_run([runs], name)
    state = run.status().state
    if state not in ("running", "queued"):
        notes.print(f"{name} is not running: {state}")
        return 1
    request_stop(run)
    notes.print(f"{name} will stop after its step; resume it with `workbench train --resume {name}`")
    return 0
