"""The command line, and the one place where everything is put together."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from workbench import __version__
from workbench.config import PRESETS, RunConfig
from workbench.errors import WorkbenchError, unknown_name
from workbench.runs import Run, find_run, list_runs, request_stop, shipped, start_worker
from workbench.scenes import Scene, check_name

# Torch takes seconds to import, so a command imports what needs it when it runs.

RUNS, SCENES = Path("runs"), Path("scenes")
notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and advice go to stderr; stdout holds results only."""


# -- train, follow, stop --------------------------------------------------------------------------------------------


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
        notes.print(_score_table(run.snapshot(steps[-1]), f"probe clip at step {steps[-1]}, mean over frames"))
    if status.resumable:
        notes.print(f"go on:    workbench train --resume {run.name} --runs {run.folder.parent}")
    notes.print("look:     workbench app")
    if run.weights().is_file():
        notes.print(f"weights:  {run.weights()}")


def _score_table(scene: Scene, title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for curve in scene.curves:
        table.add_column(f"{curve.label}{f' ({curve.unit})' if curve.unit else ''}", justify="right")
    scored = [m for m in scene.methods if any(m.key in curve.series for curve in scene.curves)]
    for method in scored:
        cells = []
        for curve in scene.curves:
            values = [value for value in curve.series.get(method.key, []) if value is not None]
            cells.append(f"{sum(values) / len(values):.{4 if curve.key == 'ssim_y' else 3}f}" if values else "-")
        table.add_row(method.label, *cells)
    return table


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


# -- numbers and pictures -------------------------------------------------------------------------------------------


def evaluate(args: Sequence[str]) -> int:
    """Score networks on a data set under a named protocol."""

    def command(
        *,
        network: str = "bicubic",
        protocol: str = "held_out",
        data: str = "",
        format: Literal["text", "json", "markdown"] = "text",
        temporal: bool = False,
        device: str = "auto",
        runs: Path = RUNS,
    ) -> int:
        """Score networks on a data set. Results go to stdout, everything else to stderr.

        Args:
            network: one or more methods, separated by commas: bicubic, plain, distilled, teacher, a weights file,
                RUN or RUN@STEP.
            protocol: which frames, channel and border count: vid4, folders (any folder of folders of frames), or
                held_out (the part of the sample clip that the shipped networks have not seen).
            data: the folder of the data set; held_out needs none.
            format: text for people, json or markdown for everything else.
            temporal: also score T-diff and tOF, which takes longer.
            device: auto, cpu, cuda, mps.
            runs: where runs are looked for.
        """
        import torch

        from workbench.evaluation.compare import find_method
        from workbench.evaluation.protocols import evaluate, find_protocol
        from workbench.evaluation.tables import render
        from workbench.inference import choose_device

        torch.set_num_threads(os.cpu_count() or 1)
        chosen = find_protocol(protocol)
        contenders = [find_method(name.strip(), scale=chosen.scale, runs=[runs]) for name in network.split(",")]
        reports = []
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=notes) as bar:
            for contender in contenders:
                task = bar.add_task(contender.method.key, total=None)

                def observe(
                    clip: str, done: int, clips: int, task: Any = task, label: str = contender.method.key
                ) -> None:
                    bar.update(task, description=f"{label} {clip}", completed=done, total=clips)

                place = choose_device(device)
                name = contender.method.key
                reports.append(
                    evaluate(
                        contender.network, data, chosen, name=name, device=place, temporal=temporal, progress=observe
                    )
                )
        if format == "json":
            records = [report.to_dict() for report in reports]
            print(json.dumps(records[0] if len(records) == 1 else records, indent=1, allow_nan=False))
        else:
            print("\n\n".join(render(report, format) for report in reports))
        return 0

    return tyro.cli(command, args=list(args), prog="workbench evaluate")


def compare(args: Sequence[str]) -> int:
    """Render a clip with several methods into a scene to look at."""

    def command(
        *,
        clip: str = "bigbuckbunny[96:120, :, 0:352]",
        methods: str = "bicubic,plain,distilled,teacher",
        out: Path = SCENES / "scene",
        title: str = "",
        scale: int = 4,
        device: str = "auto",
        runs: Path = RUNS,
        replace: bool = False,
        effort: int = 0,
    ) -> int:
        """Shrink a clip, let each method enlarge it again, score it, and write a scene that `workbench app` shows.

        Args:
            clip: a sample's name (see `workbench samples`) or the path of a video or frame folder, with an optional
                crop: name[frames, rows, columns].
            methods: separated by commas: bicubic, plain, distilled, teacher, a weights file, RUN or RUN@STEP.
            out: the scene folder to write; its name is the scene's.
            title: what people read.
            scale: how much the clip is shrunk.
            device: auto, cpu, cuda, mps.
            runs: where runs are looked for.
            replace: overwrite a scene that is there.
            effort: of the lossless compression: 0 is fast, 6 is a fifth smaller and twenty times slower.
        """
        import torch

        from workbench.evaluation.compare import compare
        from workbench.inference import choose_device

        check_name(out.name, "scene")
        torch.set_num_threads(os.cpu_count() or 1)
        names = [name.strip() for name in methods.split(",") if name.strip()]
        with notes.status("reading the clip") as status:
            scene = compare(
                clip, names, out, scale=scale, title=title, runs=[runs], device=choose_device(device),
                replace=replace, effort=effort, progress=status.update,
            )  # fmt: skip
        Console().print(_score_table(scene, f"{scene.title}: mean over {scene.frames} frames"))
        notes.print(f"scene: {out}; look at it with `workbench app --scenes {out.parent}`")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench compare")


def networks(args: Sequence[str]) -> int:
    """List the networks."""

    def command(*, format: Literal["text", "json"] = "text") -> int:
        """List the networks with their exact numbers of parameters.

        Args:
            format: text or json.
        """
        from workbench.models.zoo import table_rows

        rows = table_rows()
        if format == "json":
            print(json.dumps(rows, indent=1))
            return 0
        table = Table("network", "parameters", "frames", "F^SR channels", "what")
        for row in rows:
            table.add_row(
                row["name"],
                f"{row['parameters']:,}",
                str(row["frames"]),
                str(row["feature_channels"] or "-"),
                row["what"],
            )
        Console().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench networks")


def samples(args: Sequence[str]) -> int:
    """List the sample clips that come with the installation."""

    def command() -> int:
        """List the sample clips that come with the installation, with credit and licence."""
        from workbench.data.samples import samples

        table = Table("sample", "size", "frames", "licence", "credit")
        for clip in samples():
            table.add_row(clip.name, f"{clip.width}x{clip.height}", str(clip.frames), clip.licence, clip.credit)
        Console().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench samples")


# -- the app --------------------------------------------------------------------------------------------------------


def launch_app(args: Sequence[str] | None = None, *, demo: bool = False) -> int:
    """Open the studio in the browser; with ``demo`` a two-minute distillation starts and is followed."""

    def command(
        *,
        runs: Path = RUNS,
        scenes: Path = SCENES,
        port: int | None = None,
        host: str = "127.0.0.1",
        user: str = "",
        password: str = "",
        browser: bool = True,
    ) -> int:
        """Open the studio: compare videos side by side, follow runs.

        Args:
            runs: the folder that holds your runs; those that ship are shown too.
            scenes: the folder that holds your scenes; those that ship are shown too.
            port: a free one from 7860 on where it is left out.
            host: who may connect; anything but 127.0.0.1 needs a user and a password.
            user: asked for before anything is shown.
            password: the same.
            browser: open a browser window.
        """
        from workbench.views import studio

        def start_demo() -> str:
            from workbench.training.worker import prepare_run

            run = prepare_run(runs / time.strftime("demo-%Y%m%d-%H%M%S"), _demo_config())
            start_worker(run)
            return run.name

        if demo:
            notes.print(f"{start_demo()}: two minutes of live distillation, on the Run page")
        auth = (user, password) if user else None
        blocks, url = studio.launch(
            runs=[runs, shipped("runs")],
            scenes=[scenes, shipped("scenes")],
            start=start_demo,
            host=host,
            port=port,
            auth=auth,
            inbrowser=browser and bool(os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")),
            quiet=True,
            wait=False,
        )
        notes.print(f"open {url} in a browser on this machine; Ctrl-C ends the app, never a run")
        blocks.block_thread()
        return 0

    prog = "workbench demo" if demo else "workbench app"
    return tyro.cli(command, args=sys.argv[1:] if args is None else list(args), prog=prog)


def _demo_config() -> RunConfig:
    """The demo leaves one core to the browser, which wants to be watched meanwhile."""
    return replace(PRESETS["demo"](), threads=max(1, (os.cpu_count() or 2) - 1))


def app(args: Sequence[str]) -> int:
    """Open the studio in the browser."""
    return launch_app(args)


def demo(args: Sequence[str]) -> int:
    """Open the studio, and start a two-minute distillation to watch."""
    return launch_app(args, demo=True)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "app": app,
    "train": train,
    "runs": runs,
    "stop": stop,
    "compare": compare,
    "evaluate": evaluate,
    "networks": networks,
    "samples": samples,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The ``workbench`` command; returns its exit status."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: workbench COMMAND [OPTIONS]     (workbench COMMAND --help tells its options)\n")
        for command, function in COMMANDS.items():
            print(f"  {command:<10} {(function.__doc__ or '').splitlines()[0]}")
        return 0
    if name == "--version":
        print(f"workbench {__version__}")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        return COMMANDS[name](rest)
    except (WorkbenchError, FloatingPointError) as error:
        notes.print(f"error: {error}", style="red", markup=False)
        return 2
    except OSError as error:
        notes.print(f"error: {error.strerror or error}: {error.filename or ''}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        notes.print("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
