"""Distillation losses to compare space-time distillation with: each maps :class:`DistillationInputs` to a scalar.

A loss is a function with the name of its setting in ``OtherLosses``, or a module where it has parameters (a regressor,
a variance), which are trained with the student and not needed afterwards. The gradient reaches the student only. The
last five are our own, one of them as a control of another. Symbols: ``workbench.models.video_sr``.
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
from workbench.distillation_config import OtherLosses
from workbench.errors import ConfigError, ShapeError, unknown_name
from workbench.models.video_sr import Upscaled

GRID = 16
"""Largest height and width to which features are averaged down before their affinities."""


@dataclass(frozen=True)
class TeacherTargets:
    """Teacher outputs needed by the losses on one batch: by ``Objective.teacher_targets``, or from a cache.

    Attributes:
        frames: ``(B, T, 3, s*H, s*W)``; 8-bit integers if they are from a cache.
        maps: attention maps ``(B, T, s*H, s*W)``, or ``(B, T, H, W)`` of F^LR; None without a spatial term.
        cells: memory cells of the compared frames, ``(B, T', K, h, w)``; None without a temporal term.
        features: F^SR, for losses that read it whole; None otherwise.
        flow: optical flow to the next and to the previous frame, ``(B, 2, T - 1, 2, H, W)``; None unless a loss reads
            it.
    """

    frames: Tensor
    maps: Tensor | None = None
    cells: Tensor | None = None
    features: Tensor | None = None
    flow: Tensor | None = None

    def to(self, device: torch.device) -> TeacherTargets:
        """Return the targets on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TeacherTargets:
        """Return the targets in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def dequantized(self) -> TeacherTargets:
        """Return the targets in float32; 8-bit frames become [0, 1]."""
        return self._map(lambda tensor: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float())

    def _map(self, function: Callable[[Tensor], Tensor]) -> TeacherTargets:
        return TeacherTargets(**{name: function(tensor) for name, tensor in vars(self).items() if tensor is not None})


@dataclass(frozen=True)
class DistillationInputs:
    """Inputs of a distillation loss.

    Attributes:
        student: frames of the student, and its features or flow where the loss needs them.
        teacher: the same of the teacher; no gradient reaches it.
        high: ground truth ``(B, T, 3, s*H, s*W)`` in [0, 1].
    """

    student: Upscaled
    teacher: TeacherTargets
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
        student, teacher = self.student.features.float(), self.teacher.features.detach().float()
        if student.shape[:2] != teacher.shape[:2] or student.shape[-2:] != teacher.shape[-2:]:
            raise ShapeError(
                f"features: want the same frames and size, got {tuple(student.shape)}, {tuple(teacher.shape)}"
            )
        return student, teacher

    @property
    def flow(self) -> tuple[Tensor, Tensor]:
        """Optical flow of student and teacher, ``(B, 2, T - 1, 2, H, W)``, in float32.

        Raises:
            ConfigError: one of them is missing.
        """
        if self.student.flow is None or self.teacher.flow is None:
            raise ConfigError(
                f"flow_l1: want two networks that estimate flow (VESPCN, BasicVSR), got a "
                f"{'student' if self.student.flow is None else 'teacher'} without; set its weight and ratio to 0"
            )
        return torch.stack(self.student.flow, dim=1).float(), self.teacher.flow.detach().float()


@dataclass(frozen=True)
class DistillationLoss:
    """Distillation loss of an objective.

    Attributes:
        compute: function or module: :class:`DistillationInputs` -> scalar, unweighted.
        reads: what it reads of both networks: frames, F^SR, or optical flow.
    """

    compute: Callable[[DistillationInputs], Tensor]
    reads: Literal["frames", "features", "flow"] = "frames"


def output_l1(inputs: DistillationInputs) -> Tensor:
    r"""Return the L1 distance of the frames: the simplest distillation, and the control experiment of every other.

    .. math:: \operatorname{mean} |SR^S - SR^T|

    The teacher-supervision term of FAKD (He et al., ICIP 2020).
    """
    student, teacher = inputs.frames
    return (student - teacher).abs().mean()


class FitNets(nn.Module):
    r"""Squared distance of the features through a learned 1x1 regressor (Romero et al., ICLR 2015).

    .. math:: \tfrac12 \operatorname{mean} \big(F^T - r(F^S)\big)^2

    The paper trains the layers up to the hint first and the whole network afterwards; here, as usual in
    super-resolution, the hint is one more term of one training.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the loss, see the class."""
        student, teacher = inputs.features
        return 0.5 * F.mse_loss(self.regressor(student.flatten(0, 1)).float(), teacher.flatten(0, 1))


def attention_transfer(inputs: DistillationInputs) -> Tensor:
    r"""Return the distance of attention maps of unit length (Zagoruyko and Komodakis, ICLR 2017, equation 2).

    .. math:: \tfrac12 \big\lVert \hat M^S - \hat M^T \big\rVert_2, \qquad \hat M = M / \lVert M \rVert_2,
        \; M = \sum_c F_c^2

    a mean over the frames.
    """
    student, teacher = _unit_maps(inputs)
    gap = (student - teacher).flatten(-2).square().sum(dim=-1)
    return 0.5 * gap.clamp_min(1e-24).sqrt().mean()


def attention_transfer_code(inputs: DistillationInputs) -> Tensor:
    """Return the distance of attention maps of unit length as in the code that the authors released.

    It differs from their paper (:func:`attention_transfer`): the **squared** differences are averaged over the pixels,
    which is smaller by orders of magnitude and has another gradient.
    """
    return F.mse_loss(*_unit_maps(inputs))


def _unit_maps(inputs: DistillationInputs) -> tuple[Tensor, Tensor]:
    student, teacher = inputs.features
    return attention_map(student, normalization="unit"), attention_map(teacher, normalization="unit")


def squared_mean(inputs: DistillationInputs) -> Tensor:
    r"""Return the squared distance of :math:`(\operatorname{mean}_c F_c)^2` (Gao et al., ACCV 2018: their best)."""
    student, teacher = inputs.features
    return F.mse_loss(student.mean(dim=-3).square(), teacher.mean(dim=-3).square())


def mean_square(inputs: DistillationInputs) -> Tensor:
    r"""Return the squared distance of :math:`\operatorname{mean}_c F_c^2` (Gao et al., ACCV 2018)."""
    student, teacher = inputs.features
    return F.mse_loss(student.square().mean(dim=-3), teacher.square().mean(dim=-3))


def channel_max(inputs: DistillationInputs) -> Tensor:
    r"""Return the squared distance of :math:`\max_c F_c` (Gao et al., ACCV 2018)."""
    student, teacher = inputs.features
    return F.mse_loss(student.amax(dim=-3), teacher.amax(dim=-3))


def channel_min(inputs: DistillationInputs) -> Tensor:
    r"""Return the squared distance of :math:`\min_c F_c` (Gao et al., ACCV 2018)."""
    student, teacher = inputs.features
    return F.mse_loss(student.amin(dim=-3), teacher.amin(dim=-3))


def affinity(inputs: DistillationInputs) -> Tensor:
    r"""Return the distance of the spatial affinity of the features (FAKD: He et al., ICIP 2020).

    .. math:: \operatorname{mean} |A^S - A^T|, \qquad A_{xy} = \cos(F_x, F_y)

    over all pairs of positions of a frame. The paper reads low-resolution features; F^SR has too many positions, so it
    is averaged down to a grid first (ours).
    """
    student, teacher = map(_unit_vectors, inputs.features)
    return (student.transpose(-1, -2) @ student - teacher.transpose(-1, -2) @ teacher).abs().mean()


def temporal_consistency(inputs: DistillationInputs) -> Tensor:
    r"""Return the squared distance of the affinity between successive frames (after ETC: Liu et al., ECCV 2020).

    .. math:: \operatorname{mean} \big(A^S_{t-1,t} - A^T_{t-1,t}\big)^2, \qquad
        A_{t-1,t}[x, y] = \cos(F_{t-1,x}, F_{t,y})

    ETC distills this dependency of pairs of frames for segmentation; its motion loss needs a flow network and is left
    out. Features are averaged down to a grid first. For a clip of one frame the loss is 0.
    """
    student, teacher = map(_unit_vectors, inputs.features)
    if student.shape[1] < 2:
        return student.sum() * 0.0
    student, teacher = (vectors[:, :-1].transpose(-1, -2) @ vectors[:, 1:] for vectors in (student, teacher))
    return F.mse_loss(student, teacher)


class VariationalInformation(nn.Module):
    r"""Negative log-likelihood of the teacher's features given the student's (VID, as in PISR: Lee et al., 2020).

    .. math:: \operatorname{mean}\Big( \tfrac{C}{2}\log 2\pi + \tfrac12 \log s + \frac{(\mu(F^S) - F^T)^2}{2 s} \Big),
        \qquad s = 0.001\, \operatorname{softplus}(\cdot) + 10^{-8}

    ``mu`` and ``s`` come from two small networks of 1x1 convolutions. PISR's teacher is privileged: its input
    is the ground truth, through a narrow encoder (``models.privileged``); the loss itself takes any teacher. The
    constant makes it large and sometimes negative; only its gradient matters.
    """

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
        student, teacher = (features.flatten(0, 1) for features in inputs.features)
        variance = 0.001 * F.softplus(self.spread(student).float()) + 1e-8
        constant = teacher.shape[1] * math.log(2 * math.pi) / 2
        gap = (self.mean(student).float() - teacher).square()
        return (constant + variance.log() / 2 + gap / (2 * variance)).mean()


def frequency(inputs: DistillationInputs) -> Tensor:
    r"""Return the distance of the frames' spectra, with fine detail weighted more than coarse (ours).

    .. math:: \operatorname{mean}_k \frac{|k|}{\max|k|} \big| \mathcal F(SR^S - SR^T)_k \big|

    with the orthonormal Fourier transform of every frame and channel. Flat areas and slow
    gradients, which the ground truth teaches well, have the smallest weight.
    """
    student, teacher = inputs.frames
    spectrum = torch.fft.rfft2(student - teacher, norm="ortho")
    rows = torch.fft.fftfreq(student.shape[-2], device=student.device)[:, None]
    columns = torch.fft.rfftfreq(student.shape[-1], device=student.device)
    radius = (rows.square() + columns.square()).sqrt()
    return (radius / radius.max().clamp_min(1e-12) * spectrum.abs()).mean()


def frame_difference(inputs: DistillationInputs) -> Tensor:
    r"""Return the L1 distance of the changes from frame to frame (ours).

    .. math:: \operatorname{mean} \big| (SR^S_t - SR^S_{t-1}) - (SR^T_t - SR^T_{t-1}) \big|

    For a clip of one frame the loss is 0.
    """
    return _change_distance(*inputs.frames)


def true_frame_difference(inputs: DistillationInputs) -> Tensor:
    r"""Return the L1 distance of the changes from frame to frame from those of the ground truth.

    .. math:: \operatorname{mean} \big| (SR^S_t - SR^S_{t-1}) - (HR_t - HR_{t-1}) \big|

    The control of :func:`frame_difference`: the same loss without the teacher. For a clip of one frame it is 0.
    """
    return _change_distance(inputs.frames[0], inputs.high.float())


def teacher_better_l1(inputs: DistillationInputs) -> Tensor:
    r"""Return the L1 distance of the frames, only where the teacher is closer to the ground truth (ours).

    .. math:: \operatorname{mean} \big[\, |SR^T - HR| < |SR^S - HR| \,\big] \cdot |SR^S - SR^T|
    """
    student, teacher = inputs.frames
    high = inputs.high.float()
    better = (teacher - high).abs() < (student.detach() - high).abs()
    return (better * (student - teacher).abs()).mean()


def flow_l1(inputs: DistillationInputs) -> Tensor:
    r"""Return the L1 distance of the optical flow between neighboring frames, in both directions (ours).

    .. math:: \operatorname{mean} |f^S - f^T|

    in low-resolution pixels. It trains the student's flow network only. For a clip of one frame the loss is 0.
    """
    student, teacher = inputs.flow
    return (student - teacher).abs().mean() if student.numel() else student.sum()


def _change_distance(frames: Tensor, target: Tensor) -> Tensor:
    """Return the L1 distance of the changes from frame to frame; 0 for one frame."""
    return (frames - target).diff(dim=1).abs().mean() if frames.shape[1] > 1 else frames.sum() * 0.0


def _unit_vectors(features: Tensor) -> Tensor:
    """Return features averaged over a grid, each position of length one: ``(B, T, C, H, W)`` -> ``(B, T, C, N)``."""
    size = (min(GRID, features.shape[-2]), min(GRID, features.shape[-1]))
    pooled = F.adaptive_avg_pool2d(features.flatten(0, 1), size).unflatten(0, features.shape[:2])
    return F.normalize(pooled.flatten(-2), dim=-2, eps=1e-7)


DISTILLATION_LOSSES = OtherLosses.__dataclass_fields__
"""Every loss by name: the field of its setting, which records its inputs."""

TRAINED = {"fitnets": FitNets, "variational_information": VariationalInformation}
"""Losses with parameters, which depend on the channels of F^SR of student and teacher."""


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
    reads = DISTILLATION_LOSSES[name].metadata["reads"]
    if reads == "features" and not (student_channels and teacher_channels):
        missing = "student" if not student_channels else "teacher"
        raise ConfigError(
            f"{name}: reads high-resolution features, and the {missing} has none; choose a loss that reads frames: "
            + ", ".join(other for other, loss in DISTILLATION_LOSSES.items() if loss.metadata["reads"] == "frames")
        )
    compute = TRAINED[name](student_channels, teacher_channels) if name in TRAINED else globals()[name]
    return DistillationLoss(compute, reads)
