"""One run, from its config to its last step, in this process: ``python -m workbench.training.worker RUN``."""

from __future__ import annotations

import logging
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workbench.config import RunConfig
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import Pair, make_pair
from workbench.data.video.read import Video
from workbench.devices import choose_device
from workbench.errors import ConfigError, FolderError, LoaderError, OutOfMemory, ResultError, WorkbenchError
from workbench.models.weights import checksum, locate
from workbench.precision import PrecisionChoice, choose_precision
from workbench.runs import Queue, Run, RunWriter, create_run
from workbench.training.board import open_board
from workbench.training.data_check import as_record, check_data, data_checksums
from workbench.training.engine import Engine
from workbench.training.loop import Step, lower_rate
from workbench.training.machine import configure_torch
from workbench.training.memory import is_out_of_memory, out_of_memory, peak_memory_mib
from workbench.training.plain_twin import open_plain
from workbench.training.record import (
    averaged,
    log_row,
    save_checkpoint,
    save_weights,
    write_snapshot,
    write_validation_clip,
)
from workbench.training.trainer import Trainer, check

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_WORDS = 0.5
"""How often a running worker writes ``status.json``: each time waits for the disk."""

SECONDS_BETWEEN_LOOKS = 0.5
"""How often a waiting worker looks whether its turn has come."""

Observer = Callable[[Step, int], None]
"""Called after every step with the step and the number of steps wanted."""


def provenance(config: RunConfig) -> dict[str, Any]:
    """Return what is needed to trust or repeat a run: versions, commit, checksums of weights and data."""
    chosen = {"student": config.student, "teacher": config.teacher, "plain": config.plain}
    weights = {role: n.weights for role, n in chosen.items() if n.name and n.weights}
    weights |= {f"{role}.flow": n.flow_weights for role, n in chosen.items() if n.name and n.flow_weights}
    return {
        "versions": {name: version(name) for name in ("workbench", "torch", "numpy", "opencv-python-headless", "av")},
        "python": platform.python_version(),
        "commit": _commit(),
        "seed": config.seed,
        "weights": {role: {"file": where, "sha256": checksum(locate(where))} for role, where in weights.items()},
        **as_record(data_checksums(config)),
    }


def _commit() -> str | None:
    """The commit of the source tree, if this is one."""
    here = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (here / ".git").exists():
        return None
    said = subprocess.run([git, "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def prepare_run(folder: Path, config: RunConfig) -> Run:
    """Check a config and lay out its run folder; ``precision`` auto is decided here, so that a resume repeats it."""
    check(config)
    open_plain(config, validation_clip(config)[0])
    config, choice = settle_precision(config)
    return create_run(folder, config, provenance(config) | {"precision": asdict(choice)})


def validation_clip(config: RunConfig) -> tuple[Pair, Video]:
    """Return the validation clip in both resolutions, and as it was read."""
    video = load_clip(config.data.validation_clip)
    return make_pair(video.frames, scale=config.data.scale, degradation=config.data.degradation), video


def settle_precision(config: RunConfig) -> tuple[RunConfig, PrecisionChoice]:
    """Return the config with the precision that its device is to compute in, and how that was chosen."""
    choice = choose_precision(config.precision, choose_device(config.device), training=True)
    return replace(config, precision=choice.precision), choice


def work(run: Run, observe: Observer | None = None, *, queue: bool = False) -> str:
    """Do (or go on with) a run; returns the state it ended in: finished or stopped.

    One of several processes of a run (``torchrun``, ``accelerate launch``) does its share; the first one writes.

    Args:
        run: which.
        observe: called after every step.
        queue: wait until no other run of the same folder is at work.

    Raises:
        BusyError: another worker is at it.
        WorkbenchError, FloatingPointError, OSError: what went wrong; ``status.json`` says failed, with the reason.
    """
    if queue and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--queue: many processes cannot wait in line; let the cluster's own queue do it")
    if int(os.environ.get("RANK", "0")):
        return _follow(run)
    writer = RunWriter(run.folder)
    step, engine = 0, None
    try:
        config = writer.config
        with graceful_shutdown() as stop_requested:
            with suppress(FolderError):  # an unreadable log is told when the run is resumed
                step = max((row["step"] for row in run.metrics()), default=0)
            if queue and not _wait_for_turn(writer, step, stop_requested):
                writer.write_status("stopped", step, reason="as asked, before its turn came")
                return "stopped"
            writer.write_status("running", step)
            check_data(run, config)
            engine = _engine(config)
            trainer = Trainer(config, engine)
            recorder = _Recorder(writer, trainer)
            step = recorder.resume()
            trainer.open_cache(lambda done, clips: writer.write_cache_progress(step, done, clips))
            state, reason, began, said = "finished", "", time.monotonic(), -math.inf
            for done in trainer.steps(step):
                step = done.number
                writer.log(log_row(done) | {"peak_memory_mib": round(peak_memory_mib(engine.device))})
                recorder.after(done)
                if time.monotonic() - said > SECONDS_BETWEEN_WORDS:
                    writer.write_status("running", step, seconds_per_step=recorder.seconds_per_step)
                    said = time.monotonic()
                if observe is not None:
                    observe(done, config.steps)
                out_of_time = config.stop_after_seconds and time.monotonic() - began > config.stop_after_seconds
                if engine.any(bool(stop_requested() or writer.stop_requested or out_of_time)) and step < config.steps:
                    state = "stopped"
                    reason = f"{config.stop_after_seconds:.0f} seconds are over" if out_of_time else "as asked"
                    break
            recorder.save(step)
            writer.write_status(state, step, reason=reason)
            return state
    except Exception as error:
        told = _explain(error, run)
        writer.write_status("failed", step, reason=f"{type(told).__name__}: {told}")
        if told is error:
            raise
        raise told from error
    finally:
        writer.close()
        if engine is not None:
            engine.close()


def _explain(error: Exception, run: Run) -> Exception:
    """Return the error in the words of this package where torch's own name no cure; else the error itself."""
    if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
        return OutOfMemory(out_of_memory(run.config()))
    if isinstance(error, RuntimeError) and re.match(r"DataLoader worker \(pid", str(error)):
        workers, told = run.config().data.num_workers, str(error).splitlines()[0]
        return LoaderError(
            f"data.num_workers: one of {workers} processes that cut training crops has ended ({told}); "
            "most often the machine, its container or /dev/shm had no memory left. Saved steps are kept: go on with "
            f"`workbench train --resume {run.name}`, and with fewer processes: --data.num-workers {workers // 2}"
        )
    if isinstance(error, WorkbenchError) and str(error).startswith(
        "Caught "
    ):  # torch adds the traceback of its process
        return type(error)(str(error).strip().splitlines()[-1].partition(": ")[2])
    return error


def _wait_for_turn(writer: RunWriter, step: int, stop_requested: Callable[[], bool]) -> bool:
    """Wait in line; returns False where somebody asks the run to stop meanwhile."""
    line, name = Queue(writer.folder.parent), writer.folder.name
    line.join(name)
    try:
        while not line.begin(name):
            writer.write_status("queued", step, reason=f"waits for {', '.join(line.ahead(name)) or 'its turn'}")
            if stop_requested() or writer.stop_requested:
                return False
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return True
    finally:
        line.leave(name)


def _engine(config: RunConfig) -> Engine:
    configure_torch(config.threads)
    return Engine(
        device=config.device, precision=config.precision, accumulate=config.optimizer.gradient_accumulation_steps
    )


def _follow(run: Run) -> str:
    """One process of many that does not write: it does its share of every step until the first one stops."""
    config = run.config()
    engine = _engine(config)
    try:
        with graceful_shutdown() as stop_requested:
            trainer = Trainer(config, engine)
            engine.wait()  # the first process lays out the validation clip, and the first state
            step = trainer.load(run.folder)
            trainer.open_cache()
            for done in trainer.steps(step):
                if engine.any(stop_requested()) and done.number < config.steps:
                    return "stopped"
        return "finished"
    finally:
        engine.close()


class _Recorder:
    """What the writing process does around the steps: look, save, keep the pace."""

    def __init__(self, writer: RunWriter, trainer: Trainer) -> None:
        self.writer, self.trainer = writer, trainer
        config = trainer.config
        self.probe, self.video = validation_clip(config)
        self.plain = open_plain(config, self.probe)
        self.seconds_per_step: float | None = None
        self.board = open_board(writer.folder) if config.tensorboard else None

    def resume(self) -> int:
        """Load the newest state, forget what was logged after it, and look at the validation clip if nobody has."""
        trainer = self.trainer
        step = trainer.load(self.writer.folder)
        self.writer.rewind(step)
        write_validation_clip(
            self.writer,
            self.probe,
            self.video,
            teacher=trainer.teacher,
            student=trainer.student,
            memory=trainer.objective.memory,
            tap=trainer.config.distillation.feature_layer,
            provenance={"clip": trainer.config.data.validation_clip, "held_out": True},
        )
        if step == 0:
            self.snapshot(0)
            self.save(0)
        trainer.engine.wait()
        return step

    def after(self, step: Step) -> None:
        """Look and save when it is time."""
        config = self.trainer.config
        for note in step.notes:
            logger.warning("step %d: %s", step.number, note)
        if self.board is not None:
            self.board(step)
        pace = self.seconds_per_step
        self.seconds_per_step = step.seconds if pace is None else 0.9 * pace + 0.1 * step.seconds
        last = step.number == config.steps
        if step.number % config.snapshot_every == 0 or last:
            self.snapshot(step.number)
        if step.number % config.save_every == 0 and not last:
            self.save(step.number)

    def snapshot(self, step: int) -> None:
        """Look at the validation clip with the student, or with its running average where one is kept."""
        trainer = self.trainer
        try:
            write_snapshot(
                self.writer,
                step,
                self.probe,
                student=trainer.student if trainer.average is None else averaged(trainer.average),
                memory=trainer.objective.memory,
                tap=trainer.config.distillation.feature_layer,
                plain=self.plain,
            )
        except ResultError as error:
            if not step:
                raise  # nothing was learned yet: the weights that the run began with are at fault
            rate = trainer.config.optimizer.learning_rate
            raise ResultError(
                f"step {step}: the student returns NaN or infinity for frame {error.frame} of the validation clip; "
                f"{lower_rate(rate)}",
                error.frame,
            ) from error

    def save(self, step: int) -> None:
        """Save weights, and a state to resume from."""
        trainer = self.trainer
        if step:
            save_weights(self.writer, trainer.student, trainer.objective, step, trainer.average)
        save_checkpoint(
            self.writer, step, trainer.student, trainer.objective, trainer.optimizer, trainer.average,
            resume_info=trainer.resume_info(),
        )  # fmt: skip


_WAITING: list[list[int]] = []
"""What each open :func:`graceful_shutdown` has heard; one may lie inside another."""


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C let the step finish; a second Ctrl-C interrupts at once.

    Who does several runs in turn holds one of its own around each: a signal that comes after a run's last step is no
    longer the run's, and would be lost.
    """
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        for one in _WAITING:
            one.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's business
        yield lambda: False
        return
    _WAITING.append(asked)
    try:
        yield lambda: bool(asked)
    finally:
        _WAITING.pop()
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    """Run the worker; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = Run(Path(sys.argv[1]))
    try:
        state = work(run, queue="--queue" in sys.argv[2:])
    except WorkbenchError as error:
        logger.error("%s", error)
        return 1
    logger.info("%s: %s", run.name, state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
