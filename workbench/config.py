"""What one run is: frozen dataclasses, saved whole into the run folder; presets are functions that return one.

Classes elsewhere do not take these; they take values. Forms and the command line are made from the fields.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin, get_type_hints

from workbench.aliases import rename_settings
from workbench.choices import FeatureLayer, Precision, Skip
from workbench.errors import ConfigError

MapKind = Literal["sum_squares", "sum_abs", "max_squares"]
Normalization = Literal["none", "unit"]
SpatialFeatures = Literal["sr", "lr"]
MemoryMode = Literal["frozen", "trained", "trained_then_frozen"]
Cells = Literal["last", "all"]
Schedule = Literal["constant", "warm_up", "decay"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network by name, and where its weights come from."""

    name: str = ""
    """Name in the zoo (`workbench networks`), or `privileged:NAME` (docs/teaching.md); empty: none."""
    skip: Skip = "bicubic"
    """What is added to the network's output: the upscaled reference frame, or nothing."""
    weights: str = ""
    """A safetensors file, `pretrained:NAME`, `decoder:FILE` (of a privileged teacher), or empty for a fresh start."""
    flow_weights: str = ""
    """Weights of the flow network alone: `pretrained:flow` (VESPCN, basicvsr_s), or a file, also of a public SPyNet
    (for the BasicVSR family); empty: none."""
    flow_guided: bool = False
    """Offsets are estimated flow and a correction, as in BasicVSR++ (EDVR); `flow_weights` can then fill the flow."""
    hr_channels: int = 0
    """Channels of F^SR, for networks that can vary them (`vespcn`, `vespcn_s`); 0: the network's own number. Temporal
    distillation needs no adapter where student and teacher have as many."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The footage of a run: samples by name, or paths, with an optional crop: `name[frames, rows, columns]`."""

    clips: tuple[str, ...] = ("bigbuckbunny[0:96, :, 352:640]", "bikes")
    """What is trained on; also a folder that `workbench prepare` made, or one in Vimeo-90K's layout."""
    stills: str = ""
    """A folder of still images, or one that `workbench prepare --stills` made; empty: none. Training clips are also
    rendered from them with a moving camera, endlessly, and their optical flow is known exactly."""
    stills_min_speed: float = 0.03
    """Lowest speed of the camera over still images, in low-resolution pixels a frame; drawn log-uniformly up to 3."""
    stills_share: float = 0.5
    """Share of a batch's clips that come from `data.stills`; at 1 no footage is read. Ignored where there are none."""
    validation_clip: str = "bigbuckbunny[100:116, 0:192, 64:320]"
    """What snapshots show and score: never trained on."""
    degradation: str = "bi"
    """How low resolution is made of high: `bi` is MATLAB's bicubic."""
    scale: int = 4
    """How many times larger the output is."""
    crop_size: int = 32
    """Side of the training crops, in low-resolution pixels."""
    num_frames: int = 5
    """Frames of a training clip (N in the paper)."""
    batch_size: int = 4
    """Clips a step."""
    augment: bool = True
    """Flip, transpose and time-reverse the crops."""
    moving_share: float = 0.0
    """Share of the crops of footage, at least, that move more than `data.moving_above`; 0: crops come from anywhere.
    Ignored for clips of one frame."""
    moving_above: float = 0.25
    """Mean motion of a crop that counts as moving, in low-resolution pixels a frame."""
    num_fixed_crops: int = 0
    """Draw from so many crops, chosen once, instead of a fresh one each time; 0: fresh ones."""
    augmentations_per_crop: int = 8
    """Of every fixed crop so many augmentations, drawn once."""
    fixed_crops_seed: int = 0
    """Decides which fixed crops there are; not the run's own seed, so that several runs share one teacher cache."""
    num_workers: int = 0
    """Processes that cut crops beside the training; 0: none. The crops are the same."""
    pin_memory: bool = False
    """Copy batches into page-locked memory first: faster onto a GPU, of no use elsewhere."""

    @property
    def uses_stills(self) -> bool:
        """Whether any clips come from still images."""
        return bool(self.stills and self.stills_share)

    @property
    def uses_footage(self) -> bool:
        """Whether any clips come from footage."""
        return not self.stills or self.stills_share < 1


@dataclass(frozen=True, kw_only=True)
class OtherLosses:
    """Weights of other ways to teach, beside space-time distillation or instead of it; 0: the term is not computed."""

    output_l1: float = 0.0
    """L1 distance of the pictures: the plainest distillation; at 2 the one measured gain of docs/experiment.md."""
    fitnets: float = 0.0
    """Features through a learned 1x1 regressor (Romero et al. 2015)."""
    attention_transfer: float = 0.0
    """Distance of unit-length attention maps (Zagoruyko and Komodakis 2017, as in the paper)."""
    attention_transfer_code: float = 0.0
    """The same as its authors' code has it."""
    squared_mean: float = 0.0
    """Squared channel mean of the features (Gao et al. 2018: their best)."""
    mean_square: float = 0.0
    """Channel mean of the squared features (Gao et al. 2018)."""
    channel_max: float = 0.0
    """Largest channel (Gao et al. 2018)."""
    channel_min: float = 0.0
    """Smallest channel (Gao et al. 2018)."""
    affinity: float = 0.0
    """Which places of a frame look alike (FAKD: He et al. 2020)."""
    variational_information: float = 0.0
    """The teacher's features as a distribution given the student's (VID, as in PISR: Lee et al. 2020)."""
    temporal_consistency: float = 0.0
    """How a frame's places resemble those of the frame before (after ETC: Liu et al. 2020)."""
    frequency: float = 0.0
    """Pictures, the fine detail more than the coarse (ours)."""
    frame_difference: float = 0.0
    """How the pictures change from frame to frame (ours)."""
    teacher_better_l1: float = 0.0
    """Pictures, only where the teacher is nearer to the truth (ours)."""

    @property
    def chosen(self) -> dict[str, float]:
        """Those whose weight is not 0."""
        return {name: weight for name, weight in asdict(self).items() if weight}


READ_PICTURES = frozenset({"output_l1", "frequency", "frame_difference", "teacher_better_l1"})
"""Those of :class:`Others` that need no high-resolution features; networks without any can use them."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What the student learns from the teacher, besides the ground truth. Ignored where there is no teacher."""

    spatial_weight: float = 0.01
    """lambda 1: weight of the distance of the attention maps; 0 switches it off. At this weight it pulls with a seventh
    to a quarter of the reconstruction's gradient and helped; a tenth of it did nothing measurable, ten times it hurt
    (docs/experiment.md)."""
    temporal_weight: float = 0.002
    """lambda 2: weight of the distance of the memory cells; 0 switches it off. On the shipped networks its gradient
    norm is then 0.08 to 0.17 times the reconstruction's (docs/teaching.md); not tuned. Features that are not
    standardized, at stride 4, need about fifty times as much for the same."""
    spatial_ratio: float = 0.0
    """Set lambda 1 so that the term's gradient norm is this ratio of the reconstruction's; 0: `spatial_weight` holds.
    Above 0 that weight must be 0 or its default, and is not used."""
    temporal_ratio: float = 0.0
    """The same for lambda 2, in place of `temporal_weight`."""
    output_ratio: float = 0.0
    """The same for the L1 distance of the frames, in place of `losses.output_l1`."""
    ratio_every: int = 20
    """Steps between two measurements of gradient norms for the ratios; each takes a backward pass a term."""
    feature_layer: FeatureLayer = "hr"
    """Which features: what the last convolution reads (hr), that before its activation, or right after the shuffle."""
    spatial_features: SpatialFeatures = "sr"
    """Where the attention maps are taken: F^SR as in the paper (sr), or the aligned, low-resolution F^LR (lr)."""
    attention_kind: MapKind = "sum_squares"
    """How channels become one map: equation 2 (sum of squares), 1 (sum of magnitudes) or 3 (largest square)."""
    normalization: Normalization = "unit"
    """`none` as written in the paper, or each map divided by its length."""
    memory: MemoryMode = "frozen"
    """How the shared ConvLSTM is kept: trained jointly it can lower its loss by ignoring the input."""
    memory_channels: int = 8
    """Hidden channels of the ConvLSTM."""
    memory_stride: int = 2
    """Features are averaged over squares of this side before the ConvLSTM reads them. At the scale or above, the term
    asks for no detail between low-resolution pixels; 1 keeps all of it, at three times the cost of 2."""
    standardize: bool = True
    """Give each channel of a clip zero mean and unit variance before the ConvLSTM; else biases alone lower the loss."""
    cells: Cells = "last"
    """Which memory cells are compared: the `last` of the clip, as in the paper, or `all`."""
    border_frames: int = 1
    """Frames at either end of the clip whose cells are not compared: networks complete their neighbors by copies."""
    memory_seed: int = 0
    """Of the ConvLSTM's first weights; not the run's own seed, so that several runs share one teacher cache."""
    freeze_below: float = 1e-8
    """With `trained_then_frozen`: the temporal loss at which the ConvLSTM is frozen for good."""
    schedule: Schedule = "warm_up"
    """Weights of all distillation terms: constant, rising from 0, or falling to 0, over `schedule_steps`."""
    schedule_steps: int = 100
    """Length of that rise or fall."""
    losses: OtherLosses = field(default_factory=OtherLosses)
    """Other ways to teach, by weight."""

    @property
    def ratios(self) -> dict[str, float]:
        """Gradient-norm ratios above 0, by term."""
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
    def chosen_others(self) -> dict[str, float]:
        """Weights of the other terms that are computed; 0 for one whose ratio is set."""
        return self.losses.chosen | ({"output_l1": 0.0} if self.output_ratio else {})


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How the student moves: Adam or AdamW, one cosine from `learning_rate` to `final_learning_rate`."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with decoupled weight decay."""
    learning_rate: float = 4e-4
    """At the start; EDVR-M in BasicSR: 4e-4."""
    final_learning_rate: float = 1e-6
    """At the last step."""
    offset_lr_mult: float = 0.1
    """Learning rate of the layers that make offsets and masks of deformable convolutions, or flow, relative to the
    others; at 1 the masks of a fresh EDVR were seen to close within a hundred steps (BasicSR: 1, with 600k steps)."""
    betas: tuple[float, float] = (0.9, 0.99)
    """As in the EDVR recipes."""
    weight_decay: float = 0.0
    """Used by AdamW."""
    max_grad_norm: float = 1.0
    """Largest norm of the whole gradient; 0 switches clipping off."""
    ema_decay: float = 0.0
    """Decay of the running average of the student's weights that is kept beside it (EDVR: 0.999); 0: none is kept."""
    gradient_accumulation_steps: int = 1
    """In how many pieces a batch goes through the networks: the same update in less memory."""
    charbonnier_eps: float = 1e-3
    """eps of the reconstruction loss sqrt(d^2 + eps^2), a mean over all elements; the paper does not state one."""


MINIMUMS: dict[str, int] = {
    "steps": 1,
    "data.crop_size": 8,
    "data.num_frames": 1,
    "data.batch_size": 1,
    "snapshot_every": 1,
    "save_every": 1,
    "distillation.memory_channels": 1,
    "distillation.memory_stride": 1,
    "distillation.border_frames": 0,
    "distillation.ratio_every": 1,
    "distillation.spatial_ratio": 0,
    "distillation.temporal_ratio": 0,
    "distillation.output_ratio": 0,
    "student.hr_channels": 0,
    "teacher.hr_channels": 0,
    "plain.hr_channels": 0,
    "threads": 0,
    "gradient_stats_every": 0,
    "data.num_fixed_crops": 0,
    "data.augmentations_per_crop": 1,
    "data.num_workers": 0,
    "optimizer.gradient_accumulation_steps": 1,
    "imitation_weight": 0,
    "alignment_loss_weight": 0,
    "flow_weight": 0,
}
"""Numbers that cannot be smaller; forms say so beforehand."""

BEFORE: dict[str, Any] = {"standardize": False, "cells": "last", "border_frames": 0}
"""Settings of the distillation that runs of older versions do not record, and what those runs did."""

FRAMES_FOR_MEMORY = 7
"""Frames of a clip from which the temporal term is meant to be used; with fewer, most of what it compares has seen one
or two whole windows only."""

SCALES = (2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training: who learns, from whom, on what, for how long."""

    student: Network = field(default_factory=lambda: Network(name="vespcn"))
    """The network that is trained."""
    teacher: Network = field(default_factory=Network)
    """The network that teaches; without a name the run is plain: the same loop with no distillation."""
    plain: Network = field(default_factory=Network)
    """The student's architecture trained without a teacher: snapshots show it at the step at which its weights were
    saved, and at no other. Optional."""
    plain_run: str = ""
    """A run of the student without a teacher, finished or live: snapshots show it at the same steps. A run folder, or
    `pretrained:NAME`; of the same validation clip, scale and network."""
    data: Data = field(default_factory=Data)
    distillation: Distillation = field(default_factory=Distillation)
    optimizer: Optimizer = field(default_factory=Optimizer)
    imitation_weight: float = 1e-4
    """Of a student `privileged:NAME`: how closely its encoder imitates low resolution (PISR: 1e-4); others: ignored."""
    alignment_loss_weight: float = 0.0
    """Of the student's own loss for its alignment (VESPCN: its neighbors, warped, look like the reference; EDVR:
    likewise its features). The same with and without a teacher; 0 switches it off."""
    flow_weight: float = 0.0
    """Weight of the end-point error, in low-resolution pixels, of the student's flow (VESPCN, BasicVSR, IconVSR,
    BasicVSR++) or of the offsets of its deformable convolutions (EDVR, TDAN; rounded at half a pixel), on clips from
    `data.stills`, whose true flow is known; 0 switches it off. EDVR learns its offsets with `offset_rate` 1."""
    teacher_cache_dir: str = ""
    """A folder for what the teacher says of the fixed crops (`data.num_fixed_crops`): computed once, read ever
    after."""
    steps: int = 2000
    """How many times the student is updated."""
    seed: int = 0
    """Every random draw is a function of it and of the step."""
    precision: Precision = "auto"
    """auto: bf16 where this machine computes it faster than fp32, else fp32; the run records the choice. bf16 runs the
    convolutions under autocast; fp16 too, with a scaled loss, on CUDA; losses, offsets and residuals stay fp32."""
    device: str = "auto"
    """auto: CUDA, else MPS, else the CPU."""
    threads: int = 0
    """CPU threads; 0: as many as there are cores."""
    snapshot_every: int = 200
    """Steps between two looks at the validation clip."""
    save_every: int = 100
    """Steps between two states that an exact resume can start from; at most this many steps are lost."""
    gradient_stats_every: int = 100
    """Steps between two measurements of each term's gradient and the angles between them; 0: never."""
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the run folder; needs the package tensorboard."""
    stop_after_seconds: float = 0.0
    """Stop by itself, resumable, after this long; 0: never."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is computed."""
        _check_kinds(self)
        for name, least in MINIMUMS.items():
            value = attrgetter(name)(self)
            if value < least:
                raise ConfigError(f"{name}: want {least} or more, got {value}")
        if self.data.scale not in SCALES:
            raise ConfigError(f"data.scale: want 2, 3 or 4, got {self.data.scale}")
        if not self.student.name:
            raise ConfigError("student.name: a run needs a student; see `workbench networks`")
        if not 0 < self.data.stills_min_speed <= 3:
            raise ConfigError(
                f"data.stills_min_speed: want more than 0 and at most 3, got {self.data.stills_min_speed}"
            )
        if not 0 <= self.data.stills_share <= 1:
            raise ConfigError(f"data.stills_share: want 0 to 1, got {self.data.stills_share}")
        if not 0 <= self.data.moving_share <= 1:
            raise ConfigError(f"data.moving_share: want 0 to 1, got {self.data.moving_share}")
        if self.data.moving_above < 0:
            raise ConfigError(f"data.moving_above: want 0 or more, got {self.data.moving_above}")
        if not self.data.clips and self.data.uses_footage:
            raise ConfigError(
                "data.clips: name at least one clip, see `workbench samples`; or train on still images alone: "
                "data.stills, and data.stills_share 1"
            )
        if self.plain.name and self.plain_run:
            raise ConfigError(f"plain_run: want none beside plain.name ({self.plain.name}), got {self.plain_run!r}")
        if self.optimizer.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate: want a positive number, got {self.optimizer.learning_rate}")
        weights = {name: getattr(self.distillation, name) for name in ("spatial_weight", "temporal_weight")}
        weights |= {f"others.{name}": weight for name, weight in self.distillation.losses.chosen.items()}
        for name, weight in weights.items():
            if weight < 0:
                raise ConfigError(f"distillation.{name}: want 0 or more, got {weight}")
        self._check_ratios()
        if not 0 <= self.optimizer.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay: want 0 or more and less than 1, got {self.optimizer.ema_decay}")
        if self.flow_weight and not self.data.uses_stills:
            raise ConfigError(
                f"flow_weight: want data with true flow for a weight of {self.flow_weight:g}, got footage alone; name "
                "still images (data.stills), or set it to 0"
            )
        if self.teacher_cache_dir:
            self._check_cache()
        if self.data.batch_size % self.optimizer.gradient_accumulation_steps:
            raise ConfigError(
                f"optimizer.gradient_accumulation_steps: want a divisor of data.batch_size {self.data.batch_size}, got "
                f"{self.optimizer.gradient_accumulation_steps}"
            )
        if self.teacher.name and not self.teacher.weights:
            raise ConfigError(
                f"teacher.weights: {self.teacher.name} would teach with random weights; name a file or pretrained:NAME"
            )

    def _check_ratios(self) -> None:
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

    def _check_cache(self) -> None:
        wanted = self.distillation
        if self.data.uses_stills:
            raise ConfigError(
                f"teacher_cache_dir: clips made from data.stills ({self.data.stills}) never repeat, so the teacher's "
                "outputs cannot be kept; leave the cache out (--teacher-cache-dir ''), or the still images"
            )
        if not self.data.num_fixed_crops:
            raise ConfigError(
                "teacher_cache_dir: only fixed crops can be kept; set data.num_fixed_crops to their number"
            )
        if wanted.uses_temporal and wanted.memory != "frozen":
            raise ConfigError(
                "teacher_cache_dir: want distillation.memory frozen, since cells of a trained memory change, got "
                f"{wanted.memory}"
            )
        if read := sorted(wanted.losses.chosen.keys() - READ_PICTURES):
            raise ConfigError(
                f"teacher_cache_dir: whole features are too large to keep, and {', '.join(read)} reads them"
            )

    @property
    def distils(self) -> bool:
        """Whether there is a teacher and something to learn from it."""
        wanted = self.distillation
        return bool(self.teacher.name and (wanted.uses_spatial or wanted.uses_temporal or wanted.chosen_others))

    @property
    def needs_features(self) -> bool:
        """Whether both networks must have high-resolution features."""
        wanted = self.distillation
        read_whole = wanted.losses.chosen.keys() - READ_PICTURES
        return self.distils and bool(wanted.uses_spatial or wanted.uses_temporal or read_whole)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> RunConfig:
        """Settings read back from JSON.

        Raises:
            ConfigError: a name that is not a setting; the nearest one is suggested.

        Example:
            >>> RunConfig.from_dict({"stepz": 3})
            Traceback (most recent call last):
            workbench.errors.ConfigError: no setting 'stepz'; did you mean 'steps'?
        """
        return _build(cls, saved, "")

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
        taught = saved.get("distillation")
        if isinstance(taught, Mapping):
            saved = {**saved, "distillation": {**BEFORE, **taught}}
        return cls.from_dict(saved)


def flat(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as plain JSON has them.

    Example:
        >>> flat({"data": {"crop_size": 32}, "clips": ("a", "b")})
        {'data.crop_size': 32, 'clips': ['a', 'b']}
    """
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            named |= flat(value, f"{path}{name}.")
        else:
            named[path + name] = list(value) if isinstance(value, tuple) else value
    return named


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings, nested or flat, that both have and that are not equal: dotted name -> (old, new).

    Example:
        >>> differences({"steps": 3, "seed": 0}, {"steps": 4, "seed": 0})
        {'steps': (3, 4)}
    """
    old, new = flat(old), flat(new)
    return {name: (value, new[name]) for name, value in old.items() if name in new and new[name] != value}


def changed(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A config with some settings changed, by dotted name.

    Example:
        >>> changed(cpu(), {"data.crop_size": 16, "seed": 3}).data.crop_size
        16

    Raises:
        ConfigError: no such setting, or one that cannot be.
    """
    whole = config.to_dict()
    for name, value in settings.items():
        *groups, last = name.split(".")
        place = whole
        for group in groups:
            place = place.get(group)
            if not isinstance(place, dict):
                raise ConfigError(f"no setting {name!r}")
        place[last] = value
    return RunConfig.from_dict(whole)


def _build(cls: Any, saved: Mapping[str, Any], path: str) -> Any:
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for name, value in saved.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"no setting {path + name!r}" + (f"; did you mean {path + near[0]!r}?" if near else ""))
        nested = globals().get(str(known[name].type))
        if is_dataclass(nested):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path + name}: want a group of settings, got {value!r}")
            values[name] = _build(nested, value, f"{path}{name}.")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _check_kinds(settings: Any, path: str = "") -> None:
    """Refuse values that a field cannot hold: what comes out of JSON or a form has not been checked by anybody."""
    plain = {
        int: (int, "a whole number"),
        bool: (bool, "true or false"),
        str: (str, "text"),
        float: ((int, float), "a number"),
    }
    for name, kind in get_type_hints(type(settings)).items():
        value, wanted = getattr(settings, name), ""
        if isinstance(kind, type) and is_dataclass(kind):
            if isinstance(value, kind):
                _check_kinds(value, f"{path}{name}.")
            else:
                wanted = "a group of settings"
        elif get_origin(kind) is Literal:
            wanted = "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
        elif get_origin(kind) is tuple:
            wanted = "" if isinstance(value, tuple) else "a list"
        elif not isinstance(value, plain[kind][0]) or (isinstance(value, bool) and kind is not bool):
            wanted = plain[kind][1]
        elif kind is float and not math.isfinite(value):
            wanted = "a finite number"
        if wanted:
            raise ConfigError(f"{path}{name}: want {wanted}, got {value!r}")


TEACHER = Network(name="edvr_tiny", weights="pretrained:demo_teacher")
STUDENT = Network(name="vespcn_s")
PLAIN = Network(name="vespcn_s", weights="pretrained:demo_plain")


def smoke() -> RunConfig:
    """Two tiny steps on a CPU, with the shipped teacher: for tests, and to see that an installation works.

    In fp32, so that every machine computes the same losses.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        steps=2,
        precision="fp32",
        snapshot_every=1,
        save_every=1,
        data=Data(
            clips=("carphone[0:12]",),
            validation_clip="bigbuckbunny[100:104, 64:128, 96:160]",
            crop_size=16,
            num_frames=7,
            batch_size=1,
        ),
    )


def demo() -> RunConfig:
    """Two minutes of live distillation on a CPU, beside the plain student at the same steps.

    A fast machine takes all steps in less. In fp32 on every machine, as the shipped run of the plain student.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain_run="pretrained:live_demo_plain",
        steps=1200,
        precision="fp32",
        stop_after_seconds=120,
        snapshot_every=100,
        save_every=100,
        data=Data(
            crop_size=24,
            num_frames=7,
            batch_size=1,
            moving_share=0.5,
            validation_clip="bigbuckbunny[100:108, 16:144, 128:304]",
        ),
        optimizer=Optimizer(learning_rate=1e-3),
    )


def cpu() -> RunConfig:
    """The demo set, in minutes on a CPU: `edvr_tiny` teaches `vespcn_s` on the sample clips."""
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain=PLAIN,
        steps=1000,
        snapshot_every=200,
        data=Data(crop_size=24, num_frames=7, batch_size=2, moving_share=0.5),
        optimizer=Optimizer(learning_rate=1e-3, final_learning_rate=5e-6),
    )


def cpu_long() -> RunConfig:
    """What ships: `edvr_s` teaches `vespcn_s` its pictures, on the experiment's footage; half an hour on a CPU core.

    The way to teach is the one that measurably helped (docs/experiment.md); with `--distillation.spatial-weight` and
    `--distillation.temporal-weight` it is space-time distillation. The crops are fixed, so the teacher speaks once for
    all steps, which takes half of that time. The footage is listed in docs/data.md; any other of yours does as well:
    `--data.clips`. In fp32 on every machine, as the numbers of docs/experiment.md were made.
    """
    steps = 1500
    return RunConfig(
        student=STUDENT,
        teacher=Network(name="edvr_s", weights="pretrained:edvr_s"),
        plain=Network(name="vespcn_s", weights="pretrained:vespcn_plain"),
        steps=steps,
        precision="fp32",
        snapshot_every=steps // 5,
        data=Data(
            clips=("data/experiment",),
            crop_size=32,
            num_frames=5,
            batch_size=4,
            num_fixed_crops=600,
            augmentations_per_crop=4,
        ),
        distillation=Distillation(
            spatial_weight=0.0, temporal_weight=0.0, schedule_steps=steps // 20, losses=OtherLosses(output_l1=2.0)
        ),
        optimizer=Optimizer(learning_rate=1e-3, final_learning_rate=1e-6),
        teacher_cache_dir="runs/cache",
    )


def paper() -> RunConfig:
    """EDVR-L teaches VESPCN as the STD paper describes it; what it leaves open is ours. For a GPU and your own data.

    As written: sum of squares without normalization, one shared ConvLSTM trained until its loss is below 1e-8, which
    reads every pixel of features that are not standardized; both networks have 64 of them.
    Not stated in the paper: both weights, eps, the ConvLSTM's size, data, crop, batch, steps.
    """
    return RunConfig(
        teacher=Network(name="edvr_l", weights="edvr_l.safetensors"),
        steps=300_000,
        snapshot_every=5000,
        save_every=1000,
        data=Data(crop_size=64, num_frames=7, batch_size=8),
        distillation=Distillation(
            normalization="none",
            memory="trained_then_frozen",
            memory_channels=32,
            memory_stride=1,
            schedule="constant",
            temporal_weight=0.03,
            standardize=False,
            border_frames=0,
        ),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "smoke": smoke,
    "demo": demo,
    "cpu": cpu,
    "cpu_long": cpu_long,
    "paper": paper,
}

__all__ = [
    "PRESETS",
    "READ_PICTURES",
    "Data",
    "Distillation",
    "Network",
    "Optimizer",
    "OtherLosses",
    "RunConfig",
    "replace",
]
