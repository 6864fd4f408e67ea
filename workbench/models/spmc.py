"""SPMC, also DRVSR ("Detail-revealing Deep Video Super-resolution", Tao et al., ICCV 2017).

Every frame of the window, the reference included, goes the same way: a small network estimates its flow to the
reference (VESPCN's, in luma); the sub-pixel motion compensation layer carries each low-resolution pixel along that
flow straight onto the high-resolution grid, where it lands between four pixels and is shared out among them; an
encoder takes the sparse picture down to a quarter; a convolutional LSTM remembers what the frames before have shown; a
decoder brings it back. The published network gives a picture after every frame, and the last is the result; here only
the last is decoded.

The layers see luma; chroma is enlarged bicubic. The target position is the pixel's own times the scale, as in the
public re-implementation of the authors' code: half a pixel of the grid off from bicubic enlargement, which the encoder
has to learn.

Where we differ: the loss on the pictures in between, the flow's own loss, and the three phases of training are not
offered; the unit of the flow is a setting, see :class:`workbench.models.vespcn.MotionCompensation`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ShapeError
from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, Skip, SlidingWindow, WindowOutput


def splat(pictures: Tensor, flow: Tensor, *, scale: int) -> Tensor:
    r"""Carry every pixel along its flow onto a grid that is ``scale`` times finer (forward warping; section 3.2).

    .. math:: H(q) = \sum_p L(p) \, \Lambda(s\,(x_p + u_p) - x_q) \, \Lambda(s\,(y_p + v_p) - y_q),
              \quad \Lambda(d) = \max(0, 1 - |d|)

    What lands beyond the border is put on the border: nothing is lost, the sum over the picture stays. What no pixel
    lands on is 0, and where several land they add up. Differentiable in both arguments; positions and sums are float32
    whatever the precision around. On a GPU the order of the sums, and so their last digit, changes from run to run.

    Args:
        pictures: ``(N, C, H, W)``.
        flow: ``(N, 2, H, W)`` in pixels of ``pictures``, x first: where each pixel goes.
        scale: how many times finer the grid is; 1 keeps it.

    Returns:
        ``(N, C, scale * H, scale * W)``.

    Raises:
        ShapeError: the flow has another size than the pictures.

    Example:
        >>> flow = torch.tensor([0.25, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
        >>> splat(torch.tensor([[[[1.0, 2.0]]]]), flow, scale=2)
        tensor([[[[0.5000, 0.5000, 1.0000, 1.0000],
                  [0.0000, 0.0000, 0.0000, 0.0000]]]])
    """
    n, channels, height, width = pictures.shape
    if flow.shape != (n, 2, height, width):
        raise ShapeError(f"flow: want {(n, 2, height, width)}, got {tuple(flow.shape)}")
    rows, columns = height * scale, width * scale
    with torch.autocast(pictures.device.type, enabled=False):
        dtype = torch.promote_types(pictures.dtype, torch.float32)
        flow = flow.to(dtype)
        xs = (torch.arange(width, device=flow.device, dtype=dtype) + flow[:, 0]) * scale
        ys = (torch.arange(height, device=flow.device, dtype=dtype)[:, None] + flow[:, 1]) * scale
        left, top = xs.floor(), ys.floor()
        right_part, lower_part = xs - left, ys - top
        shares = [
            (top, left, (1 - lower_part) * (1 - right_part)),
            (top, left + 1, (1 - lower_part) * right_part),
            (top + 1, left, lower_part * (1 - right_part)),
            (top + 1, left + 1, lower_part * right_part),
        ]
        places = [y.long().clamp(0, rows - 1) * columns + x.long().clamp(0, columns - 1) for y, x, _ in shares]
        values = [pictures.to(dtype) * share[:, None] for _, _, share in shares]
        place = torch.stack(places, dim=1).flatten(1)[:, None].expand(-1, channels, -1)
        landed = pictures.new_zeros((n, channels, rows * columns), dtype=dtype)
        landed = landed.scatter_add(2, place, torch.stack(values, dim=2).flatten(2))
    return landed.view(n, channels, rows, columns)


class ConvLSTMCell(nn.Module):
    """A long short-term memory whose gates are 3x3 convolutions; the forget gate's bias has 1 added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = conv3x3(2 * channels, 4 * channels)

    def forward(self, features: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """One step: the new hidden state and cell, each like ``features (N, C, H, W)``; ``None`` stands for zeros."""
        hidden, cell = state if state is not None else (torch.zeros_like(features), torch.zeros_like(features))
        write, new, forget, show = self.gates(torch.cat((features, hidden), dim=1)).chunk(4, dim=1)
        cell = cell * (forget + 1).sigmoid() + write.sigmoid() * new.tanh()
        return show.sigmoid() * cell.tanh(), cell


class SPMC(SlidingWindow):
    """Flow, forward warping, and an encoder and decoder with a memory between them.

    Args:
        num_frames: 3 in the released models; the paper also has 5 and 7.
        channels: width at high resolution, and so of F^SR; half and quarter size have twice and four times as many.
        scale: 2, 3 or 4.
        flow_gain: low-resolution pixels that a tanh of 1 means in the flow; 8 is ours, 1 in public code.
        skip: see :class:`SlidingWindow`; bicubic as published.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(SPMC())
        1722161
    """

    info = NetworkInfo(
        paper="Tao et al., Detail-revealing deep video super-resolution, ICCV 2017",
        year=2017,
        role="both",
        color="y",
        features="32 channels at high resolution after the last step of the recurrence: hr is what the last "
        "convolution reads, hr_pre the same before its ReLU, shuffle what the last transposed convolution gives "
        "(there is no shuffle)",
        differs="only the last of the pictures that come after every frame is made; no loss on the flow; the unit of "
        "the flow is ours; unconfirmed beyond a re-implementation of the authors' code",
    )

    def __init__(
        self,
        *,
        num_frames: int = 3,
        channels: int = 32,
        scale: int = 4,
        flow_gain: float = 8.0,
        skip: Skip = "bicubic",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip, size_multiple=4)
        full, half, quarter = channels, 2 * channels, 4 * channels
        self.feature_channels = full
        self.motion = MotionCompensation(flow_gain=flow_gain, colours=1)
        self.enter = nn.Conv2d(1, full, 5, padding=2)
        self.down1 = conv3x3(full, half, stride=2)
        self.half_size = conv3x3(half, half)
        self.down2 = conv3x3(half, quarter, stride=2)
        self.memory = ConvLSTMCell(quarter)
        self.recall = conv3x3(quarter, quarter)
        self.up2 = nn.ConvTranspose2d(quarter, half, 4, 2, 1)
        self.half_size_again = conv3x3(half, half)
        self.up1 = nn.ConvTranspose2d(half, full, 4, 2, 1)
        self.full_size = conv3x3(full, full)
        self.exit = nn.Conv2d(full, 1, 5, padding=2)
        kaiming_init_(self.enter, slope=0.0, gain=float(scale))  # what it reads is 0 but for one pixel in scale * scale
        kaiming_init_(self.down1, self.half_size, self.down2, self.recall, slope=0.0)
        kaiming_init_(self.half_size_again, self.full_size, slope=0.0)
        kaiming_init_(self.memory.gates, slope=1.0)
        kaiming_init_(self.exit, slope=1.0, gain=0.005)
        for up in (self.up2, self.up1):  # each pixel that comes out is fed by 2x2 of the 4x4 taps
            nn.init.normal_(up.weight, std=(2 / (4 * up.in_channels)) ** 0.5)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Luma and chroma."""
        return split_luma(frames_NCHW)

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Carry every frame onto the reference's fine grid, encode, remember in the order of the frames, decode."""
        luma_NTCHW, chroma_NTCHW = pieces
        n, frames = luma_NTCHW.shape[:2]
        reference = luma_NTCHW[:, frames // 2].repeat_interleave(frames, dim=0)
        every = luma_NTCHW.flatten(0, 1)
        on_fine_grid = splat(every, self.motion.flow(every, reference), scale=self.scale)

        full = F.relu(self.enter(on_fine_grid))
        half = F.relu(self.half_size(F.relu(self.down1(full))))
        quarter_NTCHW = F.relu(self.down2(half)).unflatten(0, (n, frames))
        state = None
        for quarter in quarter_NTCHW.unbind(dim=1):
            state = self.memory(quarter, state)
        assert state is not None
        last_full, last_half = (skip.unflatten(0, (n, frames))[:, -1] for skip in (full, half))

        decoded = F.relu(self.up2(F.relu(self.recall(state[0])))) + last_half
        raised = F.relu(self.up1(F.relu(self.half_size_again(decoded)))) + last_full
        before = self.full_size(raised)
        after = F.relu(before)
        chroma = chroma_NTCHW[:, frames // 2] if self.skip == "none" else None
        residual = join_luma(self.exit(after), chroma, scale=self.scale)
        if return_features is None:
            return WindowOutput(residual)
        return WindowOutput(residual, {"hr": after, "hr_pre": before, "shuffle": raised}[return_features])


def spmc(*, scale: int = 4, skip: Skip = "bicubic", num_frames: int = 3, channels: int = 32) -> SPMC:
    """Forward warping onto the fine grid and a ConvLSTM, in luma, 3 frames; 1,722,161 parameters."""
    return SPMC(scale=scale, skip=skip, num_frames=num_frames, channels=channels)
