"""One run, from its config to its last step, in this process: ``python -m workbench.training.worker RUN``."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from workbench.config import Network, RunConfig
from workbench.data.crops import CropSampler, Pair, make_pair
from workbench.data.datasets import load_clip
from workbench.distill.baselines import make_term
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.models.video_sr import VideoSR
from workbench.models.weights import checksum, load_into, locate
from workbench.models.zoo import build, takes_skip
from workbench.runs import Run, RunWriter, create_run
from workbench.training.board import open_board
from workbench.training.engine import Engine
from workbench.training.loop import Batch, Step, train
from workbench.training.record import (
    averaged,
    load_state,
    log_row,
    save_state,
    save_weights,
    write_probe,
    write_snapshot,
)

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_WORDS = 0.5
"""How often a running worker writes ``status.json``: each time waits for the disk."""

Observer = Callable[[Step, int], None]
"""Called after every step with the step and the number of steps wanted."""


def set_up_process(threads: int) -> None:
    """Settings of the process, made once at its start.

    - Threads: as many as wanted, or as there are cores. Anything else that is busy makes more threads slower.
    - glibc gives every large block back to the system and page-faults it anew; keeping them is up to 1.6 times faster
      on high-resolution tensors. ``WORKBENCH_KEEP_MEMORY=0`` switches that off.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    if platform.libc_ver()[0] == "glibc" and os.environ.get("WORKBENCH_KEEP_MEMORY", "1") != "0":
        m_trim_threshold, m_mmap_max = -1, -4
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def make_network(choice: Network, scale: int) -> VideoSR:
    """Build what the config names, and load its weights if it names any."""
    settings: dict[str, Any] = {"scale": scale}
    if takes_skip(choice.name):
        settings["skip"] = choice.skip
    network = build(choice.name, **settings)
    if choice.weights:
        load_into(network, choice.weights)
    return network


def provenance(config: RunConfig) -> dict[str, Any]:
    """What a reader needs to trust or repeat a run: versions, commit, checksums of weights."""
    chosen = {"student": config.student, "teacher": config.teacher, "plain": config.plain}
    weights = {role: n.weights for role, n in chosen.items() if n.name and n.weights}
    return {
        "versions": {name: version(name) for name in ("workbench", "torch", "numpy", "opencv-python-headless", "av")},
        "python": platform.python_version(),
        "commit": _commit(),
        "seed": config.seed,
        "weights": {role: {"file": where, "sha256": checksum(locate(where))} for role, where in weights.items()},
    }


def _commit() -> str | None:
    """The commit of the source tree, if this is one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def check(config: RunConfig) -> None:
    """Find what cannot work before a folder is made: names, weights, footage.

    Raises:
        WorkbenchError: what is wrong, in words.
    """
    for choice in (config.student, config.teacher, config.plain):
        if choice.name:
            network = make_network(choice, config.data.scale)
            if not list(network.parameters()) and choice is config.student:
                raise ConfigError(f"student.name: {choice.name} has nothing to learn")
            if config.needs_features and choice is not config.plain:
                network.check_keep(config.distillation.tap)
    for spec in (*config.data.clips, config.data.probe):
        load_clip(spec)


def prepare_run(folder: Path, config: RunConfig) -> Run:
    """Check a config and lay out its run folder."""
    check(config)
    return create_run(folder, config, provenance(config))


def work(run: Run, observe: Observer | None = None) -> str:
    """Do (or go on with) a run; returns the state it ended in: finished or stopped.

    One of several processes of a run (``torchrun``, ``accelerate launch``) does its share; the first one writes.

    Raises:
        BusyError: another worker is at it.
        WorkbenchError, FloatingPointError, OSError: what went wrong; ``status.json`` says failed, with the reason.
    """
    if int(os.environ.get("RANK", "0")):
        return _follow(run)
    writer = RunWriter(run.folder)
    step, engine = 0, None
    try:
        config = writer.config
        engine = _engine(config)
        with _polite_signals() as wants_out:
            with suppress(FolderError):  # an unreadable log is told when the run is resumed
                step = max((row["step"] for row in run.metrics()), default=0)
            writer.say("running", step)
            trainer = _Trainer(run, config, engine)
            recorder = _Recorder(writer, trainer)
            step = recorder.resume()
            state, reason, began, said = "finished", "", time.monotonic(), -math.inf
            for done in trainer.steps(step):
                step = done.number
                writer.log(log_row(done))
                recorder.after(done)
                if time.monotonic() - said > SECONDS_BETWEEN_WORDS:
                    writer.say("running", step, seconds_per_step=recorder.seconds_per_step)
                    said = time.monotonic()
                if observe is not None:
                    observe(done, config.steps)
                out_of_time = config.stop_after_seconds and time.monotonic() - began > config.stop_after_seconds
                if engine.any(bool(wants_out() or writer.stop_wanted or out_of_time)) and step < config.steps:
                    state = "stopped"
                    reason = f"{config.stop_after_seconds:.0f} seconds are over" if out_of_time else "as asked"
                    break
            recorder.save(step)
            writer.say(state, step, reason=reason)
            return state
    except Exception as error:
        writer.say("failed", step, reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        writer.close()
        if engine is not None:
            engine.close()


def _engine(config: RunConfig) -> Engine:
    set_up_process(config.threads)
    return Engine(device=config.device, precision=config.precision, accumulate=config.optimiser.accumulate)


def _follow(run: Run) -> str:
    """One process of many that does not write: it does its share of every step until the first one stops."""
    config = run.config()
    engine = _engine(config)
    try:
        with _polite_signals() as wants_out:
            trainer = _Trainer(run, config, engine)
            engine.wait()  # the first process lays out the probe clip, and the first state
            step = trainer.load()
            for done in trainer.steps(step):
                if engine.any(wants_out()) and done.number < config.steps:
                    return "stopped"
        return "finished"
    finally:
        engine.close()


def _place(choice: Network, config: RunConfig, device: torch.device) -> VideoSR:
    """Build a network where it shall work; channels last is a tenth faster on a CPU, and more on a GPU."""
    network = make_network(choice, config.data.scale).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class _Trainer:
    """The pieces of one run, built from its config: what every process of it has."""

    def __init__(self, run: Run, config: RunConfig, engine: Engine) -> None:
        self.run, self.config, self.engine = run, config, engine
        device = engine.device
        torch.manual_seed(config.seed)
        self.student = _place(config.student, config, device)
        self.teacher = self.plain = None
        if config.teacher.name:
            self.teacher = _place(config.teacher, config, device).eval()
        if config.plain.name and engine.writes:
            self.plain = _place(config.plain, config, device).eval()
        self.objective = self._objective().to(device)
        self.average = AveragedModel(self.student, avg_fn=_ema(config.optimiser.ema)) if config.optimiser.ema else None
        slow = [p for name, p in self.student.named_parameters() if "conv_offset" in name]
        rest = [p for name, p in self.student.named_parameters() if "conv_offset" not in name]
        groups: list[dict[str, Any]] = [{"params": [*rest, *self.objective.parameters()], "rate": 1.0}]
        groups += [{"params": slow, "rate": config.optimiser.offset_rate}] if slow else []
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser.name]
        decay = {"weight_decay": config.optimiser.weight_decay} if config.optimiser.name == "adamw" else {}
        self.optimiser = kind(groups, lr=config.optimiser.learning_rate, betas=config.optimiser.betas, **decay)
        data = config.data
        pairs = [make_pair(load_clip(s).frames, scale=data.scale, degradation=data.degradation) for s in data.clips]
        self.sampler = CropSampler(
            pairs, crop=data.crop, frames=data.frames, batch=data.batch, augment=data.augment, seed=config.seed
        )

    def _objective(self) -> Objective:
        config = self.config
        if not config.distils or self.teacher is None:
            return Objective(eps=config.optimiser.charbonnier_eps)
        wanted = config.distillation
        ours, theirs = self.student.feature_channels, self.teacher.feature_channels
        memory = None
        if wanted.temporal_weight:
            memory = TemporalMemory(
                ours,
                theirs,
                hidden_channels=wanted.memory_channels,
                stride=wanted.memory_stride,
                mode=wanted.memory,
                freeze_below=wanted.freeze_below,
                seed=config.seed,
            )
        return Objective(
            eps=config.optimiser.charbonnier_eps,
            spatial_weight=wanted.spatial_weight,
            temporal_weight=wanted.temporal_weight,
            mapping=wanted.mapping,
            normalisation=wanted.normalisation,
            memory=memory,
            others={name: (weight, make_term(name, ours, theirs)) for name, weight in wanted.others.chosen.items()},
            schedule=wanted.schedule,
            schedule_steps=wanted.schedule_steps,
        )

    def load(self) -> int:
        """Load the newest state; returns its step, 0 where there is none."""
        return load_state(self.run.folder, self.student, self.objective, self.optimiser, self.average)

    def steps(self, done: int) -> Iterator[Step]:
        """The steps that are left."""
        config = self.config
        return train(
            self.student,
            self._batches(done),
            self.objective,
            self.optimiser,
            steps=config.steps,
            learning_rate=(config.optimiser.learning_rate, config.optimiser.final_learning_rate),
            teacher=self.teacher,
            tap=config.distillation.tap,
            done=done,
            clip_gradient=config.optimiser.clip_gradient,
            average=self.average,
            watch_every=config.watch_every if config.distils else 0,
            engine=self.engine,
        )

    def _batches(self, done: int) -> Iterator[Batch]:
        """This process's share of every batch, in as many pieces as wanted."""
        engine = self.engine
        for low, high in self.sampler.after(done, self.config.steps):
            mine = slice(engine.rank, None, engine.processes)
            yield from zip(low[mine].chunk(engine.accumulate), high[mine].chunk(engine.accumulate), strict=True)


def _ema(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """A running average that follows closely at first: its decay is at most (1 + n) / (10 + n) after n steps."""

    def average(kept: torch.Tensor, new: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        share = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return kept * share + new * (1 - share)

    return average


class _Recorder:
    """What the writing process does around the steps: look, save, keep the pace."""

    def __init__(self, writer: RunWriter, trainer: _Trainer) -> None:
        self.writer, self.trainer = writer, trainer
        config = trainer.config
        probe = load_clip(config.data.probe)
        self.probe: Pair = make_pair(probe.frames, scale=config.data.scale, degradation=config.data.degradation)
        self.fps = probe.fps
        self.seconds_per_step: float | None = None
        self.board = open_board(writer.folder) if config.tensorboard else None

    def resume(self) -> int:
        """Load the newest state, forget what was logged after it, and look at the probe clip if nobody has."""
        trainer = self.trainer
        step = trainer.load()
        self.writer.rewind(step)
        write_probe(
            self.writer,
            self.probe,
            self.fps,
            teacher=trainer.teacher,
            plain=trainer.plain,
            student=trainer.student,
            memory=trainer.objective.memory,
            tap=trainer.config.distillation.tap,
            provenance={"clip": trainer.config.data.probe, "held_out": True},
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
        """Look at the probe clip with the student, or with its running average where one is kept."""
        trainer = self.trainer
        write_snapshot(
            self.writer,
            step,
            self.probe,
            self.fps,
            student=trainer.student if trainer.average is None else averaged(trainer.average),
            memory=trainer.objective.memory,
            tap=trainer.config.distillation.tap,
        )

    def save(self, step: int) -> None:
        """Save weights, and a state to resume from."""
        trainer = self.trainer
        if step:
            save_weights(self.writer, trainer.student, trainer.objective, step, trainer.average)
        save_state(self.writer, step, trainer.student, trainer.objective, trainer.optimiser, trainer.average)


@contextmanager
def _polite_signals() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C let the step finish; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's business
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    """Run the worker; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = Run(Path(sys.argv[1]))
    try:
        state = work(run)
    except WorkbenchError as error:
        logger.error("%s", error)
        return 1
    logger.info("%s: %s", run.name, state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
