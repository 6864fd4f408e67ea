"""Distillation losses to compare space-time distillation with: one module a loss, each returns a scalar.

Every loss reads :class:`DistillationInputs`, and its gradient reaches the student only. Losses with parameters (a
regressor, a variance) are trained with the student and not needed afterwards. The last three are our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.config import OtherLosses
from workbench.distill.spatial import attention_map
from workbench.errors import ConfigError, ShapeError, unknown_name
from workbench.models.video_sr import Upscaled

Statistic = Literal["squared_mean", "mean_square", "max", "min"]

STATISTICS: tuple[Statistic, ...] = ("squared_mean", "mean_square", "max", "min")


@dataclass(frozen=True)
class DistillationInputs:
    """Inputs of a distillation loss.

    Attributes:
        student: frames of the student, and its features where the loss needs them.
        teacher: the same of the teacher; no gradient reaches it.
        high: ground truth ``(B, T, 3, s*H, s*W)`` in [0, 1].
    """

    student: Upscaled
    teacher: Upscaled
    high: Tensor

    @property
    def frames(self) -> tuple[Tensor, Tensor]:
        """Frames of student and teacher, in float32."""
        return self.student.frames.float(), self.teacher.frames.detach().float()

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """F^SR of student and teacher, in float32.

        Raises:
            ConfigError: one of them is missing.
            ShapeError: their frames or sizes differ.
        """
        if self.student.features is None or self.teacher.features is None:
            raise ConfigError("this loss needs the features of both networks; call them with return_features='hr'")
        ours, theirs = self.student.features.float(), self.teacher.features.detach().float()
        if ours.shape[:2] != theirs.shape[:2] or ours.shape[-2:] != theirs.shape[-2:]:
            raise ShapeError(f"features: want the same frames and size, got {tuple(ours.shape)}, {tuple(theirs.shape)}")
        return ours, theirs


class DistillationLoss(nn.Module):
    """Distillation loss: :class:`DistillationInputs` -> scalar.

    Attributes:
        needs_features: whether it reads F^SR of both networks.
        is_trained: whether it has parameters, which depend on the channels of F^SR of student and teacher.
    """

    needs_features = False
    is_trained = False

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, unweighted."""
        raise NotImplementedError


class OutputL1(DistillationLoss):
    r"""L1 distance of the frames: the simplest distillation, and the control experiment of every other.

    .. math:: \operatorname{mean} |SR^S - SR^T|

    The teacher-supervision term of FAKD (He et al., ICIP 2020).
    """

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = inputs.frames
        return (ours - theirs).abs().mean()


class FitNets(DistillationLoss):
    r"""Squared distance of the features through a learned 1x1 regressor (Romero et al., ICLR 2015).

    .. math:: \tfrac12 \operatorname{mean} \big(F^T - r(F^S)\big)^2

    The paper trains the layers up to the hint first and the whole network afterwards; here, as usual in
    super-resolution, the hint is one more term of one training.
    """

    needs_features = True
    is_trained = True

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = inputs.features
        return 0.5 * F.mse_loss(self.regressor(ours.flatten(0, 1)).float(), theirs.flatten(0, 1))


class AttentionTransfer(DistillationLoss):
    r"""Distance of attention maps of unit length (Zagoruyko and Komodakis, ICLR 2017, equation 2).

    .. math:: \tfrac12 \big\lVert \hat M^S - \hat M^T \big\rVert_2, \qquad \hat M = M / \lVert M \rVert_2,
        \; M = \sum_c F_c^2

    a mean over the frames. The authors' code differs from their paper: it averages the **squared** differences over the
    pixels instead (``released_code``), which is smaller by orders of magnitude and has another gradient.
    """

    needs_features = True

    def __init__(self, *, released_code: bool = False) -> None:
        super().__init__()
        self.released_code = released_code

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = (attention_map(features, normalization="unit") for features in inputs.features)
        if self.released_code:
            return F.mse_loss(ours, theirs)
        gap = (ours - theirs).flatten(-2).square().sum(dim=-1)
        return 0.5 * gap.clamp_min(1e-24).sqrt().mean()


class ChannelStatistic(DistillationLoss):
    r"""Squared distance of one statistic of the channels at every pixel (Gao et al., ACCV 2018).

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

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = (self._reduce(features) for features in inputs.features)
        return F.mse_loss(ours, theirs)

    def _reduce(self, features: Tensor) -> Tensor:
        if self.statistic == "squared_mean":
            return features.mean(dim=-3).square()
        if self.statistic == "mean_square":
            return features.square().mean(dim=-3)
        return features.amax(dim=-3) if self.statistic == "max" else features.amin(dim=-3)


class Affinity(DistillationLoss):
    r"""Distance of the spatial affinity of the features (FAKD: He et al., ICIP 2020).

    .. math:: \operatorname{mean} |A^S - A^T|, \qquad A_{xy} = \cos(F_x, F_y)

    over all pairs of positions of a frame. The paper reads low-resolution features; F^SR has too many positions, so it
    is averaged down to a grid of ``grid`` by ``grid`` first (ours).
    """

    needs_features = True

    def __init__(self, grid: int = 16) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = (_unit_vectors(features, self.grid) for features in inputs.features)
        return (ours.transpose(-1, -2) @ ours - theirs.transpose(-1, -2) @ theirs).abs().mean()


class TemporalConsistency(DistillationLoss):
    r"""Squared distance of the affinity between successive frames (after ETC: Liu et al., ECCV 2020).

    .. math:: \operatorname{mean} \big(A^S_{t-1,t} - A^T_{t-1,t}\big)^2, \qquad
        A_{t-1,t}[x, y] = \cos(F_{t-1,x}, F_{t,y})

    ETC distills this dependency of pairs of frames for segmentation; its motion loss needs a flow network and is left
    out. Features are averaged down to a grid first. For a clip of one frame the loss is 0.
    """

    needs_features = True

    def __init__(self, grid: int = 16) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = (_unit_vectors(features, self.grid) for features in inputs.features)
        if ours.shape[1] < 2:
            return ours.sum() * 0.0
        before, after = (slice(None), slice(0, -1)), (slice(None), slice(1, None))
        return F.mse_loss(
            ours[before].transpose(-1, -2) @ ours[after], theirs[before].transpose(-1, -2) @ theirs[after]
        )


class VariationalInformation(DistillationLoss):
    r"""Negative log-likelihood of the teacher's features given the student's (VID, as in PISR: Lee et al., 2020).

    .. math:: \operatorname{mean}\Big( \tfrac{C}{2}\log 2\pi + \tfrac12 \log s + \frac{(\mu(F^S) - F^T)^2}{2 s} \Big),
        \qquad s = 0.001\, \operatorname{softplus}(\cdot) + 10^{-8}

    ``mu`` and ``s`` come from two small networks of 1x1 convolutions. PISR's teacher is privileged: its input
    is the ground truth, through a narrow encoder (``models.privileged``); the loss itself takes any teacher. The
    constant makes it large and sometimes negative; only its gradient matters.
    """

    needs_features = True
    is_trained = True

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()

        def head() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(student_channels, student_channels, 1),
                nn.PReLU(),
                nn.Conv2d(student_channels, teacher_channels, 1),
            )

        self.mean, self.spread = head(), head()

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = (features.flatten(0, 1) for features in inputs.features)
        variance = 0.001 * F.softplus(self.spread(ours).float()) + 1e-8
        constant = theirs.shape[1] * math.log(2 * math.pi) / 2
        gap = (self.mean(ours).float() - theirs).square()
        return (constant + variance.log() / 2 + gap / (2 * variance)).mean()


class Frequency(DistillationLoss):
    r"""Distance of the frames' spectra, with fine detail weighted more than coarse (ours).

    .. math:: \operatorname{mean}_k \frac{|k|}{\max|k|} \big| \mathcal F(SR^S - SR^T)_k \big|

    with the orthonormal Fourier transform of every frame and channel. Flat areas and slow
    gradients, which the ground truth teaches well, have the smallest weight.
    """

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = inputs.frames
        spectrum = torch.fft.rfft2(ours - theirs, norm="ortho")
        rows = torch.fft.fftfreq(ours.shape[-2], device=ours.device)[:, None]
        columns = torch.fft.rfftfreq(ours.shape[-1], device=ours.device)
        radius = (rows.square() + columns.square()).sqrt()
        return (radius / radius.max().clamp_min(1e-12) * spectrum.abs()).mean()


class FrameDifference(DistillationLoss):
    r"""L1 distance of the changes from frame to frame (ours).

    .. math:: \operatorname{mean} \big| (SR^S_t - SR^S_{t-1}) - (SR^T_t - SR^T_{t-1}) \big|

    For a clip of one frame the loss is 0.
    """

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = inputs.frames
        if ours.shape[1] < 2:
            return ours.sum() * 0.0
        gap = ours - theirs
        return (gap[:, 1:] - gap[:, :-1]).abs().mean()


class TeacherBetterL1(DistillationLoss):
    r"""L1 distance of the frames, only where the teacher is closer to the ground truth than the student (ours).

    .. math:: \operatorname{mean} \big[\, |SR^T - HR| < |SR^S - HR| \,\big] \cdot |SR^S - SR^T|
    """

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        ours, theirs = inputs.frames
        high = inputs.high.float()
        better = (theirs - high).abs() < (ours.detach() - high).abs()
        return (better * (ours - theirs).abs()).mean()


def _unit_vectors(features: Tensor, grid: int) -> Tensor:
    """Return features averaged over a grid, each position of length one: ``(B, T, C, H, W)`` -> ``(B, T, C, N)``."""
    size = (min(grid, features.shape[-2]), min(grid, features.shape[-1]))
    pooled = F.adaptive_avg_pool2d(features.flatten(0, 1), size).unflatten(0, features.shape[:2])
    return F.normalize(pooled.flatten(-2), dim=-2, eps=1e-7)


DISTILLATION_LOSSES = OtherLosses.__dataclass_fields__
"""Every loss by name; a field of the settings names its class and the arguments."""


def make_loss(name: str, student_channels: int, teacher_channels: int) -> DistillationLoss:
    """Build a loss by name.

    Args:
        name: one of :data:`DISTILLATION_LOSSES`.
        student_channels: channels of F^SR of the student; 0: it has none.
        teacher_channels: the same of the teacher.

    Raises:
        UnknownNameError: no such loss; the nearest is suggested.
        ConfigError: it reads F^SR, and one of the networks has none.
    """
    if name not in DISTILLATION_LOSSES:
        raise unknown_name("distillation loss", name, DISTILLATION_LOSSES)
    entry = DISTILLATION_LOSSES[name].metadata
    cls: type[DistillationLoss] = globals()[entry["class"]]
    if cls.needs_features and not (student_channels and teacher_channels):
        missing = "student" if not student_channels else "teacher"
        raise ConfigError(
            f"{name}: reads high-resolution features, and the {missing} has none; choose a loss that reads frames: "
            + ", ".join(other for other, loss in DISTILLATION_LOSSES.items() if loss.metadata["reads"] == "frames")
        )
    channels = (student_channels, teacher_channels) if cls.is_trained else ()
    return cls(*channels, **entry["arguments"])
