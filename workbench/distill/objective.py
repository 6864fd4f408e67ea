"""What a student is asked: terms by name, unweighted; their weights and schedule in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.distill.spatial import Mapping, Normalisation, spatial_distillation
from workbench.distill.temporal import TemporalMemory, collapse_index, temporal_distillation
from workbench.errors import ConfigError
from workbench.models.video_sr import Upscaled

Terms = dict[str, Tensor]
Schedule = Literal["constant", "warm_up"]


def charbonnier(upscaled: Tensor, high: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Reconstruction: a smooth L1, a mean over all elements.

    .. math:: L_{rec} = \operatorname{mean} \sqrt{(SR - HR)^2 + \epsilon^2}

    The paper names the loss but not its eps. EDVR's code sums instead of averaging and has no square on eps.

    Example:
        >>> charbonnier(torch.zeros(1), torch.full((1,), 3.0), eps=4.0).item()
        5.0
    """
    return ((upscaled.float() - high.float()).square() + eps**2).sqrt().mean()


def weigh(terms: Terms, weights: dict[str, float]) -> Tensor:
    """Sum of ``weight * term``; every term needs a weight and the reverse.

    Example:
        >>> weigh({"reconstruction": torch.tensor(2.0)}, {"reconstruction": 0.5}).item()
        1.0
    """
    if terms.keys() != weights.keys():
        raise ConfigError(f"terms {sorted(terms)} but weights {sorted(weights)}")
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


@dataclass
class Objective:
    r"""The total that a student minimises.

    .. math:: L = L_{rec} + \lambda_1 L_{SD} + \lambda_2 L_{TD}

    A term whose weight is 0 is not computed. A plain run has the reconstruction only.

    Attributes:
        eps: of the reconstruction.
        spatial_weight: lambda 1.
        temporal_weight: lambda 2.
        mapping: how channels become a map.
        normalisation: of the maps.
        memory: the shared ConvLSTM; needed where ``temporal_weight`` is not 0.
        schedule: ``warm_up`` lets both weights rise linearly from 0 over ``warm_up_steps``.
        warm_up_steps: see ``schedule``.
    """

    eps: float = 1e-3
    spatial_weight: float = 0.0
    temporal_weight: float = 0.0
    mapping: Mapping = "sum_squares"
    normalisation: Normalisation = "unit"
    memory: TemporalMemory | None = None
    schedule: Schedule = "constant"
    warm_up_steps: int = 0

    def __post_init__(self) -> None:
        """A temporal term needs a memory."""
        if self.temporal_weight and self.memory is None:
            raise ConfigError("temporal_weight is not 0, so a TemporalMemory is needed")

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return self.spatial_weight > 0 or self.temporal_weight > 0

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each term at a step (the first step is 1)."""
        rise = 1.0
        if self.schedule == "warm_up" and self.warm_up_steps:
            rise = min(step / self.warm_up_steps, 1.0)
        weights = {"reconstruction": 1.0}
        if self.spatial_weight:
            weights["spatial"] = rise * self.spatial_weight
        if self.temporal_weight:
            weights["temporal"] = rise * self.temporal_weight
        return weights

    def terms(self, student: Upscaled, high: Tensor, teacher: Upscaled | None = None) -> tuple[Terms, dict[str, float]]:
        """Compute every term, unweighted, and measures that go into the log beside them.

        Args:
            student: what the student made of the clip, with features where it distils.
            high: ground truth ``(B, T, 3, s*H, s*W)``.
            teacher: what the teacher made of it, with features; None for a plain run.

        Returns:
            Terms by name, and measures by name (``collapse_index``).
        """
        terms: Terms = {"reconstruction": charbonnier(student.frames, high, eps=self.eps)}
        measures: dict[str, float] = {}
        if not self.distils:
            return terms, measures
        if teacher is None or teacher.features is None or student.features is None:
            raise ConfigError("distillation needs the features of both networks; call them with keep='hr'")
        ours, theirs = student.features.float(), teacher.features.detach().float()
        if self.spatial_weight:
            terms["spatial"] = spatial_distillation(
                ours, theirs, mapping=self.mapping, normalisation=self.normalisation
            )
        if self.temporal_weight and self.memory is not None:
            their_cells = self.memory.teacher_cells(theirs)
            terms["temporal"] = temporal_distillation(self.memory.student_cells(ours), their_cells)
            measures["collapse_index"] = collapse_index(their_cells[:, -1])
        return terms, measures
