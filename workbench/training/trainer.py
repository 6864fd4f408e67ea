"""Networks, objective, optimizer and data of one training, built from its config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel

from workbench.config import Network, Optimizer, RunConfig
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import CropSampler
from workbench.data.sampling.shards import ShardSampler
from workbench.distill.losses import make_loss
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.distillation_config import FRAMES_FOR_MEMORY
from workbench.errors import ConfigError
from workbench.evaluation.methods import make_network
from workbench.inference.prefetch import prefetch
from workbench.models.video_sr import VideoSR
from workbench.runs import Run
from workbench.settings import differences, flatten
from workbench.training.accelerator import check_trackers
from workbench.training.data import open_data
from workbench.training.data_check import recorded_checksums
from workbench.training.loop import Batch, Step, train
from workbench.training.record import load_checkpoint, read_resume_info
from workbench.training.teacher_cache import TeacherCache, fingerprint, write_cache
from workbench.training.torch_setup import set_memory_format

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2
"""Batches that may wait in memory for their step, with a GPU."""


def check(config: RunConfig) -> None:
    """Check names, weights and data of a config before a run folder is made.

    Raises:
        WorkbenchError: names the setting.
    """
    check_trackers(config.trackers)
    chosen = {"student": config.student, "teacher": config.teacher, "plain": config.plain}
    networks = {role: make_network(choice, config.data.scale) for role, choice in chosen.items() if choice.name}
    student, name = networks["student"], config.student.name
    if not list(student.parameters()):
        raise ConfigError(f"student.name: {name} has no parameters to train")
    if config.alignment_loss_weight and not student.has_alignment_loss:
        raise ConfigError(
            f"alignment_loss_weight: want 0, since {name} has no alignment loss (VESPCN and EDVR have), got "
            f"{config.alignment_loss_weight:g}"
        )
    if config.flow_weight and not student.supports_flow_supervision:
        raise ConfigError(
            "flow_weight: want a student that returns flow or offsets (VESPCN, BasicVSR, EDVR, TDAN), got "
            f"{name}; set it to 0"
        )
    if config.optimizer.flow_lr_mult != 1 and not student.flow_module:
        raise ConfigError(
            f"optimizer.flow_lr_mult: want 1, since {name} has no flow network of its own, got "
            f"{config.optimizer.flow_lr_mult:g}"
        )
    if student.privileged and config.teacher.name:
        raise ConfigError(f"student.name: {name} is privileged and needs no teacher: --teacher.name ''")
    if config.plain.name and networks["plain"].privileged:
        raise ConfigError(
            "plain.name: want no privileged network, whose input is the ground truth, got " + config.plain.name
        )
    for role in ("student", "teacher") if config.needs_features else ():
        networks[role].check_features(config.distillation.feature_layer)
        if config.distillation.spatial_features == "lr" and not networks[role].aligned_channels:
            raise ConfigError(
                f"distillation.spatial_features: {chosen[role].name} has no aligned features (`workbench networks`); "
                "take sr"
            )
    if config.distills and config.distillation.uses_temporal:
        _check_temporal(config, student.feature_channels, networks["teacher"].feature_channels)
    open_data(config.data, config.seed)
    load_clip(config.data.validation_clip)


def _check_temporal(config: RunConfig, ours: int, theirs: int) -> None:
    """Refuse a temporal term without cells to compare, and warn of settings under which it has little effect.

    It is only a warning: runs with five frames and an adapter exist, and can be repeated.

    Args:
        config: settings of a run with the term.
        ours: channels of F^SR of the student.
        theirs: channels of F^SR of the teacher.
    """
    if 2 * config.distillation.border_frames >= config.data.num_frames:
        raise ConfigError(
            f"distillation.border_frames: want less than half of data.num_frames ({config.data.num_frames}), got "
            f"{config.distillation.border_frames}; set it to 0, or take clips of {FRAMES_FOR_MEMORY} frames"
        )
    if config.data.num_frames < FRAMES_FOR_MEMORY:
        logger.warning(
            "data.num_frames: want %d or more with the temporal term, got %d: few of its cells depend on complete "
            "windows; set data.num_frames to %d", FRAMES_FOR_MEMORY, config.data.num_frames, FRAMES_FOR_MEMORY,
        )  # fmt: skip
    if ours != theirs:
        logger.warning(
            "student.hr_channels: want the %d channels of F^SR that %s has, got %d: the adapter between them can lower "
            "the temporal loss without the student; set student.hr_channels to %d, or choose another pair",
            theirs, config.teacher.name, ours, theirs,
        )  # fmt: skip


MUTABLE_ON_RESUME = frozenset(
    {
        "plain", "plain_run", "device", "threads", "snapshot_every", "save_every", "gradient_stats_every",
        "trackers", "teacher_cache_dir", "stop_after_seconds", "data.validation_clip",
        "data.num_workers", "data.pin_memory",
    }
)  # fmt: skip
"""Settings that may change on a resume: no step depends on them."""


def parameter_groups(student: VideoSR, settings: Optimizer) -> list[dict[str, Any]]:
    """Return the student's parameters grouped by their learning rate relative to the optimizer's, ``lr_mult``.

    The first group has the full rate.

    Args:
        student: a network.
        settings: ``offset_lr_mult`` is the factor of the parameters that the network names in ``low_lr_params``,
            ``flow_lr_mult`` that of its flow network; it multiplies the former where both apply.
    """
    groups: dict[tuple[bool, bool], dict[str, Any]] = {(False, False): {"params": [], "lr_mult": 1.0}}
    for name, parameter in student.named_parameters():
        low = any(part in name for part in student.low_lr_params)
        flow = settings.flow_lr_mult != 1 and bool(student.flow_module) and name.startswith(f"{student.flow_module}.")
        factor = (settings.offset_lr_mult if low else 1.0) * (settings.flow_lr_mult if flow else 1.0)
        groups.setdefault((low, flow), {"params": [], "lr_mult": factor})["params"].append(parameter)
    return list(groups.values())


class Trainer:
    """Networks, objective, optimizer and data of one run; every process has its own."""

    def __init__(self, config: RunConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        processes, micro_batches = accelerator.num_processes, accelerator.gradient_accumulation_steps
        if config.data.batch_size % (processes * micro_batches):
            raise ConfigError(
                f"data.batch_size: want a multiple of {processes * micro_batches} ({processes} processes, "
                f"{micro_batches} micro-batches each), got {config.data.batch_size}"
            )
        device = accelerator.device
        torch.manual_seed(config.seed)
        self.student = build_on_device(config.student, config, device)
        self.teacher = None
        if config.teacher.name:
            self.teacher = build_on_device(config.teacher, config, device).eval()
        self.objective = self._objective().to(device)
        self.average = (
            ExponentialAverage(self.student, config.optimizer.ema_decay) if config.optimizer.ema_decay else None
        )
        groups = parameter_groups(self.student, config.optimizer)
        groups[0]["params"].extend(self.objective.parameters())
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer.name]
        decay = {"weight_decay": config.optimizer.weight_decay} if config.optimizer.name == "adamw" else {}
        self.optimizer = kind(groups, lr=config.optimizer.learning_rate, betas=config.optimizer.betas, **decay)
        self.sampler = open_data(config.data, config.seed)
        self.cache: TeacherCache | None = None
        self.makes_batches_ahead = device.type != "cpu"

    def _objective(self) -> Objective:
        config = self.config
        supervised: dict[str, Any] = {
            "eps": config.optimizer.charbonnier_eps,
            "alignment_loss_weight": config.alignment_loss_weight,
            "flow_weight": config.flow_weight,
        }
        if not config.distills or self.teacher is None:
            return Objective(imitation_weight=config.imitation_weight if self.student.privileged else 0.0, **supervised)
        wanted = config.distillation
        ours, theirs = self.student.feature_channels, self.teacher.feature_channels
        memory = None
        if wanted.uses_temporal:
            memory = TemporalMemory(
                ours, theirs, hidden_channels=wanted.memory_channels, stride=wanted.memory_stride,
                standardize=wanted.standardize, cells=wanted.cells, border_frames=wanted.border_frames,
                mode=wanted.memory_mode, freeze_below=wanted.freeze_below, seed=wanted.memory_seed,
            )  # fmt: skip
        return Objective(
            **supervised, spatial_weight=wanted.spatial_weight, temporal_weight=wanted.temporal_weight,
            spatial_features=wanted.spatial_features, attention_kind=wanted.attention_kind,
            normalization=wanted.normalization, memory=memory,
            losses={name: (weight, make_loss(name, ours, theirs)) for name, weight in wanted.chosen_losses.items()},
            ratios=wanted.ratios.chosen, ratio_every=wanted.ratio_every, schedule=wanted.schedule,
            schedule_steps=wanted.schedule_steps,
        )  # fmt: skip

    def load(self, folder: Path) -> int:
        """Load the newest checkpoint of a run folder; returns its step, 0 where there is none.

        Raises:
            ConfigError: the checkpoint was saved under other settings that a step depends on.
        """
        step = load_checkpoint(folder, self.student, self.objective, self.optimizer, self.average)
        before = read_resume_info(folder, step) if step else {}
        changed = differences(before.get("config", {}), self._fixed_settings())
        if recorded_checksums(Run(folder)) is not None:  # data_check compared the content; its name does not matter
            changed = {name: values for name, values in changed.items() if name not in ("data.clips", "data.stills")}
        if changed:
            changes = "; ".join(f"{name}: {old!r} then, {new!r} now" for name, (old, new) in changed.items())
            raise ConfigError(
                f"{folder.name}: its checkpoint of step {step} was saved under other settings ({changes}); put them "
                "back, or begin a new run from its weights (student.weights)"
            )
        now = self.resume_info()
        for name in ("processes", "workers"):
            if isinstance(self.sampler, ShardSampler) and before.get(name, now[name]) != now[name]:
                logger.warning(
                    "%s: it had %s %s until step %d and has %s now: shards are dealt out to them, so the crops that "
                    "follow are others than without the interruption",
                    folder.name, before[name], name, step, now[name],
                )  # fmt: skip
        return step

    def resume_info(self) -> dict[str, Any]:
        """Return the settings and numbers that a resume compares with those of a checkpoint."""
        return {
            "config": self._fixed_settings(),
            "processes": self.accelerator.num_processes,
            "workers": self.config.data.num_workers,
        }

    def _fixed_settings(self) -> dict[str, Any]:
        """Return the settings that a step depends on, by dotted names."""
        settings = flatten(self.config.to_dict()).items()
        return {name: value for name, value in settings if not {name, name.partition(".")[0]} & MUTABLE_ON_RESUME}

    def steps(
        self, done: int, batches: Iterable[Batch] | None = None, *, stop_requested: Callable[[], bool] = bool
    ) -> Iterator[Step]:
        """Return the iterator over the remaining steps, on these batches or on the run's own; see :func:`train`."""
        config = self.config
        return train(
            self.student,
            self._batches(done) if batches is None else batches,
            self.objective,
            self.optimizer,
            steps=config.steps,
            initial_lr=config.optimizer.learning_rate,
            final_lr=config.optimizer.final_learning_rate,
            teacher=self.teacher,
            feature_layer=config.distillation.feature_layer,
            completed_steps=done,
            max_grad_norm=config.optimizer.max_grad_norm,
            ema_model=self.average,
            gradient_stats_every=config.gradient_stats_every if config.distills else 0,
            accelerator=self.accelerator,
            stop_requested=stop_requested,
        )

    def open_cache(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open the teacher cache of the config; the main process computes its missing part first."""
        config, objective = self.config, self.objective
        if not config.teacher_cache_dir or self.teacher is None or not objective.distills:
            return
        assert isinstance(self.sampler, CropSampler)  # open_crops refuses fixed crops of shards
        folder, layer, accelerator = Path(config.teacher_cache_dir), config.distillation.feature_layer, self.accelerator
        precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
        wanted = fingerprint(self.teacher, objective, self.sampler, layer, precision)
        if accelerator.is_main_process:
            write_cache(
                folder, wanted, self.teacher, objective, self.sampler,
                feature_layer=layer, accelerator=accelerator, progress=progress,
            )  # fmt: skip
        accelerator.wait_for_everyone()
        self.cache = TeacherCache(folder, wanted)

    def _batches(self, done: int) -> Iterator[Batch]:
        """Yield this process's share of every batch as micro-batches, with the cached teacher outputs.

        With a GPU a thread makes them ahead of their step. A CPU is busy with the step itself, and a second thread that
        computes would slow it down.

        Before each step torch's random generator is seeded by (seed, step, process), so that random layers of a
        network, dropout for example, draw the same numbers in a resumed run.
        """
        rank = self.accelerator.process_index
        share = slice(rank, None, self.accelerator.num_processes)
        batches = self.sampler.after(done, self.config.steps, workers=self.config.data.num_workers, share=share)
        made = self._micro_batches(range(done + 1, self.config.steps + 1), batches, share)
        if self.makes_batches_ahead:
            made = prefetch(made, waiting=BATCHES_AHEAD)
        with closing(made):
            for step, micro_batches in made:
                torch.manual_seed(int(np.random.SeedSequence((self.config.seed, step, rank)).generate_state(1)[0]))
                yield from micro_batches

    def _micro_batches(
        self, steps: range, batches: Iterator[Any], share: slice
    ) -> Generator[tuple[int, list[Batch]], None, None]:
        """Yield each step with its micro-batches, in page-locked memory if the device is a GPU."""
        pinned = self.config.data.pin_memory and self.accelerator.device.type == "cuda"
        for step, (low, high, *flow) in zip(steps, batches, strict=True):
            batch = Batch(low, high, flow=flow[0] if flow else None)
            micro_batches = batch.split_into(self.accelerator.gradient_accumulation_steps)
            if self.cache is not None:
                assert isinstance(self.sampler, CropSampler)
                numbers, size = self.sampler.crop_ids(step)[share], len(micro_batches[0].low)
                micro_batches = [
                    part._replace(targets=self.cache.load(numbers[size * index :][:size], part.low))
                    for index, part in enumerate(micro_batches)
                ]
            yield step, [part.pin_memory() for part in micro_batches] if pinned else micro_batches


class ExponentialAverage(AveragedModel):
    """Running average of a network, whose decay after n steps is at most (1 + n) / (10 + n).

    Torch's own update reads the number of steps from the device, once for each parameter.
    """

    def __init__(self, network: VideoSR, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        """Add the network after a step; after the first step the average is the network."""
        steps = int(self.n_averaged)  # in main memory
        share = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        for kept, new in zip(self.module.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - share)
        for kept, new in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
        self.n_averaged += 1


def build_on_device(choice: Network, config: RunConfig, device: torch.device) -> VideoSR:
    """Build a network on a device."""
    return set_memory_format(make_network(choice, config.data.scale).to(device), config.memory_format)
