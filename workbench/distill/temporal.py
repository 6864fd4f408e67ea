"""Temporal distillation: distance of ConvLSTM memory cells (STD, section 3.2).

One ConvLSTM, shared by teacher and student, reads the high-resolution features of the clip in order, and its memory
cells are compared. The distance can fall without any change of the student in three ways, and each has a remedy:

- A ConvLSTM that is trained jointly can make its cell independent of the features. ``mode="frozen"`` keeps it fixed,
  and :func:`collapse_index` and :func:`cell_deviation` measure how much the teacher's cell still varies over the image.
- An adapter between different numbers of channels can be trained to match. With equal numbers there is none.
- The means of the features can be matched by biases. :func:`standardize` removes them.

``workbench.distill.diagnostics`` measures how much of the loss and of its gradient is left for detail. Symbols:
``workbench.models.video_sr``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.aliases import CONVLSTM
from workbench.choices import Cells, MemoryMode
from workbench.errors import ShapeError, WeightsError
from workbench.models.weights import read_tensors, save_tensors

FORMAT = "3"
ADDED_IN_FORMAT_2 = {"standardize": False, "cells": "last", "border_frames": 0}
"""Settings that files of format 1 lack, with the values that these files were made under."""

SMALLEST_DEVIATION = 1e-2
"""Standard deviation below which :func:`standardize` no longer amplifies a channel, as a share of the mean one."""


class ConvLSTM(nn.Module):
    r"""A convolutional LSTM (Shi et al., NeurIPS 2015) without peepholes, over a whole clip.

    .. math::
        i, f, o = \sigma(W_{i,f,o} * x_t + U_{i,f,o} * h_{t-1} + b_{i,f,o}), \quad
        g = \tanh(W_g * x_t + U_g * h_{t-1} + b_g) \\
        C_t = f \odot C_{t-1} + i \odot g, \quad h_t = o \odot \tanh(C_t)

    Cell and hidden state begin at zero. Weights start as PyTorch starts convolutions, drawn from ``seed`` alone,
    so that a frozen memory is the same in every run that names the same seed.

    Args:
        in_channels: channels of the input.
        hidden_channels: K, the channels of the cell.
        seed: seed of the initial weights.
    """

    def __init__(self, in_channels: int, hidden_channels: int, *, seed: int = 0) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.input_conv = nn.Conv2d(in_channels, 4 * hidden_channels, 3, padding=1)
            self.hidden_conv = nn.Conv2d(hidden_channels, 4 * hidden_channels, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Memory cells after every frame: ``(B, T, C, H, W)`` -> ``(B, T, K, H, W)``, in float32."""
        if features.ndim != 5:
            raise ShapeError(f"features: want (B, T, C, H, W), got {tuple(features.shape)}")
        batch, frames, _, height, width = features.shape
        inputs = self.input_conv(features.flatten(0, 1)).unflatten(0, (batch, frames)).float()
        cell = inputs.new_zeros(batch, self.hidden_channels, height, width)
        hidden = cell
        cells: list[Tensor] = []
        for frame in range(frames):
            gates = inputs[:, frame] + self.hidden_conv(hidden).float()
            i, f, o, g = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            cells.append(cell)
        return torch.stack(cells, dim=1)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
        """Load the weights, also under the names of files of formats 1 and 2."""
        for old, new in CONVLSTM.items():
            for name in ("weight", "bias"):
                if (key := f"{prefix}{old}.{name}") in state_dict:
                    state_dict[f"{prefix}{new}.{name}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def standardize(features: Tensor) -> Tensor:
    r"""Give every channel of every clip zero mean and unit variance, over its frames and pixels.

    .. math:: \hat F_c = (F_c - \mu_c) / \sqrt{\sigma_c^2 + \epsilon}, \quad
        \mu_c, \sigma_c^2 \text{ over all frames and pixels of the clip}

    Each network is standardized by its own statistics. With the teacher's statistics for both, a difference of the
    channel means would stay in the loss, and the student could remove it by biases alone, which the last convolution
    undoes: more than half of the loss carried no information on detail. By its own statistics the loss does not
    depend on the offset or positive gain of a student's channel, and neither does its gradient, which passes through
    the statistics: the loss compares only the pattern of each channel over space and time.

    The statistics are those of one clip, not of the batch, so that the loss is the same with one micro-batch or
    several, with one process or several, and from a cache; and not of one frame, so that changes of the mean over time
    stay.

    Channels that hardly vary (:data:`SMALLEST_DEVIATION`) are not amplified to unit variance.

    Args:
        features: ``(B, T, C, H, W)``.

    Example:
        >>> standardize(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1)).round(decimals=2).flatten().tolist()
        [-1.0, 1.0]
    """
    centered = features - features.mean(dim=(1, 3, 4), keepdim=True)
    variance = centered.square().mean(dim=(1, 3, 4), keepdim=True)
    floor = SMALLEST_DEVIATION**2 * variance.mean(dim=2, keepdim=True) + 1e-12
    return centered * (variance + floor).rsqrt()


def select_frames(cells: Tensor, which: Cells, border_frames: int) -> Tensor:
    """Return the memory cells of the frames that the loss compares: ``(B, T, K, h, w)`` -> ``(B, T', K, h, w)``.

    Args:
        cells: memory cells after every frame of a clip.
        which: ``all`` without ``border_frames`` at either end, or the ``last`` of these alone.
        border_frames: frames at each end whose neighbors are missing: networks complete them by copies.

    Raises:
        ShapeError: the clip has no other frames.
    """
    inner = cells[:, border_frames : cells.shape[1] - border_frames]
    if not inner.shape[1]:
        raise ShapeError(
            f"border_frames: want less than half of the clip's {cells.shape[1]} frames, got {border_frames}; take "
            "longer clips, or set it to 0"
        )
    return inner if which == "all" else inner[:, -1:]


class TemporalMemory(nn.Module):
    """Shared ConvLSTM over the features of both networks, with pooling, adapter and standardization.

    With equal numbers of channels, the ConvLSTM is all that has parameters, and in mode ``frozen`` none is trained.

    Args:
        student_channels: channels of the student's F^SR.
        teacher_channels: channels of the teacher's; where they differ, a 1x1 adapter (training only) converts the
            student's to the teacher's number. STD shares the ConvLSTM and so implies equal numbers; an adapter
            can lower the loss by itself. It has biases only where features are not standardized.
        hidden_channels: K of the ConvLSTM; not stated in the paper.
        stride: side of the squares over which features are averaged first. 1 reads every pixel, as STD's figure
            suggests; at the scale of the network or above, no detail between low-resolution pixels is compared.
        standardize: see :func:`standardize`; not in the paper.
        cells: compare the ``last`` cell of the clip, as in the paper, or ``all``.
        border_frames: see :func:`select_frames`.
        mode: ``trained`` with the student as in the paper; ``trained_then_frozen`` until the loss falls below
            ``freeze_below``, which is the paper's rule (1e-8); ``frozen`` from the start.
        freeze_below: see ``mode``.
        seed: seed of the initial weights.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        hidden_channels: int = 8,
        stride: int = 2,
        standardize: bool = True,
        cells: Cells = "last",
        border_frames: int = 1,
        mode: MemoryMode = "frozen",
        freeze_below: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings = {
            "student_channels": student_channels,
            "teacher_channels": teacher_channels,
            "hidden_channels": hidden_channels,
            "stride": stride,
            "standardize": standardize,
            "cells": cells,
            "border_frames": border_frames,
            "mode": mode,
            "freeze_below": freeze_below,
        }
        self.stride = stride
        self.standardize = standardize
        self.cells: Cells = cells
        self.border_frames = border_frames
        self.mode: MemoryMode = mode
        self.freeze_below = freeze_below
        self.lstm = ConvLSTM(teacher_channels, hidden_channels, seed=seed)
        self.adapter: nn.Module = nn.Identity()
        if student_channels != teacher_channels:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapter = nn.Conv2d(student_channels, teacher_channels, 1, bias=not standardize)
        self.register_buffer("frozen", torch.tensor(mode == "frozen"))
        self._freeze(mode == "frozen")
        self.register_load_state_dict_post_hook(lambda memory, _: memory._freeze(bool(memory.frozen)))

    def _freeze(self, is_frozen: bool) -> None:
        self.is_frozen = is_frozen  # the buffer's value, which reading would wait for the device
        self.lstm.requires_grad_(not is_frozen)

    def teacher_cells(self, features: Tensor) -> Tensor:
        """Return the memory cells of the teacher: ``(B, T, C', h*stride, w*stride)`` -> ``(B, T, K, h, w)``."""
        return self.run_convlstm(self.pool(features), student=False)

    def student_cells(self, features: Tensor) -> Tensor:
        """Return the memory cells of the student, whose features may have another number of channels."""
        return self.run_convlstm(self.pool(features), student=True)

    def pool(self, features: Tensor) -> Tensor:
        """Average over squares of ``stride`` pixels: ``(B, T, C, H, W)`` -> ``(B, T, C, H/stride, W/stride)``."""
        if features.ndim != 5:
            raise ShapeError(f"features: want (B, T, C, H, W), got {tuple(features.shape)}")
        if self.stride == 1:
            return features
        pooled = F.avg_pool2d(features.flatten(0, 1), self.stride, ceil_mode=True, count_include_pad=False)
        return pooled.unflatten(0, features.shape[:2])

    def run_convlstm(self, pooled: Tensor, *, student: bool) -> Tensor:
        """Return the memory cells of pooled features of a whole clip; the student's pass through the adapter."""
        if student and not isinstance(self.adapter, nn.Identity):
            pooled = self.adapter(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])
        return self.lstm(standardize(pooled.float()) if self.standardize else pooled)

    def select_frames(self, cells: Tensor) -> Tensor:
        """Return the cells of the frames that the loss compares, see :func:`select_frames`."""
        return select_frames(cells, self.cells, self.border_frames)

    def freeze_if_below(self, loss: float) -> bool:
        """Freeze the ConvLSTM for good if the mode is ``trained_then_frozen`` and the loss below ``freeze_below``.

        Returns:
            Whether this call froze it.
        """
        if self.mode == "trained_then_frozen" and not self.is_frozen and loss < self.freeze_below:
            self.frozen.fill_(True)  # pyright: ignore[reportCallIssue]
            self._freeze(True)
            return True
        return False


def temporal_distillation(
    student_cells: Tensor, teacher_cells: Tensor, *, cells: Cells = "last", border_frames: int = 0
) -> Tensor:
    r"""Return the squared L2 distance of the memory cells of two networks, a mean over all elements.

    .. math:: L_{TD} = \frac{1}{T'Khw} \sum_{t} \lVert C^S_t - C^T_t \rVert_2^2

    The teacher's *features* carry no gradient; its cell passes one to the ConvLSTM while that is trained.

    Args:
        student_cells: ``(B, T, K, h, w)``, after every frame.
        teacher_cells: the same shape.
        cells: frames whose cells are compared; by default the last alone, as in the paper.
        border_frames: see :func:`select_frames`.
    """
    return cell_distance(*(select_frames(part, cells, border_frames) for part in (student_cells, teacher_cells)))


def cell_distance(student_cells: Tensor, teacher_cells: Tensor) -> Tensor:
    """Return the distance of :func:`temporal_distillation` for the cells of selected frames."""
    if student_cells.shape != teacher_cells.shape:
        raise ShapeError(f"cells: want equal shapes, got {tuple(student_cells.shape)}, {tuple(teacher_cells.shape)}")
    return F.mse_loss(student_cells, teacher_cells)


def collapse_index(cells: Tensor) -> Tensor:
    """Return :func:`workbench.metrics.memory_cells.collapse_index` of a tensor; 0 for cells that are zero.

    It does not show cells that shrink as a whole, as those of a trained ConvLSTM over standardized features do;
    :func:`cell_deviation` shows them.

    Example:
        >>> collapse_index(torch.ones(1, 2, 4, 4))
        tensor(0.)
    """
    return (cell_deviation(cells) / cells.detach().float().square().mean().sqrt()).nan_to_num(0, 0, 0)


def cell_deviation(cells: Tensor) -> Tensor:
    """Return :func:`workbench.metrics.memory_cells.cell_deviation` of a tensor.

    Under a frozen ConvLSTM it follows the teacher's features alone. Where it falls, the ConvLSTM lowers the loss.

    Example:
        >>> cell_deviation(torch.tensor([1.0, 3.0]).view(1, 1, 2))
        tensor(1.)
    """
    return cells.detach().float().var(dim=(-2, -1), correction=0).mean().sqrt()


def save_memory(memory: TemporalMemory, path: Path) -> None:
    """Write the ConvLSTM and its adapter with the settings that build them again."""
    save_tensors(path, memory.state_dict(), {"format": FORMAT, "memory": json.dumps(memory.settings)})


def load_memory(path: Path) -> TemporalMemory:
    """Read a file of :func:`save_memory`, also one of format 1 or 2.

    Raises:
        WeightsError: no ConvLSTM in it, another format, or damaged.
    """
    tensors, metadata = read_tensors(path)
    if "memory" not in metadata:
        raise WeightsError(f"{path}: not a memory (ConvLSTM) of this workbench")
    settings, format_ = json.loads(metadata["memory"]), metadata.get("format")
    if format_ not in ("1", "2", FORMAT):
        raise WeightsError(f"{path}: format of the memory: want 1 to {FORMAT}, got {format_}; update the workbench")
    memory = TemporalMemory(**((ADDED_IN_FORMAT_2 if format_ == "1" else {}) | settings))
    memory.load_state_dict(tensors)
    return memory.eval()
