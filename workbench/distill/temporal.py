"""Temporal distillation: the student shall remember what the teacher remembers (STD, section 3.2).

One ConvLSTM, shared by both, reads the high-resolution features of the clip in order; the memory cells it ends with
are compared. Trained jointly, it can lower that distance without the student learning anything: by making the cell
independent of what it reads. So it can be kept frozen, and how much the teacher's cell still varies over the picture
is measured beside the loss (:func:`collapse_index`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ShapeError, WeightsError
from workbench.models.weights import read_tensors, save_tensors

MemoryMode = Literal["frozen", "trained", "trained_then_frozen"]


class ConvLSTM(nn.Module):
    r"""A convolutional LSTM (Shi et al., NeurIPS 2015) without peepholes, over a whole clip.

    .. math::
        i, f, o = \sigma(W_{i,f,o} * x_t + U_{i,f,o} * h_{t-1} + b_{i,f,o}), \quad
        g = \tanh(W_g * x_t + U_g * h_{t-1} + b_g) \\
        C_t = f \odot C_{t-1} + i \odot g, \quad h_t = o \odot \tanh(C_t)

    Cell and hidden state begin at zero. Weights start as PyTorch starts convolutions, drawn from ``seed`` alone,
    so that a frozen memory is the same in every run that names the same seed.

    Args:
        in_channels: of what it reads.
        hidden_channels: K, of its cell.
        seed: of its initial weights.
    """

    def __init__(self, in_channels: int, hidden_channels: int, *, seed: int = 0) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reads = nn.Conv2d(in_channels, 4 * hidden_channels, 3, padding=1)
            self.recalls = nn.Conv2d(hidden_channels, 4 * hidden_channels, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Memory cells after every frame: ``(B, T, C, H, W)`` -> ``(B, T, K, H, W)``, in float32."""
        if features.ndim != 5:
            raise ShapeError(f"features: want (B, T, C, H, W), got {tuple(features.shape)}")
        batch, frames, _, height, width = features.shape
        heard = self.reads(features.flatten(0, 1)).unflatten(0, (batch, frames)).float()
        cell = heard.new_zeros(batch, self.hidden_channels, height, width)
        hidden = cell
        cells: list[Tensor] = []
        for frame in range(frames):
            gates = heard[:, frame] + self.recalls(hidden).float()
            take, forget, tell, new = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
            hidden = tell.sigmoid() * cell.tanh()
            cells.append(cell)
        return torch.stack(cells, dim=1)


class TemporalMemory(nn.Module):
    """The shared ConvLSTM, and what is needed to let it read both networks.

    Args:
        student_channels: channels of the student's F^SR.
        teacher_channels: channels of the teacher's; where they differ, a 1x1 adapter (training only) turns the
            student's into the teacher's number. The paper shares the ConvLSTM and so implies equal numbers.
        hidden_channels: K of the ConvLSTM; not stated in the paper.
        stride: features are averaged over squares of this side first; 1 reads every pixel, as the paper's figure
            suggests, at many times the cost.
        mode: ``trained`` with the student as in the paper; ``trained_then_frozen`` until the loss falls below
            ``freeze_below``, which is the paper's rule (1e-8); ``frozen`` from the start.
        freeze_below: see ``mode``.
        seed: of the initial weights.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        hidden_channels: int = 8,
        stride: int = 4,
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
            "mode": mode,
            "freeze_below": freeze_below,
        }
        self.stride = stride
        self.mode: MemoryMode = mode
        self.freeze_below = freeze_below
        self.lstm = ConvLSTM(teacher_channels, hidden_channels, seed=seed)
        self.adapter: nn.Module = nn.Identity()
        if student_channels != teacher_channels:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapter = nn.Conv2d(student_channels, teacher_channels, 1)
        self.register_buffer("frozen", torch.tensor(mode == "frozen"))
        self._obey()

    def _obey(self) -> None:
        self.lstm.requires_grad_(not self.is_frozen)

    @property
    def is_frozen(self) -> bool:
        """Whether the ConvLSTM no longer learns."""
        return bool(self.frozen)

    def teacher_cells(self, features: Tensor) -> Tensor:
        """Memory cells of the teacher: ``(B, T, C', H, W)`` -> ``(B, T, K, H/stride, W/stride)``."""
        return self.remember(self.thin(features), student=False)

    def student_cells(self, features: Tensor) -> Tensor:
        """Memory cells of the student: ``(B, T, C, H, W)`` -> ``(B, T, K, H/stride, W/stride)``."""
        return self.remember(self.thin(features), student=True)

    def thin(self, features: Tensor) -> Tensor:
        """Average over squares of ``stride`` pixels: ``(B, T, C, H, W)`` -> ``(B, T, C, H/stride, W/stride)``."""
        if features.ndim != 5:
            raise ShapeError(f"features: want (B, T, C, H, W), got {tuple(features.shape)}")
        if self.stride == 1:
            return features
        thin = F.avg_pool2d(features.flatten(0, 1), self.stride, ceil_mode=True, count_include_pad=False)
        return thin.unflatten(0, features.shape[:2])

    def remember(self, thin: Tensor, *, student: bool) -> Tensor:
        """Memory cells from features that are thin already; the student's go through the adapter."""
        if student and not isinstance(self.adapter, nn.Identity):
            thin = self.adapter(thin.flatten(0, 1)).unflatten(0, thin.shape[:2])
        return self.lstm(thin)

    def after_step(self, loss: float) -> bool:
        """Freeze for good where the mode says so; returns whether that happened just now."""
        if self.mode == "trained_then_frozen" and not self.is_frozen and loss < self.freeze_below:
            self.frozen.fill_(True)  # pyright: ignore[reportCallIssue]
            self._obey()
            return True
        return False

    def load_state_dict(self, *args, **kwargs):  # noqa: ANN002, ANN003, ANN201
        """Load, and go on learning or not as the saved memory did."""
        result = super().load_state_dict(*args, **kwargs)
        self._obey()
        return result


def temporal_distillation(student_cells: Tensor, teacher_cells: Tensor) -> Tensor:
    r"""How differently the two remember the clip: L2 distance of the last memory cells.

    .. math:: L_{TD} = \frac{1}{KHW} \lVert C^S - C^T \rVert_2^2

    The teacher's *features* carry no gradient; its cell passes one to the ConvLSTM while that is trained.

    Args:
        student_cells: ``(B, T, K, H, W)``; only the last of the ``T`` is compared, as in the paper.
        teacher_cells: the same shape.
    """
    if student_cells.shape != teacher_cells.shape:
        raise ShapeError(f"cells: want equal shapes, got {tuple(student_cells.shape)}, {tuple(teacher_cells.shape)}")
    return F.mse_loss(student_cells[:, -1], teacher_cells[:, -1])


def collapse_index(cells: Tensor) -> float:
    """How much a memory still depends on what it sees: spatial standard deviation over root mean square.

    Near 1 the cell varies over the picture; near 0 it says the same everywhere and teaches nothing, however small the
    temporal loss.

    Args:
        cells: ``(B, K, H, W)``: the last cells.

    Example:
        >>> collapse_index(torch.ones(1, 2, 4, 4))
        0.0
    """
    cells = cells.detach().float()
    spread = cells.var(dim=(-2, -1), correction=0).mean().sqrt()
    return (spread / cells.square().mean().sqrt().clamp_min(1e-12)).item()


def save_memory(memory: TemporalMemory, path: Path) -> None:
    """Write the ConvLSTM and its adapter with the settings that build them again."""
    save_tensors(path, memory.state_dict(), {"format": "1", "memory": json.dumps(memory.settings)})


def load_memory(path: Path) -> TemporalMemory:
    """Read what :func:`save_memory` wrote.

    Raises:
        WeightsError: not a memory, or damaged.
    """
    tensors, metadata = read_tensors(path)
    if "memory" not in metadata:
        raise WeightsError(f"{path}: not a memory (ConvLSTM) of this workbench")
    memory = TemporalMemory(**json.loads(metadata["memory"]))
    memory.load_state_dict(tensors)
    return memory.eval()
