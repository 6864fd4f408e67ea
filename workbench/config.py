"""Settings of a training run: frozen dataclasses, saved whole into the run folder.

Classes elsewhere take values, never these. The command line and the form of the studio are made from the fields; the
text under each is its help. Presets are in :mod:`workbench.presets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal

from workbench.aliases import group_ratios, rename_settings
from workbench.choices import MemoryFormat, Precision, Skip
from workbench.distillation_config import LEGACY_DISTILLATION, Distillation, GradientRatios, OtherLosses
from workbench.errors import ConfigError, require_at_least
from workbench.settings import build_settings, check_types

SCALES = (2, 3, 4)
TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network by name, and its weights."""

    name: str = ""
    """Name in the zoo (`workbench networks`), or `privileged:NAME` (docs/teaching.md); empty: no network."""
    skip: Skip = "bicubic"
    """Upsampled reference frame that is added to the network's output, or none."""
    weights: str = ""
    """Weights: a safetensors file, `pretrained:NAME`, `hub:OWNER/NAME` (downloaded from the Hugging Face Hub),
    `decoder:FILE` (of a privileged teacher); empty: random."""
    flow_weights: str = ""
    """Weights of the flow network alone, in place of that in `weights`: `pretrained:flow` (VESPCN, basicvsr_s,
    flow-guided EDVR), or a file, also of a public SPyNet (for the BasicVSR family); empty: none."""
    flow_guided: bool = False
    """Compute offsets as estimated flow plus a correction, as in BasicVSR++ (EDVR); `flow_weights` can then set the
    flow network's weights."""
    hr_channels: int = 0
    """Number of channels of F^SR, for networks that can vary it (VESPCN, VSRNet); 0: the network's own. Temporal
    distillation needs no adapter where student and teacher have the same number."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training data and validation clip: samples by name, or paths, with an optional crop `[frames, rows, columns]`."""

    clips: tuple[str, ...] = ("bigbuckbunny[0:96, :, 352:640]", "bikes")
    """Training clips; also a folder that `workbench prepare` made, or one in Vimeo-90K's layout."""
    stills: str = ""
    """Folder of still images, or one that `workbench prepare --stills` made; empty: none. Training clips are also
    rendered from them with a moving camera, without end, and their optical flow is known exactly."""
    stills_min_speed: float = 0.03
    """Lowest speed of the camera over still images, in low-resolution pixels a frame; drawn log-uniformly up to 3."""
    stills_share: float = 0.5
    """Share of a batch's clips that come from `data.stills`; at 1 no video is read. Ignored without still images."""
    validation_clip: str = "bigbuckbunny[100:116, 0:192, 64:320]"
    """Clip that snapshots show and score; the run never trains on it."""
    degradation: str = "bi"
    """Degradation that makes low resolution from high; `bi` is MATLAB's bicubic downsampling."""
    scale: int = 4
    """Factor between low and high resolution: 2, 3 or 4."""
    crop_size: int = 32
    """Side of the training crops, in low-resolution pixels."""
    num_frames: int = 5
    """Number of frames of a training clip (N in the paper)."""
    batch_size: int = 4
    """Number of clips a step."""
    augment: bool = True
    """Flip, transpose and time-reverse the crops."""
    moving_share: float = 0.0
    """Smallest share of the video crops that move more than `data.moving_above`; 0: no selection. Ignored for clips of
    one frame."""
    moving_above: float = 0.25
    """Mean motion above which a crop counts as moving, in low-resolution pixels a frame."""
    num_fixed_crops: int = 0
    """Number of crops that are drawn once and reused; 0: a fresh crop each time."""
    augmentations_per_crop: int = 8
    """Number of augmentations of each fixed crop, drawn once."""
    fixed_crops_seed: int = 0
    """Seed of the fixed crops; it is not the run's own, so that several runs share one teacher cache."""
    num_workers: int = 0
    """Number of processes that cut crops in parallel to the training; 0: none. The crops are the same."""
    pin_memory: bool = True
    """Copy batches into page-locked memory first: faster with a GPU, no effect on a CPU."""

    @property
    def uses_stills(self) -> bool:
        """Whether any clips come from still images."""
        return bool(self.stills and self.stills_share)

    @property
    def uses_video(self) -> bool:
        """Whether any clips come from video."""
        return not self.stills or self.stills_share < 1


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Adam or AdamW, with a learning rate that falls from `learning_rate` to `final_learning_rate` by one cosine."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with decoupled weight decay."""
    learning_rate: float = 4e-4
    """Learning rate at the first step; EDVR-M in BasicSR: 4e-4."""
    final_learning_rate: float = 1e-6
    """Learning rate at the last step."""
    offset_lr_mult: float = 0.1
    """Learning rate of the layers that compute offsets and masks of deformable convolutions, or flow in the BasicVSR
    family, relative to the others; at 1 the masks of a fresh EDVR closed within a hundred steps (BasicSR: 1, with 600k
    steps)."""
    flow_lr_mult: float = 1.0
    """Factor on the learning rate of the student's flow network (the one that `student.flow_weights` initializes), in
    the BasicVSR family in addition to `offset_lr_mult`; at 0 it keeps its initial weights."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of Adam's moments, as in the EDVR recipes."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Largest norm of the whole gradient; 0 switches clipping off."""
    ema_decay: float = 0.0
    """Decay of the running average (EMA) of the student's weights (EDVR: 0.999); 0: no average."""
    gradient_accumulation_steps: int = 1
    """Number of micro-batches that a batch is split into: the same update with less memory."""
    charbonnier_eps: float = 1e-3
    """Epsilon of the reconstruction loss sqrt(d^2 + eps^2), a mean over all elements; the paper does not state one."""


MINIMUMS: dict[str, int] = {
    "data.crop_size": 8,
    **dict.fromkeys((
        "steps", "data.num_frames", "data.batch_size", "data.augmentations_per_crop", "snapshot_every", "save_every",
        "distillation.memory_channels", "distillation.memory_stride", "distillation.ratio_every",
        "optimizer.gradient_accumulation_steps",
    ), 1),
    **dict.fromkeys((
        "data.moving_above", "data.num_fixed_crops", "data.num_workers", "distillation.spatial_weight",
        "distillation.temporal_weight", "distillation.border_frames", "student.hr_channels", "teacher.hr_channels",
        "plain.hr_channels", "threads", "gradient_stats_every", "imitation_weight", "alignment_loss_weight",
        "flow_weight", "optimizer.flow_lr_mult",
        *(f"distillation.losses.{loss.name}" for loss in fields(OtherLosses)),
        *(f"distillation.ratios.{loss.name}" for loss in fields(GradientRatios)),
    ), 0),
}  # fmt: skip
"""Smallest values of numbers; forms show them."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of one training run."""

    student: Network = field(default_factory=lambda: Network(name="vespcn"))
    """Network that is trained."""
    teacher: Network = field(default_factory=Network)
    """Network that the student is distilled from; without a name the run is plain: the same loop, no distillation."""
    plain: Network = field(default_factory=Network)
    """Student's architecture trained without a teacher; snapshots show it at the step at which its weights were saved,
    and at no other. Optional."""
    plain_run: str = ""
    """Run of the student without a teacher, finished or live; snapshots show it at the same steps. A run folder, or
    `pretrained:NAME`, of the same validation clip, scale and network."""
    data: Data = field(default_factory=Data)
    distillation: Distillation = field(default_factory=Distillation)
    """Distillation from the teacher, in addition to the ground truth; ignored without a teacher."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    imitation_weight: float = 1e-4
    """Weight of the distance between the encoder of a student `privileged:NAME` and low resolution (PISR: 1e-4);
    ignored for other students."""
    alignment_loss_weight: float = 0.0
    """Weight of the student's own alignment loss (VESPCN: distance of its warped neighbors from the reference; EDVR:
    the same of its features). It is independent of the teacher; 0 switches it off."""
    flow_weight: float = 0.0
    """Weight of the end-point error, in low-resolution pixels, of the student's flow (VESPCN, BasicVSR, IconVSR,
    BasicVSR++) or of its sampling offsets (EDVR, TDAN, TOFlow; rounded at half a pixel), on clips from
    `data.stills`, whose true flow is known; 0 switches it off. EDVR learns its offsets with `offset_lr_mult` 1."""
    teacher_cache_dir: str = ""
    """Folder of teacher outputs for the fixed crops (`data.num_fixed_crops`), computed once and then read."""
    steps: int = 2000
    """Number of updates of the student."""
    seed: int = 0
    """Seed of every random draw, together with the step."""
    precision: Precision = "auto"
    """Precision of the convolutions: auto is bf16 where this machine computes it faster than fp32, else fp32, and the
    run records the choice. bf16 and fp16 (CUDA, with a scaled loss) use autocast; losses, offsets and residuals stay
    fp32."""
    device: str = "auto"
    """Device: auto is CUDA, else MPS, else the CPU."""
    threads: int = 0
    """Number of CPU threads; 0: measured on the machine before the run; OMP_NUM_THREADS or all cores without tuning."""
    memory_format: MemoryFormat = "auto"
    """Order of values in memory, which changes the speed by a fifth in either direction: auto measures both before the
    run, which records the choice; channels_last or contiguous."""
    snapshot_every: int = 200
    """Steps between two snapshots of the validation clip."""
    save_every: int = 100
    """Steps between two checkpoints for an exact resume; at most this many steps are lost."""
    gradient_stats_every: int = 100
    """Steps between two measurements of each loss's gradient norm and the cosines between gradients; 0: never."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers that log the run too: `tensorboard`, `wandb`, `mlflow`. Each needs its package. They write
    into the run folder; WANDB_MODE and MLFLOW_TRACKING_URI name a server instead."""
    stop_after_seconds: float = 0.0
    """Time limit in seconds, after which the run stops and can be resumed; 0: none."""

    def __post_init__(self) -> None:
        """Refuse impossible settings before anything is computed."""
        check_types(self)
        for name, least in MINIMUMS.items():
            require_at_least(least, **{name: attrgetter(name)(self)})
        self._check_data()
        self._check_losses()
        if not self.student.name:
            raise ConfigError("student.name: a run needs a student; see `workbench networks`")
        if self.plain.name and self.plain_run:
            raise ConfigError(f"plain_run: want none with plain.name ({self.plain.name}), got {self.plain_run!r}")
        if self.teacher.name and not self.teacher.weights:
            raise ConfigError(
                f"teacher.weights: {self.teacher.name} would teach with random weights; name a file or pretrained:NAME"
            )
        if self.optimizer.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate: want a positive number, got {self.optimizer.learning_rate}")
        if not 0 <= self.optimizer.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay: want 0 or more and less than 1, got {self.optimizer.ema_decay}")
        if self.data.batch_size % self.optimizer.gradient_accumulation_steps:
            raise ConfigError(
                f"optimizer.gradient_accumulation_steps: want a divisor of data.batch_size {self.data.batch_size}, got "
                f"{self.optimizer.gradient_accumulation_steps}"
            )
        if unknown := set(self.trackers) - set(TRACKERS):
            raise ConfigError(f"trackers: want some of {', '.join(TRACKERS)}, got {', '.join(sorted(unknown))}")

    def _check_data(self) -> None:
        data = self.data
        if data.scale not in SCALES:
            raise ConfigError(f"data.scale: want 2, 3 or 4, got {data.scale}")
        if not 0 < data.stills_min_speed <= 3:
            raise ConfigError(f"data.stills_min_speed: want more than 0 and at most 3, got {data.stills_min_speed}")
        for name in ("stills_share", "moving_share"):
            if not 0 <= getattr(data, name) <= 1:
                raise ConfigError(f"data.{name}: want 0 to 1, got {getattr(data, name)}")
        if not data.clips and data.uses_video:
            raise ConfigError(
                "data.clips: name at least one clip, see `workbench samples`; or train on still images alone: "
                "data.stills, and data.stills_share 1"
            )
        if self.flow_weight and not data.uses_stills:
            raise ConfigError(
                f"flow_weight: want data with true flow for a weight of {self.flow_weight:g}, got video alone; name "
                "still images (data.stills), or set it to 0"
            )
        if self.teacher_cache_dir and data.uses_stills:
            raise ConfigError(
                f"teacher_cache_dir: want no data.stills, whose clips never repeat, got {data.stills}; leave the cache "
                "out (--teacher-cache-dir ''), or the still images"
            )
        if self.teacher_cache_dir and not data.num_fixed_crops:
            raise ConfigError(
                "teacher_cache_dir: only fixed crops can be cached; set data.num_fixed_crops to their number"
            )

    def _check_losses(self) -> None:
        wanted = self.distillation
        for loss, ratio in wanted.ratios.chosen.items():
            weight = attrgetter(name := wanted.weight_name(loss))
            if weight(wanted) not in (0, weight(Distillation())):
                raise ConfigError(
                    f"distillation.ratios.{loss}: want 0 next to a {name} of {weight(wanted):g}, got {ratio:g}; set "
                    "one of the two to 0"
                )
        if self.teacher_cache_dir and wanted.cache_obstacle:
            raise ConfigError(f"teacher_cache_dir: {wanted.cache_obstacle}; change that, or leave the cache out")

    @property
    def distills(self) -> bool:
        """Whether there is a teacher and a distillation loss."""
        wanted = self.distillation
        return bool(self.teacher.name and (wanted.uses_spatial or wanted.uses_temporal or wanted.chosen_losses))

    @property
    def needs_features(self) -> bool:
        """Whether both networks must have high-resolution features."""
        wanted = self.distillation
        return self.distills and bool(wanted.uses_spatial or wanted.uses_temporal or wanted.reading_features)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> RunConfig:
        """Return settings from JSON.

        Raises:
            ConfigError: a name that is not a setting; the nearest one is suggested.

        Example:
            >>> RunConfig.from_dict({"stepz": 3})
            Traceback (most recent call last):
            workbench.errors.ConfigError: no setting 'stepz'; did you mean 'steps'?
        """
        return build_settings(cls, saved)

    @classmethod
    def from_run(cls, saved: Mapping[str, Any], *, version: int = 2) -> RunConfig:
        """Return the settings of a run folder; those that its version did not have yet keep the behavior of then.

        Args:
            saved: ``config`` of ``run.json``.
            version: ``format`` of ``run.json``; names of format 1 are replaced by today's.

        Example:
            >>> RunConfig.from_run({"distillation": {"temporal_weight": 0.03}}).distillation.standardize
            False
            >>> RunConfig.from_run({"data": {"crop": 24}}, version=1).data.crop_size
            24
        """
        if version == 1:
            saved = rename_settings(saved)
        distillation = saved.get("distillation")
        if isinstance(distillation, Mapping):
            saved = {**saved, "distillation": LEGACY_DISTILLATION | group_ratios(distillation)}
        return cls.from_dict(saved)


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a config with some settings changed, by dotted name.

    Example:
        >>> with_settings(RunConfig(), {"data.crop_size": 16, "seed": 3}).data.crop_size
        16

    Raises:
        ConfigError: no such setting, or an impossible value.
    """
    changed = config.to_dict()
    for name, value in settings.items():
        *groups, last = name.split(".")
        group = changed
        for part in groups:
            group = group.get(part)
            if not isinstance(group, dict):
                raise ConfigError(f"no setting {name!r}")
        group[last] = value
    return RunConfig.from_dict(changed)
