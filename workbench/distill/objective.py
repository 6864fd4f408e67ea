"""Training objective of a student: loss terms by name, unweighted, and their weights at each step.

Symbols: ``workbench.models.video_sr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from workbench.aliases import LOSS_TERMS
from workbench.choices import AttentionKind, FeatureLayer, Normalization, Schedule, SpatialFeatures
from workbench.data.sampling.true_flow import TrueFlow
from workbench.distill.losses import DistillationInputs, DistillationLoss, TeacherTargets
from workbench.distill.ratio import GradientRatio
from workbench.distill.spatial import attention_map, map_distance
from workbench.distill.temporal import TemporalMemory, cell_deviation, cell_distance, collapse_index
from workbench.errors import ConfigError
from workbench.models.layers.deformable import offset_error
from workbench.models.layers.flow import EstimatedFlow, end_point_error
from workbench.models.privileged import imitation
from workbench.models.video_sr import Upscaled, VideoSR, WindowOffsets

Terms = dict[str, Tensor]
Diagnostics = dict[str, Tensor | float]


def charbonnier(upscaled: Tensor, high: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Return the Charbonnier loss (a differentiable L1), the reconstruction term: a mean over all elements.

    .. math:: L_{rec} = \operatorname{mean} \sqrt{(SR - HR)^2 + \epsilon^2}

    STD does not state its eps. EDVR's code has the sum of :math:`\sqrt{(SR - HR)^2 + \epsilon}`.

    Example:
        >>> charbonnier(torch.zeros(1), torch.full((1,), 3.0), eps=4.0).item()
        5.0
    """
    return ((upscaled.float() - high.float()).square() + eps**2).sqrt().mean()


def weighted_sum(terms: Terms, weights: dict[str, float]) -> Tensor:
    """Return the sum of ``weight * term``.

    Example:
        >>> weighted_sum({"reconstruction": torch.tensor(2.0)}, {"reconstruction": 0.5}).item()
        1.0

    Raises:
        ConfigError: a term without a weight, or a weight without a term.
    """
    if terms.keys() != weights.keys():
        raise ConfigError(f"terms {sorted(terms)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


class Objective(nn.Module):
    r"""Training objective of a student.

    .. math::
        L = \underbrace{L_{rec} + w_a L_{align} + w_f L_{flow} + w_i L_{imit}}_{\text{without a teacher}}
        + \underbrace{\lambda_1 L_{SD} + \lambda_2 L_{TD} + \sum_k w_k L_k}_{\text{distillation}}

    A term whose weight and ratio are 0 is not computed; only the reconstruction is always there. Everything that is
    trained with the student (the ConvLSTM, an adapter, a regressor) is a parameter of this module, which is saved with
    the run.

    Args:
        eps: of the Charbonnier loss.
        spatial_weight: lambda 1.
        temporal_weight: lambda 2.
        spatial_features: maps of F^SR (``sr``), or of F^LR, ``s`` times smaller (``lr``; ours, for comparison).
        attention_kind: reduction of channels to a map.
        normalization: normalization of the maps.
        memory: the shared ConvLSTM; needed where ``temporal_weight`` or its ratio is not 0.
        losses: other distillation losses: name -> (weight, loss); see ``distill.losses``.
        schedule: factor of all distillation weights over the first ``schedule_steps`` steps: ``warm_up`` raises it
            linearly from ``1 / schedule_steps`` at step 1 to 1, ``decay`` lowers it from 1 at step 1 to 0 at the step
            that follows them. ``constant`` ignores ``schedule_steps``.
        schedule_steps: length of the schedule; with 0 the factor is 1, whatever the schedule is.
        ratios: gradient-norm ratios by term (``spatial``, ``temporal``, or one of ``losses``), in place of weights; see
            :class:`~workbench.distill.ratio.GradientRatio`.
        ratio_every: steps between two measurements of the gradient norms.
        imitation_weight: weight of the L1 distance between the encoder output of a privileged network, which is trained
            here, and the low resolution (PISR, stage 1), see ``models.privileged.imitation``; no schedule.
        alignment_loss_weight: weight of the network's own loss for its alignment, see ``Upscaled.alignment_loss``; no
            schedule.
        flow_weight: weight of the end-point error of the student's flow, or of its sampling offsets, where the data has
            the true flow; no schedule.

    Raises:
        ConfigError: a temporal term without a memory, or a ratio of a term that does not exist.
    """

    def __init__(
        self,
        *,
        eps: float = 1e-3,
        spatial_weight: float = 0.0,
        temporal_weight: float = 0.0,
        spatial_features: SpatialFeatures = "sr",
        attention_kind: AttentionKind = "sum_squares",
        normalization: Normalization = "unit",
        memory: TemporalMemory | None = None,
        losses: Mapping[str, tuple[float, DistillationLoss]] | None = None,
        schedule: Schedule = "constant",
        schedule_steps: int = 0,
        ratios: Mapping[str, float] | None = None,
        ratio_every: int = 20,
        imitation_weight: float = 0.0,
        alignment_loss_weight: float = 0.0,
        flow_weight: float = 0.0,
    ) -> None:
        super().__init__()
        ratios = {name: ratio for name, ratio in (ratios or {}).items() if ratio}
        losses = {name: pair for name, pair in (losses or {}).items() if pair[0] or name in ratios}
        self.uses_spatial = bool(spatial_weight or "spatial" in ratios)
        self.uses_temporal = bool(temporal_weight or "temporal" in ratios)
        if self.uses_temporal and memory is None:
            raise ConfigError("temporal_weight or its ratio is not 0, so a TemporalMemory is needed")
        if unknown := ratios.keys() - {"spatial", "temporal", *losses}:
            raise ConfigError(f"ratios: want names of terms, got {', '.join(sorted(unknown))}, which this run has not")
        self.eps = eps
        self.spatial_features: SpatialFeatures = spatial_features
        self.attention_kind: AttentionKind = attention_kind
        self.normalization: Normalization = normalization
        self.schedule: Schedule = schedule
        self.schedule_steps = schedule_steps
        self.memory = memory if self.uses_temporal else None
        self.ratio = GradientRatio(ratios, every=ratio_every) if ratios else None
        self._losses = {name: loss for name, (_, loss) in losses.items()}
        trained = {name: loss.compute for name, loss in self._losses.items() if isinstance(loss.compute, nn.Module)}
        self.losses = nn.ModuleDict(trained)
        self.distillation_weights = {"spatial": spatial_weight} if self.uses_spatial else {}
        self.distillation_weights |= {"temporal": temporal_weight} if self.uses_temporal else {}
        self.distillation_weights |= {name: weight for name, (weight, _) in losses.items()}
        optional = {"alignment": alignment_loss_weight, "flow": flow_weight, "imitation": imitation_weight}
        self.teacher_free_weights = {"reconstruction": 1.0} | {name: w for name, w in optional.items() if w}

    @property
    def distills(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.distillation_weights)

    @property
    def needs_features(self) -> bool:
        """Whether the losses need F^SR of both networks; otherwise frames are enough."""
        return self.uses_spatial or self.uses_temporal or self.compares_features

    @property
    def compares_features(self) -> bool:
        """Whether a loss reads F^SR itself, not only maps or cells computed from it."""
        return any(loss.reads == "features" for loss in self._losses.values())

    @property
    def compares_flow(self) -> bool:
        """Whether a loss reads the optical flow of both networks."""
        return any(loss.reads == "flow" for loss in self._losses.values())

    def weights_at(self, step: int) -> dict[str, float]:
        """Return the weight of each term at a step (the first step is 1)."""
        factor = 1.0
        if self.schedule_steps and self.schedule == "warm_up":
            factor = min(step / self.schedule_steps, 1.0)
        elif self.schedule_steps and self.schedule == "decay":
            factor = max(1.0 - (step - 1) / self.schedule_steps, 0.0)
        balanced = self.ratio.weights() if self.ratio is not None else {}  # in place of the fixed ones
        distillation = self.distillation_weights | balanced
        return self.teacher_free_weights | {name: factor * weight for name, weight in distillation.items()}

    def forward_teacher(self, teacher: VideoSR, clip: Tensor, feature_layer: FeatureLayer) -> Upscaled:
        """Return the teacher's output for a clip, with the features and the flow that the losses need."""
        upscaled = teacher(clip, return_features=feature_layer if self.needs_features else None)
        flow = teacher.estimate_flow(clip) if self.compares_flow else None
        if flow is None:
            return upscaled
        height, width = clip.shape[-2:]
        return replace(upscaled, flow=EstimatedFlow(*(part[..., :height, :width] for part in flow)))

    def teacher_targets(self, teacher: Upscaled) -> TeacherTargets:
        """Return the teacher outputs needed by the losses: everything that does not depend on the student.

        Raises:
            ConfigError: features are needed and missing.
        """
        flow = torch.stack(teacher.flow, dim=1).detach() if self.compares_flow and teacher.flow is not None else None
        if not self.needs_features:
            return TeacherTargets(teacher.frames.detach(), flow=flow)
        features, memory = _features(teacher).detach(), self.memory
        return TeacherTargets(
            teacher.frames.detach(),
            flow=flow,
            maps=self._maps(teacher).detach() if self.uses_spatial else None,
            # not detached: the ConvLSTM may be trained, also through the teacher's cells
            cells=memory.select_frames(memory.teacher_cells(features)) if memory is not None else None,
            features=features if self.compares_features else None,
        )

    def compute_terms(
        self,
        student: Upscaled,
        high: Tensor,
        teacher: Upscaled | TeacherTargets | None = None,
        low: Tensor | None = None,
        flow: TrueFlow | None = None,
    ) -> tuple[Terms, Diagnostics]:
        """Compute every term, unweighted, and diagnostics for the log.

        Args:
            student: the student's output for the clip, with features where a term needs them.
            high: ground truth ``(B, T, 3, s*H, s*W)``.
            teacher: the teacher's output for the clip, or the targets computed from it; None for a plain run.
            low: the low resolution ``(B, T, 3, H, W)``, which the encoder of a privileged network imitates.
            flow: true flow of the low resolution, where the data has it.

        Returns:
            Terms by name, and diagnostics by name (``collapse_index``, ``cell_deviation``, and ``memory_frozen``: 1
            while the ConvLSTM is not trained). Nothing waits for the device.
        """
        terms, diagnostics = self._teacher_free_terms(student, high, low, flow), {}
        if not self.distills:
            return terms, diagnostics
        if teacher is None:
            raise ConfigError("teacher: want its output, since distillation terms have weights, got None")
        targets = (self.teacher_targets(teacher) if isinstance(teacher, Upscaled) else teacher).dequantized()
        if self.uses_spatial:
            maps = _require_target(targets.maps, "maps")
            terms["spatial"] = map_distance(self._maps(student), maps, normalization=self.normalization)
        if self.memory is not None:
            teacher_cells = _require_target(targets.cells, "memory cells")
            student_cells = self.memory.select_frames(self.memory.student_cells(_features(student)))
            terms["temporal"] = cell_distance(student_cells, teacher_cells)
            diagnostics["collapse_index"] = collapse_index(teacher_cells)
            diagnostics["cell_deviation"] = cell_deviation(teacher_cells)
            diagnostics["memory_frozen"] = float(self.memory.is_frozen)
        inputs = DistillationInputs(student, targets, high)
        return terms | {name: loss.compute(inputs) for name, loss in self._losses.items()}, diagnostics

    def _teacher_free_terms(self, student: Upscaled, high: Tensor, low: Tensor | None, flow: TrueFlow | None) -> Terms:
        """Compute the terms that need no teacher."""
        terms: Terms = {"reconstruction": charbonnier(student.frames, high, eps=self.eps)}
        if "alignment" in self.teacher_free_weights:
            if student.alignment_loss is None:
                raise ConfigError(
                    "alignment_loss_weight: want a student in training that returns an alignment loss (VESPCN, EDVR)"
                )
            terms["alignment"] = student.alignment_loss
        if "flow" in self.teacher_free_weights:
            terms["flow"] = _flow_error(student, flow)
        if "imitation" in self.teacher_free_weights:
            if student.encoded is None or low is None:
                raise ConfigError("imitation_weight: want a privileged network, and the low resolution it imitates")
            terms["imitation"] = imitation(student.encoded, low)
        return terms

    def _maps(self, upscaled: Upscaled) -> Tensor:
        if self.spatial_features == "sr":
            features = _features(upscaled)
        elif upscaled.aligned is not None:
            features = upscaled.aligned.float()
        else:
            raise ConfigError("spatial_features: lr needs the aligned features of both networks; one has none")
        return attention_map(features, kind=self.attention_kind, normalization=self.normalization)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
        """Load the tensors, also under the names of checkpoints of format 1 (prefix ``others.``)."""
        for key in [key for key in state_dict if key.startswith(f"{prefix}others.")]:
            old, _, rest = key.removeprefix(f"{prefix}others.").partition(".")
            state_dict[f"{prefix}losses.{LOSS_TERMS.get(old, old)}.{rest}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _flow_error(student: Upscaled, flow: TrueFlow | None) -> Tensor:
    """Return the error of the student's flow or, if it aligns by deformable convolutions, of their offsets."""
    if student.offsets is not None:
        return _offsets_error(student.offsets, flow)
    if student.flow is not None:
        return _end_point_error(student.flow, flow)
    raise ConfigError(
        "flow_weight: want a student in training that returns flow or offsets (VESPCN, BasicVSR, EDVR, TDAN), got one "
        "without"
    )


def _end_point_error(estimated: EstimatedFlow, flow: TrueFlow | None) -> Tensor:
    """Return the mean error in both directions, over the visible pixels of the clips whose flow is known."""
    if flow is None:
        return _zero_loss(*estimated)
    valid = flow.valid.view(-1, 1, 1, 1)
    to_next = end_point_error(estimated.to_next, flow.to_next, valid & ~flow.hidden_next)
    to_previous = end_point_error(estimated.to_previous, flow.to_previous, valid & ~flow.hidden_previous)
    return (to_next + to_previous) / 2


def _offsets_error(sampling: WindowOffsets, flow: TrueFlow | None) -> Tensor:
    """Return the mean error of all layers' offsets, over the visible pixels of the clips whose flow is known."""
    if flow is None:
        return _zero_loss(*sampling.offsets)
    true_flow, occluded = flow.between(sampling.references, sampling.neighbors)
    visible = flow.valid.view(-1, 1, 1, 1, 1) & ~occluded
    errors = [
        offset_error(offset, true_flow, visible, stride=stride)
        for offset, stride in zip(sampling.offsets, sampling.strides, strict=True)
    ]
    return torch.stack(errors).mean()


def _zero_loss(*tensors: Tensor) -> Tensor:
    """Return 0, connected to the graph of some tensors: ``DistributedDataParallel`` needs a gradient in each step."""
    return 0 * torch.stack([tensor.sum() for tensor in tensors]).sum()


def _features(upscaled: Upscaled) -> Tensor:
    if upscaled.features is None:
        raise ConfigError(
            "distillation needs the features of both networks; call them with return_features, for example 'hr'"
        )
    return upscaled.features.float()


def _require_target(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ConfigError(f"the teacher outputs have no {name}; they were made for another objective")
    return value
