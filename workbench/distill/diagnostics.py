"""Shares of the temporal loss and of its gradient that depend on detail.

A loss can fall, and have a gradient, without any effect on detail between the low-resolution pixels. These functions
measure that on two networks and a clip; ``bench/temporal_signal.py`` prints them as a table.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.distill.objective import charbonnier
from workbench.distill.temporal import TemporalMemory, collapse_index, temporal_distillation
from workbench.errors import ShapeError
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import VideoSR


def block_share(gradient: Tensor, side: int) -> float:
    """Return the share of a gradient's power that is constant on squares of ``side`` pixels.

    At ``side`` equal to the scale, this part moves all pixels between low-resolution pixels by the same amount.
    White noise has ``1 / side**2``.

    Args:
        gradient: ``(..., H, W)``, both multiples of ``side``.
        side: side of the squares in pixels.

    Example:
        >>> block_share(torch.ones(1, 4, 4), 4)
        1.0
    """
    if gradient.shape[-2] % side or gradient.shape[-1] % side:
        raise ShapeError(f"gradient: want height and width to be multiples of {side}, got {tuple(gradient.shape)}")
    images = gradient.float().reshape(-1, 1, *gradient.shape[-2:])
    means = F.avg_pool2d(images, side)
    return _share(side**2 * means.square().sum(), images.square().sum())


def phase_share(gradient: Tensor, scale: int) -> float:
    """Return the share of a gradient's power that is common to all sub-pixel phases of a pixel-shuffle.

    Args:
        gradient: of the weight of the convolution that the pixel-shuffle follows, or of its output without the batch
            axis: ``(C * scale**2, ...)``.
        scale: factor of the pixel-shuffle.

    Example:
        >>> phase_share(torch.tensor([1.0, 1.0, -1.0, -1.0]), 2)
        0.0
    """
    if gradient.shape[0] % scale**2:
        raise ShapeError(f"gradient: want a multiple of {scale**2} channels first, got {tuple(gradient.shape)}")
    phases = gradient.float().unflatten(0, (-1, scale**2))
    return _share(scale**2 * phases.mean(dim=1).square().sum(), phases.square().sum())


def mean_share(student_cells: Tensor, teacher_cells: Tensor) -> float:
    """Return the share of the squared distance of memory cells that is a difference of channel means.

    Args:
        student_cells: ``(..., K, H, W)``.
        teacher_cells: the same shape.
    """
    difference = (student_cells - teacher_cells).detach().float()
    pixels = difference.shape[-1] * difference.shape[-2]
    return _share(pixels * difference.mean(dim=(-2, -1)).square().sum(), difference.square().sum())


def history_share(cells: Tensor, cells_of_copies: Tensor) -> float:
    """Return how much a cell depends on the frames before: the power of its change, over its own power.

    Both powers are those of the variation over the image (AC): channel means are left out.

    Args:
        cells: ``(..., K, H, W)``, of a clip.
        cells_of_copies: of a clip in which every frame is a copy of the one that the cells were read at.
    """
    spatial = (-2, -1)
    own = cells.detach().float() - cells.detach().float().mean(dim=spatial, keepdim=True)
    change = (cells - cells_of_copies).detach().float()
    change = change - change.mean(dim=spatial, keepdim=True)
    return _share(change.square().sum(), own.square().sum())


def removable_share(
    memory: TemporalMemory, student_features: Tensor, teacher_features: Tensor, *, steps: int = 100, rate: float = 1e-2
) -> float:
    """Return the share of the temporal loss that disappears when the memory is trained and the student is not.

    It is 0 where the memory has nothing to train: frozen, and without an adapter.

    Args:
        memory: its trainable parameters change, so pass a copy of one that is still needed.
        student_features: F^SR of the student, ``(B, T, C, H, W)``.
        teacher_features: F^SR of the teacher.
        steps: number of steps of Adam.
        rate: its learning rate.
    """
    learned = [parameter for parameter in memory.parameters() if parameter.requires_grad]
    ours, theirs = memory.pool(student_features.detach().float()), memory.pool(teacher_features.detach().float())

    def loss() -> Tensor:
        pair = memory.run_convlstm(ours, student=True), memory.run_convlstm(theirs, student=False)
        return temporal_distillation(*pair, cells=memory.cells, border_frames=memory.border_frames)

    before = loss().item()
    if not learned or not before:
        return 0.0
    optimizer = torch.optim.Adam(learned, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return 1 - loss().item() / before


@dataclass(frozen=True)
class TemporalSignal:
    """Measures of temporal distillation on one clip; shares are between 0 and 1.

    Attributes:
        block_share: see :func:`block_share`, of the loss's gradient at F^SR and at the scale of the student.
        reconstruction_block_share: the same of the reconstruction.
        phase_share: see :func:`phase_share`, of the gradient of the layer that the pixel-shuffle follows.
        reconstruction_phase_share: the same of the reconstruction.
        mean_share: see :func:`mean_share`, of the compared cells.
        removable_share: see :func:`removable_share`.
        history_share: see :func:`history_share`, of the teacher's last compared cell.
        collapse_index: of the teacher's compared cells.
        gradient_ratio: norm of the loss's gradient over the reconstruction's, at weight 1, with respect to all
            parameters of the student.
    """

    block_share: float
    reconstruction_block_share: float
    phase_share: float
    reconstruction_phase_share: float
    mean_share: float
    removable_share: float
    history_share: float
    collapse_index: float
    gradient_ratio: float


def temporal_signal(
    student: VESPCN, teacher: VideoSR, memory: TemporalMemory, low: Tensor, high: Tensor
) -> TemporalSignal:
    """Measure temporal distillation on one clip; neither network nor memory changes.

    Args:
        student: a wide VESPCN, whose convolutions around the pixel-shuffle are known.
        teacher: in evaluation mode.
        memory: that reads both.
        low: ``(B, T, 3, H, W)``.
        high: ``(B, T, 3, s*H, s*W)``.
    """
    inputs: list[Tensor] = []

    def record_input(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0])

    hook = student.exit.register_forward_pre_hook(record_input)
    try:
        upscaled = student(low, return_features="hr")
    finally:
        hook.remove()
    at = low.shape[1] - 1 - memory.border_frames
    with torch.no_grad():
        theirs = teacher(low, return_features="hr").features
        of_copies = teacher(low[:, at : at + 1].expand_as(low).contiguous(), return_features="hr").features
    assert upscaled.features is not None
    assert theirs is not None
    assert of_copies is not None
    teacher_cells = memory.teacher_cells(theirs).detach()
    student_cells = memory.student_cells(upscaled.features)
    loss = temporal_distillation(student_cells, teacher_cells, cells=memory.cells, border_frames=memory.border_frames)
    reconstruction = charbonnier(upscaled.frames, high)
    learned = [parameter for parameter in student.parameters() if parameter.requires_grad]

    def gradients(term: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wanted = [*inputs, student.widen.weight, *learned]
        parts = torch.autograd.grad(term, wanted, retain_graph=True, allow_unused=True)
        flat = torch.cat([part.flatten() for part in parts[len(inputs) + 1 :] if part is not None])
        features, layer = torch.cat([part for part in parts[: len(inputs)] if part is not None]), parts[len(inputs)]
        assert layer is not None
        return features, layer, flat.norm()

    ours, whole = gradients(loss), gradients(reconstruction)
    selected = memory.select_frames(student_cells), memory.select_frames(teacher_cells)
    return TemporalSignal(
        block_share=block_share(ours[0], student.scale),
        reconstruction_block_share=block_share(whole[0], student.scale),
        phase_share=phase_share(ours[1], student.scale),
        reconstruction_phase_share=phase_share(whole[1], student.scale),
        mean_share=mean_share(*selected),
        removable_share=removable_share(copy.deepcopy(memory), upscaled.features, theirs),
        history_share=history_share(teacher_cells[:, at], memory.teacher_cells(of_copies)[:, at]),
        collapse_index=collapse_index(selected[1]).item(),
        gradient_ratio=(ours[2] / whole[2]).item(),
    )


def _share(part: Tensor, whole: Tensor) -> float:
    return (part / whole).item() if whole > 0 else 0.0
