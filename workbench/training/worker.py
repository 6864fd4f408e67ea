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

from workbench.config import Network, RunConfig
from workbench.data.crops import CropSampler, Pair, make_pair
from workbench.data.datasets import load_clip
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.inference import choose_device
from workbench.models.video_sr import VideoSR
from workbench.models.weights import checksum, load_into, locate
from workbench.models.zoo import build, takes_skip
from workbench.runs import Run, RunWriter, create_run
from workbench.training.loop import Step, train
from workbench.training.record import (
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
            if config.distils and choice is not config.plain:
                network.check_keep(config.distillation.tap)
    for spec in (*config.data.clips, config.data.probe):
        load_clip(spec)


def prepare_run(folder: Path, config: RunConfig) -> Run:
    """Check a config and lay out its run folder."""
    check(config)
    return create_run(folder, config, provenance(config))


def work(run: Run, observe: Observer | None = None) -> str:
    """Do (or go on with) a run; returns the state it ended in: finished or stopped.

    Raises:
        BusyError: another worker is at it.
        WorkbenchError, FloatingPointError, OSError: what went wrong; ``status.json`` says failed, with the reason.
    """
    writer = RunWriter(run.folder)
    step = 0
    try:
        with _polite_signals() as wants_out:
            config = writer.config
            set_up_process(config.threads)
            with suppress(FolderError):  # an unreadable log is told when the run is resumed
                step = max((row["step"] for row in run.metrics()), default=0)
            writer.say("running", step)
            trainer = _Trainer(writer)
            step = trainer.resume()
            state, reason, began, said = "finished", "", time.monotonic(), -math.inf
            for done in trainer.steps(step):
                step = done.number
                writer.log(log_row(done))
                trainer.after(done)
                pace = trainer.pace(done.seconds)
                if time.monotonic() - said > SECONDS_BETWEEN_WORDS:
                    writer.say("running", step, seconds_per_step=pace)
                    said = time.monotonic()
                if observe is not None:
                    observe(done, config.steps)
                out_of_time = config.stop_after_seconds and time.monotonic() - began > config.stop_after_seconds
                if step < config.steps and (wants_out() or writer.stop_wanted or out_of_time):
                    state = "stopped"
                    reason = f"{config.stop_after_seconds:.0f} seconds are over" if out_of_time else "as asked"
                    break
            trainer.save(step)
            writer.say(state, step, reason=reason)
            return state
    except Exception as error:
        writer.say("failed", step, reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        writer.close()


def _place(choice: Network, config: RunConfig, device: torch.device) -> VideoSR:
    """Build a network where it shall work; channels last is a tenth faster on a CPU, and more on a GPU."""
    network = make_network(choice, config.data.scale).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class _Trainer:
    """The pieces of one run, built from its config."""

    def __init__(self, writer: RunWriter) -> None:
        config = writer.config
        self.writer, self.config = writer, config
        device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.student = _place(config.student, config, device)
        self.teacher = self.plain = None
        if config.teacher.name:
            self.teacher = _place(config.teacher, config, device).eval()
        if config.plain.name:
            self.plain = _place(config.plain, config, device).eval()
        self.objective = self._objective(device)
        self.memory = self.objective.memory
        slow = [p for name, p in self.student.named_parameters() if "conv_offset" in name]
        rest = [p for name, p in self.student.named_parameters() if "conv_offset" not in name]
        rest += self.memory.parameters() if self.memory else ()
        groups: list[dict[str, Any]] = [{"params": rest, "rate": 1.0}]
        groups += [{"params": slow, "rate": config.optimiser.offset_rate}] if slow else []
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser.name]
        decay = {"weight_decay": config.optimiser.weight_decay} if config.optimiser.name == "adamw" else {}
        self.optimiser = kind(groups, lr=config.optimiser.learning_rate, betas=config.optimiser.betas, **decay)
        data = config.data
        pairs = [make_pair(load_clip(s).frames, scale=data.scale, degradation=data.degradation) for s in data.clips]
        self.sampler = CropSampler(
            pairs, crop=data.crop, frames=data.frames, batch=data.batch, augment=data.augment, seed=config.seed
        )
        probe = load_clip(data.probe)
        self.probe: Pair = make_pair(probe.frames, scale=data.scale, degradation=data.degradation)
        self.fps = probe.fps
        self._pace: float | None = None

    def _objective(self, device: torch.device) -> Objective:
        config = self.config
        if not config.distils or self.teacher is None:
            return Objective(eps=config.optimiser.charbonnier_eps)
        wanted = config.distillation
        memory = None
        if wanted.temporal_weight:
            memory = TemporalMemory(
                self.student.feature_channels,
                self.teacher.feature_channels,
                hidden_channels=wanted.memory_channels,
                stride=wanted.memory_stride,
                mode=wanted.memory,
                freeze_below=wanted.freeze_below,
                seed=config.seed,
            ).to(device)
        return Objective(
            eps=config.optimiser.charbonnier_eps,
            spatial_weight=wanted.spatial_weight,
            temporal_weight=wanted.temporal_weight,
            mapping=wanted.mapping,
            normalisation=wanted.normalisation,
            memory=memory,
            schedule=wanted.schedule,
            warm_up_steps=wanted.warm_up_steps,
        )

    def resume(self) -> int:
        """Load the newest state, forget what was logged after it, and look at the probe clip if nobody has."""
        step = load_state(self.writer.folder, self.student, self.memory, self.optimiser)
        self.writer.rewind(step)
        tap = self.config.distillation.tap
        write_probe(
            self.writer,
            self.probe,
            self.fps,
            teacher=self.teacher,
            plain=self.plain,
            student=self.student,
            memory=self.memory,
            tap=tap,
            provenance={"clip": self.config.data.probe, "held_out": True},
        )
        if step == 0:
            self.snapshot(0)
            save_state(self.writer, 0, self.student, self.memory, self.optimiser)
        return step

    def steps(self, done: int) -> Iterator[Step]:
        """The steps that are left."""
        config = self.config
        return train(
            self.student,
            self.sampler.after(done, config.steps),
            self.objective,
            self.optimiser,
            steps=config.steps,
            learning_rate=(config.optimiser.learning_rate, config.optimiser.final_learning_rate),
            teacher=self.teacher,
            tap=config.distillation.tap,
            done=done,
            clip_gradient=config.optimiser.clip_gradient,
            bf16=config.precision == "bf16",
        )

    def after(self, step: Step) -> None:
        """Look and save when it is time."""
        for note in step.notes:
            logger.warning("step %d: %s", step.number, note)
        last = step.number == self.config.steps
        if step.number % self.config.snapshot_every == 0 or last:
            self.snapshot(step.number)
        if step.number % self.config.save_every == 0 and not last:
            self.save(step.number)

    def snapshot(self, step: int) -> None:
        """Look at the probe clip."""
        write_snapshot(
            self.writer,
            step,
            self.probe,
            self.fps,
            student=self.student,
            memory=self.memory,
            tap=self.config.distillation.tap,
        )

    def save(self, step: int) -> None:
        """Save weights, and a state to resume from."""
        save_weights(self.writer, self.student, self.memory, step)
        save_state(self.writer, step, self.student, self.memory, self.optimiser)

    def pace(self, seconds: float) -> float:
        """A running mean of the seconds a step takes."""
        self._pace = seconds if self._pace is None else 0.9 * self._pace + 0.1 * seconds
        return self._pace


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
