"""The pieces of one training, built from its config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from workbench.config import FRAMES_FOR_MEMORY, Data, Network, RunConfig, differences, flat
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import CropSampler, Footage, check_size
from workbench.data.sampling.mixed import ClipSource, MixedSampler
from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.pairs import open_pairs
from workbench.data.sampling.pool import PoolSampler, is_pool
from workbench.data.sampling.shards import ShardSampler, is_shard_set, open_shards
from workbench.data.sampling.stills import open_stills
from workbench.distill.losses import make_term
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, DataError
from workbench.models.conversion import load_flow_into
from workbench.models.video_sr import VideoSR
from workbench.models.weights import load_into
from workbench.models.zoo import build, takes_skip
from workbench.runs import Run
from workbench.training.data_check import recorded
from workbench.training.engine import Engine
from workbench.training.loop import Batch, Step, train
from workbench.training.machine import to_channels_last
from workbench.training.record import load_checkpoint, read_resume_info
from workbench.training.teacher_cache import TeacherCache, fill_cache, fingerprint

logger = logging.getLogger(__name__)


def make_network(choice: Network, scale: int) -> VideoSR:
    """Build what the config names, and load its weights if it names any."""
    settings: dict[str, Any] = {"scale": scale}
    if takes_skip(choice.name):
        settings["skip"] = choice.skip
    if choice.hr_channels:
        settings["hr_channels"] = choice.hr_channels
    if choice.flow_guided:
        settings["flow_guided"] = True
    network = build(choice.name, **settings)
    if choice.weights:
        load_into(network, choice.weights)
    if choice.flow_weights:
        load_flow_into(network, choice.flow_weights)
    return network


def check(config: RunConfig) -> None:
    """Find what cannot work before a folder is made: names, weights, footage.

    Raises:
        WorkbenchError: what is wrong, in words.
    """
    for choice in (config.student, config.teacher, config.plain):
        if choice.name:
            network = make_network(choice, config.data.scale)
            if config.alignment_loss_weight and choice is config.student and not network.has_alignment_loss:
                raise ConfigError(
                    f"alignment_loss_weight: want 0, since {choice.name} has no loss for its alignment (VESPCN and "
                    f"EDVR have), got {config.alignment_loss_weight:g}"
                )
            if config.flow_weight and choice is config.student and not network.has_flow:
                raise ConfigError(
                    "flow_weight: want a student that returns flow or offsets (VESPCN, BasicVSR, EDVR, TDAN), got "
                    f"{choice.name}; set it to 0"
                )
            if not list(network.parameters()) and choice is config.student:
                raise ConfigError(f"student.name: {choice.name} has nothing to learn")
            if config.needs_features and choice is not config.plain:
                network.check_features(config.distillation.feature_layer)
                if config.distillation.spatial_features == "lr" and not network.aligned_channels:
                    raise ConfigError(
                        f"distillation.spatial_features: {choice.name} has no aligned features (`workbench networks`); "
                        "take sr"
                    )
            if network.privileged and choice is config.plain:
                raise ConfigError(f"plain.name: {choice.name} is given the truth: no comparison; leave it out")
            if network.privileged and choice is config.student and config.teacher.name:
                raise ConfigError(
                    f"student.name: {choice.name} learns from the truth alone; leave its teacher out: --teacher.name ''"
                )
    if config.distils and config.distillation.uses_temporal:
        _check_memory(config)
    open_data(config.data, config.seed)
    load_clip(config.data.validation_clip)


def _check_memory(config: RunConfig) -> None:
    """Refuse a temporal term without cells to compare, and warn of settings under which it hardly teaches.

    A warning only: the published scores were made with five frames and an adapter, and such runs must go on.
    """
    if 2 * config.distillation.border_frames >= config.data.num_frames:
        raise ConfigError(
            f"distillation.border_frames: want less than half of data.num_frames ({config.data.num_frames}), got "
            f"{config.distillation.border_frames}; set it to 0, or take clips of {FRAMES_FOR_MEMORY} frames"
        )
    if config.data.num_frames < FRAMES_FOR_MEMORY:
        logger.warning(
            "data.num_frames: want %d or more with the temporal term, got %d: few of its cells have seen whole "
            "windows; set data.num_frames to %d", FRAMES_FOR_MEMORY, config.data.num_frames, FRAMES_FOR_MEMORY,
        )  # fmt: skip
    ours, theirs = (
        make_network(choice, config.data.scale).feature_channels for choice in (config.student, config.teacher)
    )
    if ours != theirs:
        logger.warning(
            "student.hr_channels: want the %d channels of F^SR that %s has, got %d: the adapter between them can lower "
            "the temporal loss without the student; set student.hr_channels to %d, or choose another pair",
            theirs, config.teacher.name, ours, theirs,
        )  # fmt: skip


MUTABLE_ON_RESUME = frozenset(
    {
        "plain", "plain_run", "device", "threads", "snapshot_every", "save_every", "gradient_stats_every",
        "tensorboard", "teacher_cache_dir", "stop_after_seconds", "data.validation_clip",
        "data.num_workers", "data.pin_memory",
    }
)  # fmt: skip
"""Settings that may change between two halves of a run: they do not decide what a step does."""


def open_data(data: Data, seed: int) -> CropSampler | ShardSampler | MixedSampler:
    """Open the training data of a run: footage, still images in motion, or both.

    Raises:
        DataError: data that is missing, too short or too small, or shards with anything else.
    """
    if not data.uses_stills:
        return open_crops(data, seed)
    motion = open_motion(data, seed)
    footage = open_crops(data, seed) if data.uses_footage else None
    if isinstance(footage, ShardSampler):
        raise DataError(
            f"data.stills_share: {', '.join(data.clips)} holds shards, which are read from one end to the other and "
            "cannot be mixed with clips from stills; prepare the footage with --format arrays, or set it to 0 or 1"
        )
    return MixedSampler(motion, footage, batch_size=data.batch_size, share=data.stills_share)


def open_motion(data: Data, seed: int) -> ClipSource:
    """Open the still images of a run, or the pool that was prepared from some.

    Raises:
        DataError: no such folder, no usable image in it, or a pool that does not fit.
    """
    settings = MotionSettings(
        crop_size=data.crop_size,
        num_frames=data.num_frames,
        scale=data.scale,
        degradation=data.degradation,
        augment=data.augment,
        min_speed=data.stills_min_speed,
    )
    if is_pool(data.stills):
        if settings.min_speed != Data.stills_min_speed:
            raise DataError(
                f"data.stills_min_speed: {data.stills} was rendered beforehand, want {Data.stills_min_speed}, got "
                f"{data.stills_min_speed}; name a folder of still images, or leave the speed out"
            )
        return PoolSampler(data.stills, settings, seed=seed)
    return MotionSampler(open_stills(data.stills, min_side=settings.min_still_side), settings, seed=seed)


def open_crops(data: Data, seed: int) -> CropSampler | ShardSampler:
    """The footage of a run, ready to be cut.

    Raises:
        DataError: footage that is missing, too short or too small, or shards beside anything else.
    """
    shards = [spec for spec in data.clips if is_shard_set(spec)]
    if shards and len(shards) < len(data.clips):
        others = ", ".join(spec for spec in data.clips if spec not in shards)
        raise DataError(f"data.clips: {', '.join(shards)} holds shards and {others} does not; they cannot be mixed")
    if shards:
        if data.num_fixed_crops:
            raise DataError(
                f"data.num_fixed_crops: {', '.join(shards)} holds shards, which are read from one end to the other; "
                "for fixed crops prepare the footage with --format arrays"
            )
        if data.moving_share:
            raise DataError(
                f"data.moving_share: want 0 for shards, which are read from one end to the other, got "
                f"{data.moving_share}; set it to 0, or prepare {', '.join(shards)} with --format arrays"
            )
        opened = [open_shards(spec, scale=data.scale, degradation=data.degradation) for spec in shards]
        return ShardSampler(
            list(chain.from_iterable(opened)), crop_size=data.crop_size, num_frames=data.num_frames,
            batch_size=data.batch_size, augment=data.augment, seed=seed,
        )  # fmt: skip
    pairs: list[Footage] = []
    for spec in data.clips:
        footage = open_pairs(spec, scale=data.scale, degradation=data.degradation, num_frames=data.num_frames)
        for pair in footage:
            check_size(pair.low_shape, spec, data.crop_size, data.num_frames)
        pairs += footage
    return CropSampler(
        pairs, crop_size=data.crop_size, num_frames=data.num_frames, batch_size=data.batch_size, augment=data.augment,
        seed=seed, num_fixed_crops=data.num_fixed_crops, augmentations_per_crop=data.augmentations_per_crop,
        fixed_crops_seed=data.fixed_crops_seed, moving_share=data.moving_share, moving_above=data.moving_above,
    )  # fmt: skip


class Trainer:
    """The pieces of one run, built from its config: what every process of it has."""

    def __init__(self, config: RunConfig, engine: Engine) -> None:
        self.config, self.engine = config, engine
        if config.data.batch_size % (engine.processes * engine.accumulate):
            raise ConfigError(
                f"data.batch_size: {config.data.batch_size} crops cannot be shared by {engine.processes} processes in "
                f"{engine.accumulate} pieces each; want a multiple of {engine.processes * engine.accumulate}"
            )
        device = engine.device
        torch.manual_seed(config.seed)
        self.student = build_on_device(config.student, config, device)
        self.teacher = None
        if config.teacher.name:
            self.teacher = build_on_device(config.teacher, config, device).eval()
        self.objective = self._objective().to(device)
        self.average = (
            AveragedModel(self.student, avg_fn=_ema(config.optimizer.ema_decay)) if config.optimizer.ema_decay else None
        )
        named = dict(self.student.named_parameters())
        slow = [p for name, p in named.items() if any(part in name for part in self.student.low_lr_params)]
        rest = [p for name, p in named.items() if not any(part in name for part in self.student.low_lr_params)]
        groups: list[dict[str, Any]] = [{"params": [*rest, *self.objective.parameters()], "rate": 1.0}]
        groups += [{"params": slow, "rate": config.optimizer.offset_lr_mult}] if slow else []
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer.name]
        decay = {"weight_decay": config.optimizer.weight_decay} if config.optimizer.name == "adamw" else {}
        self.optimizer = kind(groups, lr=config.optimizer.learning_rate, betas=config.optimizer.betas, **decay)
        self.sampler = open_data(config.data, config.seed)
        self.cache: TeacherCache | None = None

    def _objective(self) -> Objective:
        config = self.config
        if not config.distils or self.teacher is None:
            imitation_weight = config.imitation_weight if self.student.privileged else 0.0
            return Objective(
                eps=config.optimizer.charbonnier_eps,
                imitation_weight=imitation_weight,
                alignment_loss_weight=config.alignment_loss_weight,
                flow_weight=config.flow_weight,
            )
        wanted = config.distillation
        ours, theirs = self.student.feature_channels, self.teacher.feature_channels
        memory = None
        if wanted.uses_temporal:
            memory = TemporalMemory(
                ours,
                theirs,
                hidden_channels=wanted.memory_channels,
                stride=wanted.memory_stride,
                standardize=wanted.standardize,
                cells=wanted.cells,
                border_frames=wanted.border_frames,
                mode=wanted.memory,
                freeze_below=wanted.freeze_below,
                seed=wanted.memory_seed,
            )
        return Objective(
            eps=config.optimizer.charbonnier_eps,
            alignment_loss_weight=config.alignment_loss_weight,
            flow_weight=config.flow_weight,
            spatial_weight=wanted.spatial_weight,
            temporal_weight=wanted.temporal_weight,
            spatial_features=wanted.spatial_features,
            attention_kind=wanted.attention_kind,
            normalization=wanted.normalization,
            memory=memory,
            others={name: (weight, make_term(name, ours, theirs)) for name, weight in wanted.chosen_others.items()},
            ratios=wanted.ratios,
            ratio_every=wanted.ratio_every,
            schedule=wanted.schedule,
            schedule_steps=wanted.schedule_steps,
        )

    def load(self, folder: Path) -> int:
        """Load the newest state of a run folder; returns its step, 0 where there is none.

        Raises:
            ConfigError: the state was saved under settings that the training depends on and that are others now.
        """
        step = load_checkpoint(folder, self.student, self.objective, self.optimizer, self.average)
        before = read_resume_info(folder, step) if step else {}
        changed = differences(before.get("config", {}), self._matters())
        if recorded(Run(folder)) is not None:  # the content was compared, its name does not matter: data_check
            changed = {name: values for name, values in changed.items() if name not in ("data.clips", "data.stills")}
        if changed:
            told = "; ".join(f"{name}: {old!r} then, {new!r} now" for name, (old, new) in changed.items())
            raise ConfigError(
                f"{folder.name}: its state of step {step} was saved under other settings ({told}); put them back, or "
                "begin a new run from its weights (student.weights)"
            )
        now = self.resume_info()
        for what in ("processes", "workers"):
            if isinstance(self.sampler, ShardSampler) and before.get(what, now[what]) != now[what]:
                logger.warning(
                    "%s: it had %s %s until step %d and has %s now: shards are dealt out to them, so the crops that "
                    "follow are others than without the interruption",
                    folder.name, before[what], what, step, now[what],
                )  # fmt: skip
        return step

    def resume_info(self) -> dict[str, Any]:
        """What a state is saved with, so that a resume knows whether it goes on with the same training."""
        return {
            "config": self._matters(),
            "processes": self.engine.processes,
            "workers": self.config.data.num_workers,
        }

    def _matters(self) -> dict[str, Any]:
        """The settings that decide what a step does."""
        whole = flat(self.config.to_dict())
        return {
            name: value
            for name, value in whole.items()
            if name.partition(".")[0] not in MUTABLE_ON_RESUME and name not in MUTABLE_ON_RESUME
        }

    def steps(self, done: int, batches: Iterable[Batch] | None = None) -> Iterator[Step]:
        """The steps that are left, on these batches or on the run's own."""
        config = self.config
        return train(
            self.student,
            self._batches(done) if batches is None else batches,
            self.objective,
            self.optimizer,
            steps=config.steps,
            learning_rate=(config.optimizer.learning_rate, config.optimizer.final_learning_rate),
            teacher=self.teacher,
            feature_layer=config.distillation.feature_layer,
            done=done,
            max_grad_norm=config.optimizer.max_grad_norm,
            average=self.average,
            gradient_stats_every=config.gradient_stats_every if config.distils else 0,
            engine=self.engine,
        )

    def open_cache(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open the cache of the teacher that the config asks for; the writing process fills it first."""
        config, objective = self.config, self.objective
        if not config.teacher_cache_dir or self.teacher is None or not objective.distils:
            return
        assert isinstance(self.sampler, CropSampler)  # open_crops refuses fixed crops of shards
        folder, tap = Path(config.teacher_cache_dir), config.distillation.feature_layer
        wanted = fingerprint(self.teacher, objective, self.sampler, tap, self.engine.precision)
        if self.engine.writes:
            fill_cache(
                folder, wanted, self.teacher, objective, self.sampler, tap=tap, engine=self.engine, progress=progress
            )
        self.engine.wait()
        self.cache = TeacherCache(folder, wanted)

    def _batches(self, done: int) -> Iterator[Batch]:
        """This process's share of every batch, in as many pieces as wanted, with what the teacher said of it.

        Before each step torch's dice are set by (seed, step, process): what a network draws while it learns, dropout
        for example, is the same in a resumed run.
        """
        engine, cache = self.engine, self.cache
        share = slice(engine.rank, None, engine.processes)
        steps = range(done + 1, self.config.steps + 1)
        batches = self.sampler.after(done, self.config.steps, workers=self.config.data.num_workers, share=share)
        for step, (low, high, *flow) in zip(steps, batches, strict=True):
            torch.manual_seed(int(np.random.SeedSequence((self.config.seed, step, engine.rank)).generate_state(1)[0]))
            batch = Batch(low, high, flow=flow[0] if flow else None)
            if self.config.data.pin_memory and engine.device.type == "cuda":
                batch = batch.pin_memory()
            pieces = batch.chunk(engine.accumulate)
            if cache is None:
                yield from pieces
                continue
            assert isinstance(self.sampler, CropSampler)
            numbers, first = self.sampler.crop_ids(step)[share], 0
            for piece in pieces:
                targets = cache.load(numbers[first : first + len(piece.low)], piece.low)
                yield piece._replace(targets=targets)
                first += len(piece.low)


def _ema(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """A running average that follows closely at first: its decay is at most (1 + n) / (10 + n) after n steps."""

    def average(kept: torch.Tensor, new: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        share = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return kept * share + new * (1 - share)

    return average


def build_on_device(choice: Network, config: RunConfig, device: torch.device) -> VideoSR:
    """Build a network where it shall work."""
    return to_channels_last(make_network(choice, config.data.scale).to(device))
