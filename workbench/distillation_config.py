"""Settings of the distillation, a part of :class:`workbench.config.RunConfig`, and the table of the other losses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from workbench.choices import (
    AttentionKind,
    Cells,
    FeatureLayer,
    MemoryMode,
    Normalization,
    Schedule,
    SpatialFeatures,
)

LEGACY_DISTILLATION: dict[str, Any] = {"standardize": False, "cells": "last", "border_frames": 0}
"""Settings that runs of older versions do not record, with the values that these runs were computed under."""

FRAMES_FOR_MEMORY = 7
"""Smallest recommended clip length for the temporal loss; in shorter clips most compared cells depend on one or two
complete windows only."""


def _loss(*, reads: Literal["frames", "features", "flow"]) -> float:
    """Return a field of :class:`OtherLosses`: weight 0, and the inputs of the loss."""
    return field(default=0.0, metadata={"reads": reads})


@dataclass(frozen=True, kw_only=True)
class OtherLosses:
    """Weights of other distillation losses, in addition to the space-time distillation or in its place; 0: not used.

    This is the table of these losses: a field has the loss's name and its inputs. A function of that name in
    ``distill.losses`` and a line here are all that a new loss needs.
    """

    output_l1: float = _loss(reads="frames")
    """L1 distance of the frames: the simplest distillation; it helped at a gradient-norm ratio of 3."""
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
    true_frame_difference: float = _loss(reads="frames")
    """The same with the ground truth in place of the teacher: the control of `frame_difference`."""
    teacher_better_l1: float = _loss(reads="frames")
    """L1 distance of the frames, only where the teacher is closer to the ground truth (ours)."""
    flow_l1: float = _loss(reads="flow")
    """L1 distance of the optical flow between neighboring frames, for networks that estimate it (ours)."""

    @property
    def chosen(self) -> dict[str, float]:
        """Losses whose value is not 0."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, kw_only=True)
class GradientRatios(OtherLosses):
    """Gradient-norm ratios of the losses to the reconstruction, each in place of the loss's weight; 0: the weight.

    The weight of a loss with a ratio must be 0 or its default, and is not used.
    """

    spatial: float = _loss(reads="features")
    """Distance of the attention maps, in place of `spatial_weight`: 0.1 is a tenth of the reconstruction's gradient."""
    temporal: float = _loss(reads="features")
    """Distance of the memory cells, in place of `temporal_weight`: 0.1 is a tenth of the reconstruction's gradient."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Distillation from the teacher, in addition to the ground truth; ignored without a teacher."""

    spatial_weight: float = 0.01
    """Weight of the distance of the attention maps (lambda 1); 0 switches it off. The presets, apart from `paper`, set
    `ratios.spatial` instead: on the shipped networks a ratio of 0.1 is a weight of about 0.004."""
    temporal_weight: float = 0.002
    """Weight of the distance of the memory cells (lambda 2); 0 switches it off. The presets, apart from `paper`, set
    `ratios.temporal` instead: on the shipped networks a ratio of 0.1 is a weight of about 0.02. Features that are not
    standardized, at stride 4, need about a hundred times as much for the same."""
    ratio_every: int = 20
    """Steps between two measurements of gradient norms for the ratios; each takes a backward pass per term."""
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
    compares no detail between low-resolution pixels; 1 keeps all of it, at more than twice the cost of 2."""
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
    ratios: GradientRatios = field(default_factory=GradientRatios)
    """Gradient-norm ratios, in place of weights."""

    @property
    def uses_spatial(self) -> bool:
        """Whether attention maps are compared."""
        return bool(self.spatial_weight or self.ratios.spatial)

    @property
    def uses_temporal(self) -> bool:
        """Whether memory cells are compared."""
        return bool(self.temporal_weight or self.ratios.temporal)

    @property
    def chosen_losses(self) -> dict[str, float]:
        """Weights of the other losses that are computed; 0 for one whose ratio is set."""
        balanced = [name for name in self.ratios.chosen if name not in ("spatial", "temporal")]
        return self.losses.chosen | dict.fromkeys(balanced, 0.0)

    @property
    def reading_features(self) -> list[str]:
        """Other losses that read F^SR of both networks; networks without it can use the rest only."""
        losses = OtherLosses.__dataclass_fields__
        return [name for name in self.chosen_losses if losses[name].metadata["reads"] == "features"]

    def weight_name(self, loss: str) -> str:
        """Return the name of the setting of a loss's weight."""
        return f"{loss}_weight" if loss in ("spatial", "temporal") else f"losses.{loss}"

    @property
    def cache_obstacle(self) -> str:
        """Reason why teacher outputs cannot be cached; empty where they can."""
        if self.uses_temporal and self.memory_mode != "frozen":
            return (
                f"want distillation.memory_mode frozen, as cells of a trained ConvLSTM change, got {self.memory_mode}"
            )
        if names := self.reading_features:
            return f"want no losses that read whole features, which are too large to cache, got {', '.join(names)}"
        return ""
