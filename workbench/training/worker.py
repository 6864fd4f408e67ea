"""Worker of one run: ``python -m workbench.training.worker RUN``."""

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
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from workbench import measurements
from workbench.config import RunConfig
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import Pair, make_pair
from workbench.data.video.read import Video
from workbench.devices import available_cores, choose_device
from workbench.errors import ConfigError, FolderError, LoaderError, OutOfMemory, ResultError, WorkbenchError
from workbench.models.weights import checksum, locate
from workbench.precision import PrecisionChoice, choose_precision
from workbench.process import library_versions
from workbench.run_queue import Queue
from workbench.runs import Run, RunWriter, create_run, locate_run
from workbench.training.accelerator import make_accelerator
from workbench.training.data_check import as_record, check_data, data_checksums
from workbench.training.device_memory import is_out_of_memory, out_of_memory_message, peak_memory_mib
from workbench.training.loop import Step, lower_learning_rate_hint
from workbench.training.plain_twin import open_plain
from workbench.training.record import (
    averaged_network,
    log_row,
    save_checkpoint,
    save_weights,
    write_snapshot,
    write_validation_clip,
)
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer, check
from workbench.training.tuning import settle_tuning

logger = logging.getLogger(__name__)

STATUS_INTERVAL_SECONDS = 0.5
"""Time between two writes of ``status.json``, each of which waits for the disk."""

QUEUE_INTERVAL_SECONDS = 0.5
"""Time between two checks of a queued worker whether it may begin."""

Observer = Callable[[Step, int], None]
"""Callback after every step: the step, and the number of steps of the run."""


def provenance(config: RunConfig) -> dict[str, Any]:
    """Return the provenance of a run: versions, commit, checksums of weights and data."""
    chosen = {"student": config.student, "teacher": config.teacher, "plain": config.plain}
    weights = {role: n.weights for role, n in chosen.items() if n.name and n.weights}
    weights |= {f"{role}.flow": n.flow_weights for role, n in chosen.items() if n.name and n.flow_weights}
    return {
        "versions": library_versions("torch", "numpy", "opencv-python-headless", "av"),
        "python": platform.python_version(),
        "commit": _commit(),
        "seed": config.seed,
        "weights": {role: {"file": where, "sha256": checksum(locate(where))} for role, where in weights.items()},
        **as_record(data_checksums(config)),
    }


def _commit() -> str | None:
    """Return the commit of the source tree; None outside a git checkout."""
    here = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (here / ".git").exists():
        return None
    result = subprocess.run([git, "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def prepare_run(
    folder: Path, config: RunConfig, *, measure: bool = False, announce: Callable[[str], None] | None = None
) -> Run:
    """Check a config and create its run folder.

    ``precision`` and ``memory_format`` become definite here, so that a resume repeats them.

    Args:
        folder: the run folder.
        config: settings of the run.
        measure: measure the fastest settings of this machine if they are not known yet, which takes a minute at most.
        announce: receives a sentence before that measurement.
    """
    check(config)
    config, choice = settle_precision(config)
    open_plain(config, validation_clip(config)[0])
    config, tuning = settle_tuning(config, measure=measure, announce=announce)
    machine = {"cpu": measurements.cpu_model(), "cores": available_cores()}
    return create_run(
        folder, config, provenance(config) | {"precision": asdict(choice), "tuning": asdict(tuning) | machine}
    )


def validation_clip(config: RunConfig) -> tuple[Pair, Video]:
    """Return the validation clip in both resolutions, and as it was read."""
    video = load_clip(config.data.validation_clip)
    return make_pair(video.frames, scale=config.data.scale, degradation=config.data.degradation), video


def settle_precision(config: RunConfig) -> tuple[RunConfig, PrecisionChoice]:
    """Return the config with a definite precision, and the reason for the choice.

    ``auto`` is fp32 where the run is compared with a plain run in fp32: the pair is to differ in the teacher only.
    """
    choice = choose_precision(config.precision, choose_device(config.device), training=True)
    if choice.precision != "fp32" and config.precision == "auto" and config.plain_run:
        with suppress(FolderError):  # open_plain reports it with a hint
            if locate_run(config.plain_run).config().precision == "fp32":
                choice = replace(choice, precision="fp32", reason=f"fp32, as in the plain run {config.plain_run}")
    return replace(config, precision=choice.precision), choice


def work(run: Run, observe: Observer | None = None, *, queue: bool = False) -> str:
    """Train a run, or resume it; returns its final state: finished or stopped.

    With several processes (``torchrun``, ``accelerate launch``) each does its share; the main process writes.

    Args:
        run: prepared by :func:`prepare_run`.
        observe: called after every step.
        queue: wait until no other run of the same folder is in progress.

    Raises:
        BusyError: another worker has the run.
        WorkbenchError, FloatingPointError, OSError: the failure, which ``status.json`` contains as its reason.
    """
    if queue and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--queue: want one process, got several; use the queue of the cluster")
    if int(os.environ.get("RANK", "0")):
        return _work_without_writing(run)
    writer = RunWriter(run.folder)
    step, accelerator = 0, None
    try:
        config = writer.config
        with graceful_shutdown() as stop_requested:
            with suppress(FolderError):  # an unreadable log is an error of the resume below
                step = max((row["step"] for row in run.metrics()), default=0)
            if queue and not _wait_for_turn(writer, step, stop_requested):
                writer.write_status("stopped", step, reason="as requested, while queued")
                return "stopped"
            writer.write_status("running", step)
            check_data(run, config)
            accelerator = _accelerator(config, run, trackers_folder=run.folder)
            trainer = Trainer(config, accelerator)
            recorder = _Recorder(writer, trainer)
            step = recorder.resume()
            trainer.open_cache(lambda done, clips: writer.write_cache_progress(step, done, clips))
            state, reason, began, status_written = "finished", "", time.monotonic(), -math.inf

            def out_of_time() -> bool:
                return bool(config.stop_after_seconds) and time.monotonic() - began > config.stop_after_seconds

            def stop() -> bool:
                return stop_requested() or writer.stop_requested or out_of_time()

            for done in trainer.steps(step, stop_requested=stop):
                step = done.number
                writer.log(log_row(done) | {"peak_memory_mib": round(peak_memory_mib(accelerator.device))})
                recorder.after(done)
                if time.monotonic() - status_written > STATUS_INTERVAL_SECONDS:
                    writer.write_status("running", step, seconds_per_step=recorder.seconds_per_step)
                    status_written = time.monotonic()
                if observe is not None:
                    observe(done, config.steps)
                if step < config.steps and (done.stop_requested or (accelerator.num_processes == 1 and stop())):
                    limit = f"time limit of {config.stop_after_seconds:.0f} s reached"
                    state, reason = "stopped", limit if out_of_time() else "as requested"
                    break
            recorder.save(step)
            if step not in run.snapshots():  # of a stop between two; after the checkpoint, in case of a kill
                recorder.snapshot(step)
            writer.write_status(state, step, reason=reason)
            return state
    except Exception as error:
        translated = _translate_error(error, run)
        writer.write_status("failed", step, reason=f"{type(translated).__name__}: {translated}")
        if translated is error:
            raise
        raise translated from error
    finally:
        writer.close()
        if accelerator is not None:
            accelerator.end_training()


def _translate_error(error: Exception, run: Run) -> Exception:
    """Return an error that names a setting to change, in place of torch's own; else the error itself."""
    if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
        return OutOfMemory(out_of_memory_message(run.config()))
    if isinstance(error, RuntimeError) and re.match(r"DataLoader worker \(pid", str(error)):
        workers, message = run.config().data.num_workers, str(error).splitlines()[0]
        return LoaderError(
            f"data.num_workers: one of {workers} processes that cut training crops has ended ({message}); "
            "most often the machine, its container or /dev/shm was out of memory. Checkpoints are kept: continue with "
            f"`workbench train --resume {run.name}`, and with fewer processes: --data.num-workers {workers // 2}"
        )
    if isinstance(error, WorkbenchError) and str(error).startswith(
        "Caught "
    ):  # torch adds the traceback of its process
        return type(error)(str(error).strip().splitlines()[-1].partition(": ")[2])
    return error


def _wait_for_turn(writer: RunWriter, step: int, stop_requested: Callable[[], bool]) -> bool:
    """Wait until the queue is free; returns False if the run is asked to stop meanwhile."""
    waiting, name = Queue(writer.folder.parent), writer.folder.name
    waiting.join(name)
    try:
        while not waiting.begin(name):
            writer.write_status(
                "queued", step, reason=f"queued behind {', '.join(waiting.ahead(name)) or 'another run'}"
            )
            if stop_requested() or writer.stop_requested:
                return False
            time.sleep(QUEUE_INTERVAL_SECONDS)
        return True
    finally:
        waiting.leave(name)


def _accelerator(config: RunConfig, run: Run, *, trackers_folder: Path | None = None) -> Accelerator:
    configure_torch(config.threads or _tuned_threads(run))
    return make_accelerator(
        device=config.device,
        precision=config.precision,
        gradient_accumulation_steps=config.optimizer.gradient_accumulation_steps,
        trackers=config.trackers if trackers_folder is not None else (),
        folder=trackers_folder,
    )


def _tuned_threads(run: Run) -> int:
    """Return the number of threads that was measured for a run; 0 if it was measured on another machine."""
    tuning = run.record().get("tuning")
    here = (measurements.cpu_model(), available_cores())
    if not isinstance(tuning, dict) or (tuning.get("cpu"), tuning.get("cores")) != here:
        return 0
    return int(tuning.get("threads", 0)) if tuning.get("seconds") else 0


def _work_without_writing(run: Run) -> str:
    """Do the share of a process that is not the main one, until the run ends or stops."""
    config = run.config()
    accelerator = _accelerator(config, run)
    try:
        with graceful_shutdown() as stop_requested:
            trainer = Trainer(config, accelerator)
            accelerator.wait_for_everyone()  # the main process writes the validation clip and the first checkpoint
            step = trainer.load(run.folder)
            trainer.open_cache()
            for done in trainer.steps(step, stop_requested=stop_requested):
                if done.stop_requested and done.number < config.steps:
                    return "stopped"
        return "finished"
    finally:
        accelerator.end_training()


def _tracked(step: Step) -> dict[str, float]:
    """Return the numbers of a step for the trackers."""
    values = {f"terms/{name}": value for name, value in step.terms.items()}
    values |= {f"weights/{name}": value for name, value in step.weights.items()}
    values |= {f"diagnostics/{name}": value for name, value in step.diagnostics.items()}
    return values | {"total": step.total, "learning_rate": step.learning_rate, "seconds": step.seconds}


class _Recorder:
    """Snapshots, checkpoints and step times of a run, in the main process."""

    def __init__(self, writer: RunWriter, trainer: Trainer) -> None:
        self.writer, self.trainer = writer, trainer
        config = trainer.config
        self.validation_pair, self.video = validation_clip(config)
        self.plain = open_plain(config, self.validation_pair)
        self.seconds_per_step: float | None = None

    def resume(self) -> int:
        """Load the newest checkpoint, drop what was logged after it, and write the validation clip if it is missing."""
        trainer = self.trainer
        step = trainer.load(self.writer.folder)
        self.writer.rewind(step)
        write_validation_clip(
            self.writer, self.validation_pair, self.video, teacher=trainer.teacher, student=trainer.student,
            memory=trainer.objective.memory, feature_layer=trainer.config.distillation.feature_layer,
            provenance={"clip": trainer.config.data.validation_clip, "held_out": True},
        )  # fmt: skip
        if step == 0:
            self.snapshot(0)
            self.save(0)
        trainer.accelerator.wait_for_everyone()
        return step

    def after(self, step: Step) -> None:
        """Log a step to the trackers; write a snapshot and a checkpoint when they are due."""
        config = self.trainer.config
        for note in step.notes:
            logger.warning("step %d: %s", step.number, note)
        self.trainer.accelerator.log(_tracked(step), step=step.number)
        pace = self.seconds_per_step
        self.seconds_per_step = step.seconds if pace is None else 0.9 * pace + 0.1 * step.seconds
        last = step.number == config.steps
        if step.number % config.snapshot_every == 0 or last:
            self.snapshot(step.number)
        if step.number % config.save_every == 0 and not last:
            self.save(step.number)

    def snapshot(self, step: int) -> None:
        """Write a snapshot of the validation clip with the student, or with its running average where there is one."""
        trainer = self.trainer
        try:
            write_snapshot(
                self.writer, step, self.validation_pair, plain=self.plain, memory=trainer.objective.memory,
                student=trainer.student if trainer.average is None else averaged_network(trainer.average),
                feature_layer=trainer.config.distillation.feature_layer,
            )  # fmt: skip
        except ResultError as error:
            if not step:
                raise  # before the first step: the initial weights are at fault
            rate = trainer.config.optimizer.learning_rate
            raise ResultError(
                f"the student returns NaN or infinity for frame {error.frame} of the validation clip; "
                f"{lower_learning_rate_hint(rate)}",
                error.frame,
                f"step {step}",
            ) from error

    def save(self, step: int) -> None:
        """Save weights and a checkpoint."""
        trainer = self.trainer
        if step:
            save_weights(self.writer, trainer.student, trainer.objective, step, trainer.average)
        save_checkpoint(
            self.writer, step, trainer.student, trainer.objective, trainer.optimizer, trainer.average,
            resume_info=trainer.resume_info(),
        )  # fmt: skip


_OPEN_SHUTDOWNS: list[list[int]] = []
"""Signals that each open :func:`graceful_shutdown` received; one can be nested in another."""


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """Let the current step finish after SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once.

    A caller that does several runs needs one of its own around them, since a signal after a run's last step is not
    handled by that run.
    """
    received: list[int] = []

    def record(number: int, _frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        for signals in _OPEN_SHUTDOWNS:
            signals.append(number)

    try:
        before = {s: signal.signal(s, record) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # only the main thread handles signals
        yield lambda: False
        return
    _OPEN_SHUTDOWNS.append(received)
    try:
        yield lambda: bool(received)
    finally:
        _OPEN_SHUTDOWNS.pop()
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
