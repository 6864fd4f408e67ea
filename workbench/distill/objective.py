"""Training objective of a student: loss terms by name, unweighted, and their weights at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.aliases import LOSS_TERMS
from workbench.choices import AttentionKind, Normalization, Schedule, SpatialFeatures
from workbench.data.sampling.true_flow import TrueFlow
from workbench.distill.losses import DistillationInputs, DistillationLoss
from workbench.distill.ratio import GradientRatio
from workbench.distill.spatial import attention_map, map_distance
from workbench.distill.temporal import TemporalMemory, cell_deviation, collapse_index, temporal_distillation
from workbench.errors import ConfigError
from workbench.models.layers.deformable import offset_error
from workbench.models.layers.flow import end_point_error
from workbench.models.privileged import imitation
from workbench.models.video_sr import Upscaled, WindowOffsets

Terms = dict[str, Tensor]
Diagnostics = dict[str, Tensor | float]


def charbonnier(upscaled: Tensor, high: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Return the reconstruction loss: a smooth L1, a mean over all elements.

    .. math:: L_{rec} = \operatorname{mean} \sqrt{(SR - HR)^2 + \epsilon^2}

    The paper names the loss but not its eps. EDVR's code sums instead of averaging and has no square on eps.

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


@dataclass(frozen=True)
class TeacherTargets:
    """Teacher outputs needed by the losses on one batch: made by :meth:`Objective.teacher_targets`, or from a cache.

    Attributes:
        frames: ``(B, T, 3, s*H, s*W)``.
        maps: attention maps ``(B, T, s*H, s*W)``; None without a spatial term.
        cells: memory cells that are compared, ``(B, T', K, h, w)``; None without a temporal term.
        features: F^SR, for losses that read it whole; None otherwise.
    """

    frames: Tensor
    maps: Tensor | None = None
    cells: Tensor | None = None
    features: Tensor | None = None

    def to(self, device: torch.device) -> TeacherTargets:
        """Return the targets on a device, in float32; 8-bit frames become [0, 1]."""
        frames = self.frames.to(device, non_blocking=True)
        frames = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        rest = (self.maps, self.cells, self.features)
        return TeacherTargets(frames, *(p if p is None else p.to(device, non_blocking=True).float() for p in rest))

    def pin_memory(self) -> TeacherTargets:
        """Return the targets in page-locked memory."""
        parts = (self.frames, self.maps, self.cells, self.features)
        return TeacherTargets(*(part if part is None else part.pin_memory() for part in parts))  # pyright: ignore


class Objective(nn.Module):
    r"""Training objective of a student.

    .. math:: L = L_{rec} + \lambda_1 L_{SD} + \lambda_2 L_{TD} + \sum_k w_k L_k

    A term whose weight and ratio are 0 is not computed. A plain run has the reconstruction only. Everything that is
    trained with the student (the ConvLSTM, an adapter, a regressor) is a parameter of this module, which is saved with
    the run.

    Args:
        eps: of the reconstruction.
        spatial_weight: lambda 1.
        temporal_weight: lambda 2.
        spatial_features: maps of F^SR (``sr``), or of F^LR, ``s`` times smaller (``lr``; ours, for comparison).
        attention_kind: reduction of channels to a map.
        normalization: of the maps.
        memory: the shared ConvLSTM; needed where ``temporal_weight`` or its ratio is not 0.
        losses: other distillation losses: name -> (weight, loss); see ``distill.losses``.
        schedule: ``warm_up`` raises the weights of all distillation terms linearly from 0 over ``schedule_steps``,
            ``decay`` lowers them to 0 over that number of steps.
        schedule_steps: see ``schedule``; 0: constant.
        ratios: gradient-norm ratios by term (``spatial``, ``temporal``, or one of ``losses``), in place of weights; see
            :class:`~workbench.distill.ratio.GradientRatio`.
        ratio_every: steps between two measurements of them.
        imitation_weight: of a privileged student's second term, see ``models.privileged.imitation``; no schedule.
        alignment_loss_weight: of the network's own loss for its alignment, see ``Upscaled.alignment_loss``; no
            schedule.
        flow_weight: of the end-point error of the student's flow, or of its sampling offsets, where the data has the
            true flow; no schedule.

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
        chosen = {name: pair for name, pair in (losses or {}).items() if pair[0] or name in ratios}
        self.uses_spatial = bool(spatial_weight or "spatial" in ratios)
        self.uses_temporal = bool(temporal_weight or "temporal" in ratios)
        if self.uses_temporal and memory is None:
            raise ConfigError("temporal_weight or its ratio is not 0, so a TemporalMemory is needed")
        if unknown := ratios.keys() - {"spatial", "temporal", *chosen}:
            raise ConfigError(f"ratios: want names of terms, got {', '.join(sorted(unknown))}, which this run has not")
        self.eps = eps
        self.spatial_features: SpatialFeatures = spatial_features
        self.attention_kind: AttentionKind = attention_kind
        self.normalization: Normalization = normalization
        self.schedule: Schedule = schedule
        self.schedule_steps = schedule_steps
        self.memory = memory if self.uses_temporal else None
        self.ratio = GradientRatio(ratios, every=ratio_every) if ratios else None
        self._losses = {name: loss for name, (_, loss) in chosen.items()}
        trained = {name: loss.compute for name, loss in self._losses.items() if isinstance(loss.compute, nn.Module)}
        self.losses = nn.ModuleDict(trained)
        self.distillation_weights = {name: weight for name, (weight, _) in chosen.items()}
        if self.uses_temporal:
            self.distillation_weights = {"temporal": temporal_weight} | self.distillation_weights
        if self.uses_spatial:
            self.distillation_weights = {"spatial": spatial_weight} | self.distillation_weights
        supervised = {"alignment": alignment_loss_weight, "flow": flow_weight, "imitation": imitation_weight}
        self.supervised_weights = {"reconstruction": 1.0} | {name: w for name, w in supervised.items() if w}

    @property
    def distills(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.distillation_weights)

    @property
    def needs_features(self) -> bool:
        """Whether F^SR of both networks is needed, or their frames are enough."""
        return self.uses_spatial or self.uses_temporal or self.needs_full_features

    @property
    def needs_full_features(self) -> bool:
        """Whether a loss reads F^SR of the teacher itself, not only maps or cells computed from it."""
        return any(loss.needs_features for loss in self._losses.values())

    def weights(self, step: int) -> dict[str, float]:
        """Return the weight of each term at a step (the first step is 1)."""
        factor = 1.0
        if self.schedule_steps and self.schedule == "warm_up":
            factor = min(step / self.schedule_steps, 1.0)
        elif self.schedule_steps and self.schedule == "decay":
            factor = max(1.0 - (step - 1) / self.schedule_steps, 0.0)
        weights = self.distillation_weights | (self.ratio.weights() if self.ratio is not None else {})
        return self.supervised_weights | {name: factor * weight for name, weight in weights.items()}

    def teacher_targets(self, teacher: Upscaled) -> TeacherTargets:
        """Return the teacher outputs needed by the losses: everything that does not depend on the student.

        Raises:
            ConfigError: features are needed and missing.
        """
        if not self.needs_features:
            return TeacherTargets(teacher.frames.detach())
        features = _features(teacher).detach()
        return TeacherTargets(
            teacher.frames.detach(),
            maps=self._maps(teacher).detach() if self.uses_spatial else None,
            cells=self.memory.compared(self.memory.teacher_cells(features)) if self.memory is not None else None,
            features=features if self.needs_full_features else None,
        )

    def terms(
        self,
        student: Upscaled,
        high: Tensor,
        teacher: Upscaled | TeacherTargets | None = None,
        low: Tensor | None = None,
        flow: TrueFlow | None = None,
    ) -> tuple[Terms, Diagnostics]:
        """Compute every term, unweighted, and diagnostics for the log.

        Args:
            student: its output for the clip, with features where a term needs them.
            high: ground truth ``(B, T, 3, s*H, s*W)``.
            teacher: the teacher's output for the clip, or the targets computed from it; None for a plain run.
            low: the low resolution ``(B, T, 3, H, W)``, which a privileged student imitates.
            flow: true flow of the low resolution, where the data has it.

        Returns:
            Terms by name, and diagnostics by name (``collapse_index``, ``cell_deviation``, and ``memory_frozen``: 1
            while the ConvLSTM is not trained). Nothing waits for the device.
        """
        terms, diagnostics = self._supervised_terms(student, high, low, flow), {}
        if not self.distills:
            return terms, diagnostics
        if teacher is None:
            raise ConfigError("distillation needs the features of both networks, or their frames: there is no teacher")
        targets = self.teacher_targets(teacher) if isinstance(teacher, Upscaled) else teacher
        if self.uses_spatial:
            maps = _require_target(targets.maps, "maps")
            terms["spatial"] = map_distance(self._maps(student), maps, normalization=self.normalization)
        if self.memory is not None:
            teacher_cells = _require_target(targets.cells, "memory cells").float()
            student_cells = self.memory.compared(self.memory.student_cells(_features(student)))
            terms["temporal"] = temporal_distillation(student_cells, teacher_cells, cells="all")
            diagnostics["collapse_index"] = collapse_index(teacher_cells)
            diagnostics["cell_deviation"] = cell_deviation(teacher_cells)
            diagnostics["memory_frozen"] = float(self.memory.is_frozen)
        inputs = DistillationInputs(student, Upscaled(targets.frames, targets.features), high)
        return terms | {name: loss.compute(inputs) for name, loss in self._losses.items()}, diagnostics

    def _supervised_terms(self, student: Upscaled, high: Tensor, low: Tensor | None, flow: TrueFlow | None) -> Terms:
        """Compute the terms that need no teacher."""
        terms: Terms = {"reconstruction": charbonnier(student.frames, high, eps=self.eps)}
        if "alignment" in self.supervised_weights:
            if student.alignment_loss is None:
                raise ConfigError(
                    "alignment_loss_weight: want a student in training that returns an alignment loss (VESPCN, EDVR)"
                )
            terms["alignment"] = student.alignment_loss
        if "flow" in self.supervised_weights:
            terms["flow"] = _flow_error(student, flow)
        if "imitation" in self.supervised_weights:
            if student.encoded is None or low is None:
                raise ConfigError("imitation_weight: want a privileged student, and the low resolution it imitates")
            terms["imitation"] = imitation(student.encoded, low)
        return terms

    def _maps(self, upscaled: Upscaled) -> Tensor:
        features = _features(upscaled)
        if self.spatial_features == "lr":
            if upscaled.aligned is None:
                raise ConfigError("spatial_features: lr needs the aligned features of both networks; one has none")
            features = upscaled.aligned.float()
        return attention_map(features, kind=self.attention_kind, normalization=self.normalization)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
        """Load the tensors, also under the names of checkpoints of format 1."""
        for key in [key for key in state_dict if key.startswith(f"{prefix}others.")]:
            old, _, rest = key.removeprefix(f"{prefix}others.").partition(".")
            state_dict[f"{prefix}losses.{LOSS_TERMS.get(old, old)}.{rest}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _flow_error(student: Upscaled, flow: TrueFlow | None) -> Tensor:
    """Return the mean end-point error in both directions, over the visible pixels of the clips whose flow is known."""
    if student.offsets is not None:
        return _offsets_error(student.offsets, flow)
    if student.flow is None:
        raise ConfigError(
            "flow_weight: want a student in training that returns flow or offsets (VESPCN, BasicVSR, EDVR, TDAN), got "
            "one without"
        )
    if flow is None:
        return 0 * (student.flow.to_next.sum() + student.flow.to_previous.sum())
    known = flow.valid.view(-1, 1, 1, 1)
    next_, previous = (
        end_point_error(estimated, true, known & ~hidden)
        for estimated, true, hidden in (
            (student.flow.to_next, flow.to_next, flow.hidden_next),
            (student.flow.to_previous, flow.to_previous, flow.hidden_previous),
        )
    )
    return (next_ + previous) / 2


def _offsets_error(sampled: WindowOffsets, flow: TrueFlow | None) -> Tensor:
    """Return the mean error of all layers' offsets, over the visible pixels of the clips whose flow is known."""
    if flow is None:
        return 0 * torch.stack([offset.sum() for offset in sampled.offsets]).sum()
    true, hidden = flow.between(sampled.references, sampled.neighbors)
    visible = flow.valid.view(-1, 1, 1, 1, 1) & ~hidden
    errors = [
        offset_error(offset, true, visible, stride=stride)
        for offset, stride in zip(sampled.offsets, sampled.strides, strict=True)
    ]
    return torch.stack(errors).mean()


def _features(upscaled: Upscaled) -> Tensor:
    if upscaled.features is None:
        raise ConfigError("distillation needs the features of both networks; call them with return_features='hr'")
    return upscaled.features.float()


def _require_target(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ConfigError(f"the teacher outputs have no {name}; they were made for another objective")
    return value
