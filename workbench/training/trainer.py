"""The pieces of one training, built from its config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from workbench.config import Network, RunConfig
from workbench.data.clips import load_clip
from workbench.data.crops import CropSampler, check_footage
from workbench.data.pairs import open_pairs
from workbench.distill.baselines import make_term
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError
from workbench.models.video_sr import VideoSR
from workbench.models.weights import load_into
from workbench.models.zoo import build, takes_skip
from workbench.runs import Run
from workbench.training.engine import Engine
from workbench.training.loop import Batch, Step, train
from workbench.training.record import load_state
from workbench.training.teacher_cache import TeacherCache, fill_cache, fingerprint


def make_network(choice: Network, scale: int) -> VideoSR:
    """Build what the config names, and load its weights if it names any."""
    settings: dict[str, Any] = {"scale": scale}
    if takes_skip(choice.name):
        settings["skip"] = choice.skip
    network = build(choice.name, **settings)
    if choice.weights:
        load_into(network, choice.weights)
    return network


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
    data = config.data
    for spec in data.clips:
        for footage in open_pairs(spec, scale=data.scale, degradation=data.degradation, frames=data.frames):
            check_footage(footage, spec, data.crop, data.frames)
    load_clip(data.probe)


class Trainer:
    """The pieces of one run, built from its config: what every process of it has."""

    def __init__(self, run: Run, config: RunConfig, engine: Engine) -> None:
        self.run, self.config, self.engine = run, config, engine
        if config.data.batch % (engine.processes * engine.accumulate):
            raise ConfigError(
                f"data.batch: {config.data.batch} crops cannot be shared by {engine.processes} processes in "
                f"{engine.accumulate} pieces each; want a multiple of {engine.processes * engine.accumulate}"
            )
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
        named = dict(self.student.named_parameters())
        slow = [p for name, p in named.items() if any(part in name for part in self.student.slow)]
        rest = [p for name, p in named.items() if not any(part in name for part in self.student.slow)]
        groups: list[dict[str, Any]] = [{"params": [*rest, *self.objective.parameters()], "rate": 1.0}]
        groups += [{"params": slow, "rate": config.optimiser.offset_rate}] if slow else []
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser.name]
        decay = {"weight_decay": config.optimiser.weight_decay} if config.optimiser.name == "adamw" else {}
        self.optimiser = kind(groups, lr=config.optimiser.learning_rate, betas=config.optimiser.betas, **decay)
        data = config.data
        opened = (
            open_pairs(spec, scale=data.scale, degradation=data.degradation, frames=data.frames) for spec in data.clips
        )
        self.sampler = CropSampler(
            list(chain.from_iterable(opened)),
            crop=data.crop,
            frames=data.frames,
            batch=data.batch,
            augment=data.augment,
            seed=config.seed,
            fixed=data.fixed,
            views=data.views,
        )
        self.cache: TeacherCache | None = None

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

    def open_cache(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open the cache of the teacher that the config asks for; the writing process fills it first."""
        config, objective = self.config, self.objective
        if not config.cache_teacher or self.teacher is None or not objective.distils:
            return
        folder, tap = Path(config.cache_teacher), config.distillation.tap
        wanted = fingerprint(self.teacher, objective, self.sampler, tap, config.precision)
        if self.engine.writes:
            fill_cache(
                folder, wanted, self.teacher, objective, self.sampler, tap=tap, engine=self.engine, progress=progress
            )
        self.engine.wait()
        self.cache = TeacherCache(folder, wanted)

    def _batches(self, done: int) -> Iterator[Batch]:
        """This process's share of every batch, in as many pieces as wanted, with what the teacher said of it."""
        engine, cache = self.engine, self.cache
        share = slice(engine.rank, None, engine.processes)
        steps = range(done + 1, self.config.steps + 1)
        batches = self.sampler.after(done, self.config.steps, workers=self.config.data.workers, share=share)
        for step, (low, high) in zip(steps, batches, strict=True):
            lows, highs = low.chunk(engine.accumulate), high.chunk(engine.accumulate)
            if cache is None:
                yield from zip(lows, highs, strict=True)
                continue
            numbers, first = self.sampler.views_at(step)[share], 0
            for one, other in zip(lows, highs, strict=True):
                yield one, other, cache.taught(numbers[first : first + len(one)], one)
                first += len(one)


def _ema(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """A running average that follows closely at first: its decay is at most (1 + n) / (10 + n) after n steps."""

    def average(kept: torch.Tensor, new: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        share = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return kept * share + new * (1 - share)

    return average


def _place(choice: Network, config: RunConfig, device: torch.device) -> VideoSR:
    """Build a network where it shall work; channels last is a tenth faster on a CPU, and more on a GPU."""
    network = make_network(choice, config.data.scale).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
