"""Other ways to teach, to compare space-time distillation with: one module a term, each a scalar to be weighted.

Every term reads one :class:`Lesson` and sends a gradient to the student only. Terms that learn something themselves
(a regressor, a variance) are trained with the student and thrown away with the teacher. The last three are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.distill.spatial import attention_map
from workbench.errors import ConfigError, ShapeError, unknown_name
from workbench.models.video_sr import Upscaled

Statistic = Literal["squared_mean", "mean_square", "max", "min"]

STATISTICS: tuple[Statistic, ...] = ("squared_mean", "mean_square", "max", "min")


@dataclass(frozen=True)
class DistillationInputs:
    """What a term may look at.

    Attributes:
        student: its pictures, and features if the term wants them.
        teacher: the same of the teacher; no gradient goes there.
        high: ground truth ``(B, T, 3, s*H, s*W)`` in [0, 1].
    """

    student: Upscaled
    teacher: Upscaled
    high: Tensor

    @property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """Pictures of both, in float32."""
        return self.student.frames.float(), self.teacher.frames.detach().float()

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """F^SR of both, in float32.

        Raises:
            ConfigError: one of them was not kept.
            ShapeError: they do not show the same frames at the same size.
        """
        if self.student.features is None or self.teacher.features is None:
            raise ConfigError("this term needs the features of both networks; call them with return_features='hr'")
        ours, theirs = self.student.features.float(), self.teacher.features.detach().float()
        if ours.shape[:2] != theirs.shape[:2] or ours.shape[-2:] != theirs.shape[-2:]:
            raise ShapeError(f"features: same frames and size wanted, got {tuple(ours.shape)}, {tuple(theirs.shape)}")
        return ours, theirs


class DistillationLoss(nn.Module):
    """One way to teach: a :class:`Lesson` becomes a scalar.

    Attributes:
        needs_features: whether F^SR of both networks must be kept.
    """

    needs_features = False

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """The term, unweighted."""
        raise NotImplementedError


class Output(DistillationLoss):
    r"""Imitate the pictures: the plainest distillation, and the control experiment of every other.

    .. math:: \operatorname{mean} |SR^S - SR^T|

    The teacher-supervision term of FAKD (He et al., ICIP 2020).
    """

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = lesson.pictures
        return (ours - theirs).abs().mean()


class FitNets(DistillationLoss):
    r"""Imitate the features through a learned 1x1 regressor (Romero et al., ICLR 2015).

    .. math:: \tfrac12 \operatorname{mean} \big(F^T - r(F^S)\big)^2

    The paper trains up to the hint first and the whole network after; here, as usual in super-resolution, the hint is
    one more term of one training.
    """

    needs_features = True

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = lesson.features
        return 0.5 * F.mse_loss(self.regressor(ours.flatten(0, 1)).float(), theirs.flatten(0, 1))


class AttentionTransfer(DistillationLoss):
    r"""Imitate attention maps of unit length (Zagoruyko and Komodakis, ICLR 2017, equation 2).

    .. math:: \tfrac12 \big\lVert \hat M^S - \hat M^T \big\rVert_2, \qquad \hat M = M / \lVert M \rVert_2,
        \; M = \sum_c F_c^2

    a mean over the frames. The authors' code differs from their paper: it averages the **squared** differences over the
    pixels instead (``as_coded``), which is smaller by orders of magnitude and has another gradient.
    """

    needs_features = True

    def __init__(self, *, as_coded: bool = False) -> None:
        super().__init__()
        self.as_coded = as_coded

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = (attention_map(features, normalization="unit") for features in lesson.features)
        if self.as_coded:
            return F.mse_loss(ours, theirs)
        gap = (ours - theirs).flatten(-2).square().sum(dim=-1)
        return 0.5 * gap.clamp_min(1e-24).sqrt().mean()


class Statistics(DistillationLoss):
    r"""Imitate one statistic of the channels at every pixel (Gao et al., ACCV 2018), with the squared distance.

    .. math::
        \big(\operatorname{mean}_c F_c\big)^2 \qquad \operatorname{mean}_c F_c^2 \qquad \max_c F_c \qquad \min_c F_c

    Args:
        statistic: ``squared_mean`` (the first, which did best in the paper), ``mean_square``, ``max``, ``min``.
    """

    needs_features = True

    def __init__(self, statistic: Statistic = "squared_mean") -> None:
        super().__init__()
        if statistic not in STATISTICS:
            raise unknown_name("statistic", statistic, STATISTICS)
        self.statistic = statistic

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = (self._of(features) for features in lesson.features)
        return F.mse_loss(ours, theirs)

    def _of(self, features: Tensor) -> Tensor:
        if self.statistic == "squared_mean":
            return features.mean(dim=-3).square()
        if self.statistic == "mean_square":
            return features.square().mean(dim=-3)
        return features.amax(dim=-3) if self.statistic == "max" else features.amin(dim=-3)


class Affinity(DistillationLoss):
    r"""Imitate which places look alike: spatial affinity of the features (FAKD: He et al., ICIP 2020).

    .. math:: \operatorname{mean} |A^S - A^T|, \qquad A_{xy} = \cos(F_x, F_y)

    over all pairs of places of a frame. The paper reads low-resolution features; F^SR has too many places, so it is
    averaged down to ``places`` by ``places`` first (ours).
    """

    needs_features = True

    def __init__(self, places: int = 16) -> None:
        super().__init__()
        self.places = places

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = (_directions(features, self.places) for features in lesson.features)
        return (ours.transpose(-1, -2) @ ours - theirs.transpose(-1, -2) @ theirs).abs().mean()


class TemporalConsistency(DistillationLoss):
    r"""Imitate how a frame's places resemble those of the frame before (after ETC: Liu et al., ECCV 2020).

    .. math:: \operatorname{mean} \big(A^S_{t-1,t} - A^T_{t-1,t}\big)^2, \qquad
        A_{t-1,t}[x, y] = \cos(F_{t-1,x}, F_{t,y})

    ETC distils this dependency of pairs of frames for segmentation; its motion loss needs a flow network and is left
    out. Features are averaged down to ``places`` by ``places`` first. A clip of one frame has no pairs and gives 0.
    """

    needs_features = True

    def __init__(self, places: int = 16) -> None:
        super().__init__()
        self.places = places

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = (_directions(features, self.places) for features in lesson.features)
        if ours.shape[1] < 2:
            return ours.sum() * 0.0
        before, after = (slice(None), slice(0, -1)), (slice(None), slice(1, None))
        return F.mse_loss(
            ours[before].transpose(-1, -2) @ ours[after], theirs[before].transpose(-1, -2) @ theirs[after]
        )


class VariationalInformation(DistillationLoss):
    r"""Let the student's features predict the teacher's, with a learned certainty (VID, as in PISR: Lee et al., 2020).

    .. math:: \operatorname{mean}\Big( \tfrac{C}{2}\log 2\pi + \tfrac12 \log s + \frac{(\mu(F^S) - F^T)^2}{2 s} \Big),
        \qquad s = 0.001\, \operatorname{softplus}(\cdot) + 10^{-8}

    ``mu`` and ``s`` come from two small networks of 1x1 convolutions. PISR's teacher is privileged: it sees the ground
    truth through a narrow encoder (``models.privileged``); the term itself takes any teacher. The constant makes it
    large and sometimes negative; only its gradient matters.
    """

    needs_features = True

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()

        def head() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(student_channels, student_channels, 1),
                nn.PReLU(),
                nn.Conv2d(student_channels, teacher_channels, 1),
            )

        self.mean, self.spread = head(), head()

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = (features.flatten(0, 1) for features in lesson.features)
        variance = 0.001 * F.softplus(self.spread(ours).float()) + 1e-8
        constant = theirs.shape[1] * math.log(2 * math.pi) / 2
        gap = (self.mean(ours).float() - theirs).square()
        return (constant + variance.log() / 2 + gap / (2 * variance)).mean()


class Frequency(DistillationLoss):
    r"""Imitate the pictures, the fine detail more than the coarse (ours).

    .. math:: \operatorname{mean}_k \frac{|k|}{\max|k|} \big| \mathcal F(SR^S - SR^T)_k \big|

    with the orthonormal Fourier transform of every frame and channel. What the ground truth already teaches well, flat
    areas and slow gradients, weighs least.
    """

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = lesson.pictures
        spectrum = torch.fft.rfft2(ours - theirs, norm="ortho")
        rows = torch.fft.fftfreq(ours.shape[-2], device=ours.device)[:, None]
        columns = torch.fft.rfftfreq(ours.shape[-1], device=ours.device)
        radius = (rows.square() + columns.square()).sqrt()
        return (radius / radius.max().clamp_min(1e-12) * spectrum.abs()).mean()


class FrameDifference(DistillationLoss):
    r"""Imitate how the teacher's pictures change from frame to frame (ours): what flickers, not what is shown.

    .. math:: \operatorname{mean} \big| (SR^S_t - SR^S_{t-1}) - (SR^T_t - SR^T_{t-1}) \big|

    A clip of one frame has no change and gives 0.
    """

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = lesson.pictures
        if ours.shape[1] < 2:
            return ours.sum() * 0.0
        gap = ours - theirs
        return (gap[:, 1:] - gap[:, :-1]).abs().mean()


class WhereBetter(DistillationLoss):
    r"""Imitate the pictures only where the teacher is nearer to the truth than the student (ours).

    .. math:: \operatorname{mean} \big[\, |SR^T - HR| < |SR^S - HR| \,\big] \cdot |SR^S - SR^T|
    """

    def forward(self, lesson: DistillationInputs) -> Tensor:
        """See the class."""
        ours, theirs = lesson.pictures
        high = lesson.high.float()
        better = (theirs - high).abs() < (ours.detach() - high).abs()
        return (better * (ours - theirs).abs()).mean()


def _directions(features: Tensor, places: int) -> Tensor:
    """Features averaged over a grid, each place of length one: ``(B, T, C, H, W)`` -> ``(B, T, C, N)``."""
    size = (min(places, features.shape[-2]), min(places, features.shape[-1]))
    thin = F.adaptive_avg_pool2d(features.flatten(0, 1), size).unflatten(0, features.shape[:2])
    return F.normalize(thin.flatten(-2), dim=-2, eps=1e-7)


DISTILLATION_LOSSES: dict[str, Callable[[int, int], DistillationLoss]] = {
    "output_l1": lambda _ours, _theirs: Output(),
    "fitnets": FitNets,
    "attention_transfer": lambda _ours, _theirs: AttentionTransfer(),
    "attention_transfer_code": lambda _ours, _theirs: AttentionTransfer(as_coded=True),
    "squared_mean": lambda _ours, _theirs: Statistics("squared_mean"),
    "mean_square": lambda _ours, _theirs: Statistics("mean_square"),
    "channel_max": lambda _ours, _theirs: Statistics("max"),
    "channel_min": lambda _ours, _theirs: Statistics("min"),
    "affinity": lambda _ours, _theirs: Affinity(),
    "variational_information": VariationalInformation,
    "temporal_consistency": lambda _ours, _theirs: TemporalConsistency(),
    "frequency": lambda _ours, _theirs: Frequency(),
    "frame_difference": lambda _ours, _theirs: FrameDifference(),
    "teacher_better_l1": lambda _ours, _theirs: WhereBetter(),
}
"""Every term by name: called with the channels of F^SR of student and teacher."""


def make_term(name: str, student_channels: int, teacher_channels: int) -> DistillationLoss:
    """Build a term.

    Raises:
        UnknownNameError: no such term; the nearest is suggested.
        ConfigError: it reads F^SR, and one of the networks has none.
    """
    if name not in DISTILLATION_LOSSES:
        raise unknown_name("distillation term", name, DISTILLATION_LOSSES)
    probe = DISTILLATION_LOSSES[name](max(student_channels, 1), max(teacher_channels, 1))
    if probe.needs_features and not (student_channels and teacher_channels):
        who = "student" if not student_channels else "teacher"
        raise ConfigError(
            f"{name}: reads high-resolution features, and the {who} has none; choose a term that reads pictures: "
            + ", ".join(other for other in DISTILLATION_LOSSES if not DISTILLATION_LOSSES[other](1, 1).needs_features)
        )
    return probe
