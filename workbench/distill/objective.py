"""What a student is asked: terms by name, unweighted; their weights and schedule in one place."""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.data.sampling.true_flow import TrueFlow
from workbench.distill.losses import DistillationInputs, DistillationLoss
from workbench.distill.ratio import GradientRatio
from workbench.distill.spatial import AttentionKind, Normalization, attention_map, map_distance
from workbench.distill.temporal import TemporalMemory, cell_deviation, collapse_index, temporal_distillation
from workbench.errors import ConfigError
from workbench.models.layers.deformable import offset_error
from workbench.models.layers.flow import end_point_error
from workbench.models.privileged import imitation
from workbench.models.video_sr import Upscaled, WindowOffsets

Terms = dict[str, Tensor]
Schedule = Literal["constant", "warm_up", "decay"]
SpatialFeatures = Literal["sr", "lr"]


def charbonnier(upscaled: Tensor, high: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Reconstruction: a smooth L1, a mean over all elements.

    .. math:: L_{rec} = \operatorname{mean} \sqrt{(SR - HR)^2 + \epsilon^2}

    The paper names the loss but not its eps. EDVR's code sums instead of averaging and has no square on eps.

    Example:
        >>> charbonnier(torch.zeros(1), torch.full((1,), 3.0), eps=4.0).item()
        5.0
    """
    return ((upscaled.float() - high.float()).square() + eps**2).sqrt().mean()


def weighted_sum(terms: Terms, weights: dict[str, float]) -> Tensor:
    """Sum of ``weight * term``; every term needs a weight and the reverse.

    Example:
        >>> weigh({"reconstruction": torch.tensor(2.0)}, {"reconstruction": 0.5}).item()
        1.0
    """
    if terms.keys() != weights.keys():
        raise ConfigError(f"terms {sorted(terms)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


@dataclass(frozen=True)
class TeacherTargets:
    """What the terms ask of a teacher on one batch, made by :meth:`Objective.taught`, or read from a cache.

    Attributes:
        frames: its pictures ``(B, T, 3, s*H, s*W)``.
        maps: its attention maps ``(B, T, s*H, s*W)``; None where there is no spatial term.
        cells: its memory cells that are compared, ``(B, T', K, h, w)``; None where there is no temporal term.
        features: F^SR, for terms that read it whole; None otherwise.
    """

    frames: Tensor
    maps: Tensor | None = None
    cells: Tensor | None = None
    features: Tensor | None = None

    def to(self, device: torch.device) -> TeacherTargets:
        """The same on another device, in floats: 8-bit pictures become [0, 1]."""
        frames = self.frames.to(device, non_blocking=True)
        frames = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        rest = (part if part is None else part.to(device).float() for part in (self.maps, self.cells, self.features))
        return TeacherTargets(frames, *rest)


class Objective(nn.Module):
    r"""The total that a student minimises.

    .. math:: L = L_{rec} + \lambda_1 L_{SD} + \lambda_2 L_{TD} + \sum_k w_k L_k

    A term whose weight and ratio are 0 is not computed. A plain run has the reconstruction only. What is trained with
    the student (the ConvLSTM, an adapter, a regressor) belongs to this module, which is saved with the run.

    Args:
        eps: of the reconstruction.
        spatial_weight: lambda 1.
        temporal_weight: lambda 2.
        spatial_features: maps of F^SR (``sr``), or of F^LR, ``s`` times smaller (``lr``; ours, for comparison).
        mapping: how channels become a map.
        normalization: of the maps.
        memory: the shared ConvLSTM; needed where ``temporal_weight`` or its ratio is not 0.
        others: other ways to teach: name -> (weight, term); see ``distill.baselines``.
        schedule: ``warm_up`` lets the weights of all distillation terms rise linearly from 0 over ``schedule_steps``,
            ``decay`` lets them fall to 0 over as many.
        schedule_steps: see ``schedule``; 0: constant.
        ratios: gradient-norm ratios by term (``spatial``, ``temporal``, or one of ``others``), in place of weights; see
            :class:`~workbench.distill.ratio.GradientRatio`.
        ratio_every: steps between two measurements of them.
        alignment_loss_weight: of the network's own loss for its alignment, see ``Upscaled.alignment_loss``; no
            schedule.
        flow_weight: of the end-point error of the student's flow, or of its sampling offsets, where the data has the
            true flow; no schedule.
        imitation_weight: of a privileged student's second term, see ``models.privileged.imitation``; no schedule.

    Raises:
        ConfigError: a temporal term without a memory, or a ratio of a term that there is not.
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
        others: Dictionary[str, tuple[float, DistillationLoss]] | None = None,
        schedule: Schedule = "constant",
        schedule_steps: int = 0,
        ratios: Dictionary[str, float] | None = None,
        ratio_every: int = 20,
        imitation_weight: float = 0.0,
        alignment_loss_weight: float = 0.0,
        flow_weight: float = 0.0,
    ) -> None:
        super().__init__()
        ratios = {name: ratio for name, ratio in (ratios or {}).items() if ratio}
        self.uses_spatial = bool(spatial_weight or "spatial" in ratios)
        self.uses_temporal = bool(temporal_weight or "temporal" in ratios)
        if self.uses_temporal and memory is None:
            raise ConfigError("temporal_weight or its ratio is not 0, so a TemporalMemory is needed")
        self.eps = eps
        self.spatial_weight, self.temporal_weight = spatial_weight, temporal_weight
        self.spatial_features: SpatialFeatures = spatial_features
        self.attention_kind: AttentionKind = attention_kind
        self.normalization: Normalization = normalization
        self.memory = memory if self.uses_temporal else None
        chosen = {name: pair for name, pair in (others or {}).items() if pair[0] or name in ratios}
        if unknown := ratios.keys() - {"spatial", "temporal", *chosen}:
            raise ConfigError(f"ratios: want names of terms, got {', '.join(sorted(unknown))}, which this run has not")
        self.ratio = GradientRatio(ratios, every=ratio_every) if ratios else None
        self.other_weights = {name: weight for name, (weight, _) in chosen.items()}
        self.others = nn.ModuleDict({name: term for name, (_, term) in chosen.items()})
        self.schedule: Schedule = schedule
        self.schedule_steps = schedule_steps
        self.imitation_weight = imitation_weight
        self.alignment_loss_weight = alignment_loss_weight
        self.flow_weight = flow_weight

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.uses_spatial or self.uses_temporal or bool(self.others)

    @property
    def needs_features(self) -> bool:
        """Whether F^SR of both networks is needed, or their pictures do."""
        return self.uses_spatial or self.uses_temporal or self._reads_features_whole

    @property
    def _reads_features_whole(self) -> bool:
        return any(isinstance(term, DistillationLoss) and term.needs_features for term in self.others.values())

    @property
    def cacheable(self) -> bool:
        """Whether what is asked of the teacher stays the same all the time, and is small."""
        return not self._reads_features_whole and (self.memory is None or self.memory.mode == "frozen")

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each term at a step (the first step is 1)."""
        share = 1.0
        if self.schedule_steps and self.schedule == "warm_up":
            share = min(step / self.schedule_steps, 1.0)
        elif self.schedule_steps and self.schedule == "decay":
            share = max(1.0 - (step - 1) / self.schedule_steps, 0.0)
        weights = {"reconstruction": 1.0}
        if self.alignment_loss_weight:
            weights["alignment"] = self.alignment_loss_weight
        if self.flow_weight:
            weights["flow"] = self.flow_weight
        if self.imitation_weight:
            weights["imitation"] = self.imitation_weight
        taught = {"spatial": self.spatial_weight} if self.uses_spatial else {}
        taught |= {"temporal": self.temporal_weight} if self.uses_temporal else {}
        taught |= self.other_weights
        if self.ratio is not None:
            taught |= self.ratio.weights()
        return weights | {name: share * weight for name, weight in taught.items()}

    def teacher_targets(self, teacher: Upscaled) -> TeacherTargets:
        """What the terms ask of a teacher: everything of it that does not depend on the student.

        Raises:
            ConfigError: its features are needed and were not kept.
        """
        if not self.needs_features:
            return TeacherTargets(teacher.frames.detach())
        features = _features(teacher).detach()
        maps = cells = None
        if self.uses_spatial:
            maps = self._maps(teacher).detach()
        if self.memory is not None:
            cells = self.memory.compared(self.memory.teacher_cells(features))
        return TeacherTargets(teacher.frames.detach(), maps, cells, features if self._reads_features_whole else None)

    def terms(
        self,
        student: Upscaled,
        high: Tensor,
        teacher: Upscaled | TeacherTargets | None = None,
        low: Tensor | None = None,
        flow: TrueFlow | None = None,
    ) -> tuple[Terms, dict[str, float]]:
        """Compute every term, unweighted, and measures that go into the log beside them.

        Args:
            student: what the student made of the clip, with features where a term needs them.
            high: ground truth ``(B, T, 3, s*H, s*W)``.
            teacher: what the teacher made of it, or what is asked of it; None for a plain run.
            low: the low resolution ``(B, T, 3, H, W)``; a privileged student imitates it.
            flow: true flow of the low resolution, where the data has it.

        Returns:
            Terms by name, and measures by name (``collapse_index``, ``cell_deviation``, and ``memory_frozen``: 1 while
            the ConvLSTM is not trained).
        """
        terms: Terms = {"reconstruction": charbonnier(student.frames, high, eps=self.eps)}
        measures: dict[str, float] = {}
        if self.alignment_loss_weight:
            if student.alignment_loss is None:
                raise ConfigError(
                    "alignment_loss_weight: want a student in training that says how well it aligns (VESPCN, EDVR)"
                )
            terms["alignment"] = student.alignment_loss
        if self.flow_weight:
            terms["flow"] = _flow_error(student, flow)
        if self.imitation_weight:
            if student.encoded is None or low is None:
                raise ConfigError("imitation_weight: want a privileged student, and the low resolution it imitates")
            terms["imitation"] = imitation(student.encoded, low)
        if not self.distils:
            return terms, measures
        if teacher is None:
            raise ConfigError(
                "distillation needs the features of both networks, or their pictures: there is no teacher"
            )
        taught = self.teacher_targets(teacher) if isinstance(teacher, Upscaled) else teacher
        if self.uses_spatial:
            ours, theirs = self._maps(student), _require_target(taught.maps, "maps")
            terms["spatial"] = map_distance(ours, theirs, normalization=self.normalization)
        if self.memory is not None:
            theirs = _require_target(taught.cells, "memory cells").float()
            cells = self.memory.compared(self.memory.student_cells(_features(student)))
            terms["temporal"] = temporal_distillation(cells, theirs, cells="all")
            measures["collapse_index"] = collapse_index(theirs)
            measures["cell_deviation"] = cell_deviation(theirs)
            measures["memory_frozen"] = float(self.memory.is_frozen)
        lesson = DistillationInputs(student, Upscaled(taught.frames, taught.features), high)
        return terms | {name: term(lesson) for name, term in self.others.items()}, measures

    def _maps(self, upscaled: Upscaled) -> Tensor:
        features = _features(upscaled)
        if self.spatial_features == "lr":
            if upscaled.aligned is None:
                raise ConfigError("spatial_features: lr needs the aligned features of both networks; one has none")
            features = upscaled.aligned.float()
        return attention_map(features, kind=self.attention_kind, normalization=self.normalization)


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


def _require_target(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise ConfigError(f"what was kept of the teacher holds no {what}; it was made for another objective")
    return value
