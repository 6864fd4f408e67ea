"""Settings of a training run: frozen dataclasses, saved whole into the run folder.

Classes elsewhere take values, never these. The command line and the form of the studio are made from the fields; the
text under each is its help. Presets are in :mod:`workbench.presets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal

from workbench.aliases import rename_settings
from workbench.choices import FeatureLayer, Precision, Skip
from workbench.errors import ConfigError
from workbench.settings import build_settings, check_types

AttentionKind = Literal["sum_squares", "sum_abs", "max_squares"]
Normalization = Literal["none", "unit"]
SpatialFeatures = Literal["sr", "lr"]
MemoryMode = Literal["frozen", "trained", "trained_then_frozen"]
Cells = Literal["last", "all"]
Schedule = Literal["constant", "warm_up", "decay"]

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
    """Weights: a safetensors file, `pretrained:NAME`, `decoder:FILE` (of a privileged teacher); empty: random."""
    flow_weights: str = ""
    """Weights of the flow network alone: `pretrained:flow` (VESPCN, basicvsr_s), or a file, also of a public SPyNet
    (for the BasicVSR family); empty: none."""
    flow_guided: bool = False
    """Compute offsets as estimated flow plus a correction, as in BasicVSR++ (EDVR); `flow_weights` can then set the
    flow network's weights."""
    hr_channels: int = 0
    """Number of channels of F^SR, for networks that can vary it (`vespcn`, `vespcn_s`); 0: the network's own. Temporal
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
    pin_memory: bool = False
    """Copy batches into page-locked memory first: faster with a GPU, no effect on a CPU."""

    @property
    def uses_stills(self) -> bool:
        """Whether any clips come from still images."""
        return bool(self.stills and self.stills_share)

    @property
    def uses_video(self) -> bool:
        """Whether any clips come from video."""
        return not self.stills or self.stills_share < 1


def _loss(*, reads: Literal["frames", "features"]) -> float:
    """Return a field of :class:`OtherLosses`: weight 0, and the inputs of the loss."""
    return field(default=0.0, metadata={"reads": reads})


@dataclass(frozen=True, kw_only=True)
class OtherLosses:
    """Weights of other distillation losses, in addition to the space-time distillation or in its place; 0: not used.

    This is the table of these losses: a field has the loss's name and its inputs. A function of that name in
    ``distill.losses`` and a line here are all that a new loss needs.
    """

    output_l1: float = _loss(reads="frames")
    """L1 distance of the frames: the simplest distillation; at 2 the one measured gain of docs/experiment.md."""
    fitnets: float = _loss(reads="features")
    """Features through a learned 1x1 regressor (Romero et al. 2015)."""
    attention_transfer: float = _loss(reads="features")
    """Distance of unit-length attention maps (Zagoruyko and Komodakis 2017, as in the paper)."""
    attention_transfer_code: float = _loss(reads="features")
    """Distance of unit-length attention maps as in the code that its authors released."""
    squared_mean: float = _loss(reads="features")
    """Squared channel mean of the features (Gao et al. 2018: their best)."""
    mean_square: float = _loss(reads="features")
    """Channel mean of the squared features (Gao et al. 2018)."""
    channel_max: float = _loss(reads="features")
    """Maximum over the channels (Gao et al. 2018)."""
    channel_min: float = _loss(reads="features")
    """Minimum over the channels (Gao et al. 2018)."""
    affinity: float = _loss(reads="features")
    """Similarity between positions of a frame (FAKD: He et al. 2020)."""
    variational_information: float = _loss(reads="features")
    """Likelihood of the teacher's features given the student's (VID, as in PISR: Lee et al. 2020)."""
    temporal_consistency: float = _loss(reads="features")
    """Similarity between positions of two successive frames (after ETC: Liu et al. 2020)."""
    frequency: float = _loss(reads="frames")
    """Spectrum of the frames, with fine detail weighted more than coarse (ours)."""
    frame_difference: float = _loss(reads="frames")
    """Changes of the frames from one to the next (ours)."""
    teacher_better_l1: float = _loss(reads="frames")
    """L1 distance of the frames, only where the teacher is closer to the ground truth (ours)."""

    @property
    def chosen(self) -> dict[str, float]:
        """Losses whose weight is not 0."""
        return {name: weight for name, weight in asdict(self).items() if weight}

    @property
    def reading_features(self) -> list[str]:
        """Chosen losses that read F^SR of both networks; networks without it can use the others only."""
        return [name for name in self.chosen if self.__dataclass_fields__[name].metadata["reads"] == "features"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Distillation from the teacher, in addition to the ground truth; ignored without a teacher."""

    spatial_weight: float = 0.01
    """Weight of the distance of the attention maps (lambda 1); 0 switches it off. At this weight its gradient norm is a
    seventh to a quarter of the reconstruction's, and it helped; a tenth of it had no measurable effect, ten times it
    hurt (docs/experiment.md)."""
    temporal_weight: float = 0.002
    """Weight of the distance of the memory cells (lambda 2); 0 switches it off. On the shipped networks its gradient
    norm is then 0.08 to 0.17 times the reconstruction's (docs/teaching.md); not tuned. Features that are not
    standardized, at stride 4, need about fifty times as much for the same."""
    spatial_ratio: float = 0.0
    """Gradient-norm ratio of the spatial term to the reconstruction, which then sets lambda 1; 0: `spatial_weight` is
    used. Above 0 that weight must be 0 or its default, and is not used."""
    temporal_ratio: float = 0.0
    """Gradient-norm ratio of the temporal term, in place of `temporal_weight`."""
    output_ratio: float = 0.0
    """Gradient-norm ratio of the L1 distance of the frames, in place of `losses.output_l1`."""
    ratio_every: int = 20
    """Steps between two measurements of gradient norms for the ratios; each takes a backward pass a term."""
    feature_layer: FeatureLayer = "hr"
    """Layer of F^SR: input of the last convolution (hr), the same before its activation, or output of the shuffle."""
    spatial_features: SpatialFeatures = "sr"
    """Features of the attention maps: F^SR as in the paper (sr), or the aligned, low-resolution F^LR (lr)."""
    attention_kind: AttentionKind = "sum_squares"
    """Reduction of channels to one map: equation 2 (sum of squares), 1 (sum of magnitudes) or 3 (largest square)."""
    normalization: Normalization = "unit"
    """Normalization of the maps: `none` as written in the paper, or `unit` Euclidean length."""
    memory_mode: MemoryMode = "frozen"
    """Training of the shared ConvLSTM; trained jointly it can lower its loss by ignoring the input."""
    memory_channels: int = 8
    """Number of hidden channels of the ConvLSTM."""
    memory_stride: int = 2
    """Side of the squares over which features are averaged before the ConvLSTM. At the scale or above, the loss
    compares no detail between low-resolution pixels; 1 keeps all of it, at three times the cost of 2."""
    standardize: bool = True
    """Give each channel of a clip zero mean and unit variance before the ConvLSTM; else biases alone lower the loss."""
    cells: Cells = "last"
    """Memory cells that are compared: the `last` of the clip, as in the paper, or `all`."""
    border_frames: int = 1
    """Number of frames at either end of the clip whose cells are not compared: networks replace their missing neighbors
    by copies."""
    memory_seed: int = 0
    """Seed of the ConvLSTM's first weights; it is not the run's own, so that several runs share one teacher cache."""
    freeze_below: float = 1e-8
    """Temporal loss below which the ConvLSTM is frozen for good, with `trained_then_frozen`."""
    schedule: Schedule = "warm_up"
    """Schedule of the weights of all distillation losses: constant, rising from 0, or falling to 0."""
    schedule_steps: int = 100
    """Number of steps of that rise or fall."""
    losses: OtherLosses = field(default_factory=OtherLosses)
    """Weights of other distillation losses."""

    @property
    def ratios(self) -> dict[str, float]:
        """Gradient-norm ratios above 0, by loss term."""
        named = {"spatial": self.spatial_ratio, "temporal": self.temporal_ratio, "output_l1": self.output_ratio}
        return {name: ratio for name, ratio in named.items() if ratio}

    @property
    def uses_spatial(self) -> bool:
        """Whether attention maps are compared."""
        return bool(self.spatial_weight or self.spatial_ratio)

    @property
    def uses_temporal(self) -> bool:
        """Whether memory cells are compared."""
        return bool(self.temporal_weight or self.temporal_ratio)

    @property
    def chosen_losses(self) -> dict[str, float]:
        """Weights of the other losses that are computed; 0 for one whose ratio is set."""
        return self.losses.chosen | ({"output_l1": 0.0} if self.output_ratio else {})

    @property
    def cache_obstacle(self) -> str:
        """Reason why teacher outputs cannot be cached; empty where they can."""
        if self.uses_temporal and self.memory_mode != "frozen":
            return (
                f"want distillation.memory_mode frozen, as cells of a trained ConvLSTM change, got {self.memory_mode}"
            )
        if names := self.losses.reading_features:
            return f"want no losses that read whole features, which are too large to cache, got {', '.join(names)}"
        return ""


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
    """Learning rate of the layers that compute offsets and masks of deformable convolutions, or flow, relative to the
    others; at 1 the masks of a fresh EDVR closed within a hundred steps (BasicSR: 1, with 600k steps)."""
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
        "distillation.temporal_weight", "distillation.spatial_ratio", "distillation.temporal_ratio",
        "distillation.output_ratio", "distillation.border_frames", "student.hr_channels", "teacher.hr_channels",
        "plain.hr_channels", "threads", "gradient_stats_every", "imitation_weight", "alignment_loss_weight",
        "flow_weight",
        *(f"distillation.losses.{loss.name}" for loss in fields(OtherLosses)),
    ), 0),
}  # fmt: skip
"""Smallest values of numbers; forms show them."""

LEGACY_DISTILLATION: dict[str, Any] = {"standardize": False, "cells": "last", "border_frames": 0}
"""Settings that runs of older versions do not record, with the values that these runs were computed under."""

FRAMES_FOR_MEMORY = 7
"""Smallest recommended clip length for the temporal loss; in shorter clips most compared cells depend on one or two
complete windows only."""


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
    optimizer: Optimizer = field(default_factory=Optimizer)
    imitation_weight: float = 1e-4
    """Weight of the distance between the encoder of a student `privileged:NAME` and low resolution (PISR: 1e-4);
    ignored for other students."""
    alignment_loss_weight: float = 0.0
    """Weight of the student's own alignment loss (VESPCN: distance of its warped neighbors from the reference; EDVR:
    the same of its features). It is independent of the teacher; 0 switches it off."""
    flow_weight: float = 0.0
    """Weight of the end-point error, in low-resolution pixels, of the student's flow (VESPCN, BasicVSR, IconVSR,
    BasicVSR++) or of the offsets of its deformable convolutions (EDVR, TDAN; rounded at half a pixel), on clips from
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
    """Number of CPU threads; 0: the number of cores."""
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
            value = attrgetter(name)(self)
            if value < least:
                raise ConfigError(f"{name}: want {least} or more, got {value}")
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
        wanted, default = self.distillation, Distillation.__dataclass_fields__
        for ratio, weight in (("spatial_ratio", "spatial_weight"), ("temporal_ratio", "temporal_weight")):
            if getattr(wanted, ratio) and getattr(wanted, weight) not in (0, default[weight].default):
                raise ConfigError(
                    f"distillation.{ratio}: want 0 next to a {weight} of {getattr(wanted, weight):g}, got "
                    f"{getattr(wanted, ratio):g}; set one of the two to 0"
                )
        if wanted.output_ratio and wanted.losses.output_l1:
            raise ConfigError(
                f"distillation.output_ratio: want 0 next to losses.output_l1 {wanted.losses.output_l1:g}, got "
                f"{wanted.output_ratio:g}; set one of the two to 0"
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
        return self.distills and bool(wanted.uses_spatial or wanted.uses_temporal or wanted.losses.reading_features)

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
            saved = {**saved, "distillation": {**LEGACY_DISTILLATION, **distillation}}
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


__all__ = ["Data", "Distillation", "Network", "Optimizer", "OtherLosses", "RunConfig", "replace"]
