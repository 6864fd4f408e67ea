"""SPMC, also DRVSR ("Detail-revealing Deep Video Super-resolution", Tao et al., ICCV 2017).

Every frame of the window, including the reference, is processed in the same way: a small network estimates its flow to
the reference (VESPCN's, in luma); the sub-pixel motion compensation layer moves each low-resolution pixel along that
flow to the high-resolution grid, where it is distributed over the nearest four pixels; an encoder downsamples the
sparse image to a quarter; a ConvLSTM accumulates the frames; a decoder upsamples it again. The published network has an
output after every frame, of which the last is the result; here only the last is computed.

The layers process luma; chroma is upsampled bicubically. The target position is the pixel's own times the scale, as in
the public re-implementation of the authors' code: off by half a pixel of the grid from bicubic upsampling, which the
encoder has to learn.

Deviations: the loss on the intermediate images, the flow's own loss, and the three phases of training are not
available; the unit of the flow is a setting, see :class:`workbench.models.vespcn.MotionCompensation`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import ShapeError
from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.layers.tail import pick_features
from workbench.models.sliding_window import SlidingWindow
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import NetworkInfo, WindowOutput


def splat(images: Tensor, flow: Tensor, *, scale: int) -> Tensor:
    r"""Warp images forward along a flow to a grid that is ``scale`` times finer (section 3.2).

    .. math:: H(q) = \sum_p L(p) \, \Lambda(s\,(x_p + u_p) - x_q) \, \Lambda(s\,(y_p + v_p) - y_q),
              \quad \Lambda(d) = \max(0, 1 - |d|)

    Targets beyond the border are moved to the border, so that the sum over the image is preserved. Pixels without a
    source are 0, those with several sources are sums. Differentiable in both arguments; positions and sums are float32
    also under autocast. On a GPU the order of the sums, and so their last digit, changes from run to run.

    Args:
        images: ``(N, C, H, W)``.
        flow: ``(N, 2, H, W)`` in pixels of ``images``, x first: the displacement of each pixel.
        scale: factor of the grid; 1 keeps it.

    Returns:
        ``(N, C, scale * H, scale * W)``.

    Raises:
        ShapeError: the flow has another size than the images.

    Example:
        >>> flow = torch.tensor([0.25, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
        >>> splat(torch.tensor([[[[1.0, 2.0]]]]), flow, scale=2)
        tensor([[[[0.5000, 0.5000, 1.0000, 1.0000],
                  [0.0000, 0.0000, 0.0000, 0.0000]]]])
    """
    n, channels, height, width = images.shape
    if flow.shape != (n, 2, height, width):
        raise ShapeError(f"flow: want {(n, 2, height, width)}, got {tuple(flow.shape)}")
    rows, columns = height * scale, width * scale
    with without_autocast(images.device):
        dtype = torch.promote_types(images.dtype, torch.float32)
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
        indices = [y.long().clamp(0, rows - 1) * columns + x.long().clamp(0, columns - 1) for y, x, _ in shares]
        values = [images.to(dtype) * share[:, None] for _, _, share in shares]
        index = torch.stack(indices, dim=1).flatten(1)[:, None].expand(-1, channels, -1)
        warped = images.new_zeros((n, channels, rows * columns), dtype=dtype)
        warped = warped.scatter_add(2, index, torch.stack(values, dim=2).flatten(2))
    return warped.view(n, channels, rows, columns)


class ConvLSTMCell(nn.Module):
    """ConvLSTM with 3x3 convolutions as gates; 1 is added to the forget gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = conv3x3(2 * channels, 4 * channels)

    def forward(self, features: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and cell, each like ``features (N, C, H, W)``; the state None is zeros."""
        hidden, cell = state if state is not None else (torch.zeros_like(features), torch.zeros_like(features))
        i, g, f, o = self.gates(torch.cat((features, hidden), dim=1)).chunk(4, dim=1)
        cell = cell * (f + 1).sigmoid() + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class SPMC(SlidingWindow):
    """SPMC: flow, forward warping, and an encoder and decoder with a ConvLSTM between them.

    Of F^SR ``hr`` is the input of the last convolution, ``hr_pre`` the same before its ReLU, ``shuffle`` the output of
    the last transposed convolution (there is no shuffle).

    Args:
        num_frames: 3 in the released models; the paper also has 5 and 7.
        channels: width at high resolution, and so of F^SR; half and quarter size have twice and four times as many.
        scale: 2, 3 or 4.
        flow_gain: flow in low-resolution pixels for a tanh of 1; 8 is ours, 1 in public code.
        skip: see :class:`SlidingWindow`; bicubic as published.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(SPMC())
        1722161
    """

    info = NetworkInfo(
        paper="Tao et al., Detail-revealing deep video super-resolution, ICCV 2017", year=2017, role="both"
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
        self.motion = MotionCompensation(flow_gain=flow_gain, colors=1)
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
        kaiming_init_(self.enter, slope=0.0, gain=float(scale))  # its input is 0 except for one pixel in scale * scale
        kaiming_init_(self.down1, self.half_size, self.down2, self.recall, slope=0.0)
        kaiming_init_(self.half_size_again, self.full_size, slope=0.0)
        kaiming_init_(self.memory.gates, slope=1.0)
        kaiming_init_(self.exit, slope=1.0, gain=0.005)
        for up in (self.up2, self.up1):  # each output pixel is the sum of 2x2 of the 4x4 taps
            nn.init.normal_(up.weight, std=(2 / (4 * up.in_channels)) ** 0.5)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return luma and chroma."""
        return split_luma(frames_NCHW)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Warp every frame to the fine grid of the reference, encode, run the ConvLSTM over the frames, decode."""
        luma_NTCHW, chroma_NTCHW = features
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
        return WindowOutput(residual, pick_features(return_features, hr=after, hr_pre=before, shuffle=raised))
