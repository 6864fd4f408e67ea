"""Textbook composition of networks and of a training step, which the benches compare ours with.

EDVR and the student window by window, everything recomputed for each; every one of the nine points of a deformable
convolution sampled by four indexed gathers; a ConvLSTM of 64 channels at high resolution, frame by frame, trained with
the student.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import FeatureLayer
from workbench.devices import device_of
from workbench.models.layers import deformable
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled
from workbench.models.windows import window_indices

HIDDEN = 64


def gathered_deform_conv(
    features: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    groups: int = 1,
) -> Tensor:
    """Compute the deformable convolution by four indexed gathers for each of its points."""
    n, channels, height, width = features.shape
    taps = weight.shape[-1] ** 2
    ring = F.pad(features.float(), (1, 1, 1, 1)).view(n, groups, channels // groups, (height + 2) * (width + 2))
    moved = offset.float().view(n, groups, taps, 2, height, width)
    device = features.device
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    out = None
    for tap in range(taps):
        down, right = divmod(tap, weight.shape[-1])
        y = (moved[:, :, tap, 0] + rows + (down - 1)).clamp(-1, height)  # outside is the ring of zeros
        x = (moved[:, :, tap, 1] + columns + (right - 1)).clamp(-1, width)
        top, left = y.detach().floor().clamp(max=height - 1), x.detach().floor().clamp(max=width - 1)
        fetched = None
        for along_y, along_x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = (y - top if along_y else 1 - y + top) * (x - left if along_x else 1 - x + left)
            place = ((top + along_y + 1) * (width + 2) + left + along_x + 1).long().flatten(2)[:, :, None]
            corner = ring.gather(3, place.expand(-1, -1, channels // groups, -1))
            corner = corner.view(n, groups, -1, height, width) * share[:, :, None]
            fetched = corner if fetched is None else fetched + corner
        assert fetched is not None
        if mask is not None:
            fetched = fetched * mask.float().view(n, groups, taps, 1, height, width)[:, :, tap]
        part = F.conv2d(fetched.flatten(1, 2), weight[:, :, down, right, None, None].float())
        out = part if out is None else out + part
    assert out is not None
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def torchvision_deform_conv() -> Callable[..., Tensor] | None:
    """Return torchvision's operator with our signature; None where it cannot be imported."""
    try:
        from torchvision.ops import deform_conv2d  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError):  # its build for another torch does not load
        return None

    def convolve(
        features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, *, groups: int = 1
    ) -> Tensor:
        return deform_conv2d(features, offset, weight, bias, padding=1, mask=mask)

    return convolve


@contextmanager
def deforming_by(operator: Callable[..., Tensor]) -> Iterator[None]:
    """Replace the deformable convolution of all networks while the block runs."""
    ours = deformable.modulated_deform_conv
    modules = [one for name, one in sys.modules.items() if name.startswith("workbench.models.")]
    replaced = [one for one in modules if getattr(one, "modulated_deform_conv", None) is ours]
    for module in replaced:
        module.modulated_deform_conv = operator  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for module in replaced:
            module.modulated_deform_conv = ours  # pyright: ignore[reportAttributeAccessIssue]


def window_by_window(network: SlidingWindow, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
    """Upscale a clip with nothing shared between its windows."""
    middle = torch.arange(network.num_frames)[None]
    made = [
        network.upscale_windows(clip[:, window], middle, return_features)
        for window in window_indices(clip.shape[1], network.num_frames, network.border)
    ]
    features = [part.features for part in made if part.features is not None]
    return Upscaled(torch.cat([part.frames for part in made], 1), torch.cat(features, 1) if features else None)


class PlainLSTM(nn.Module):
    """ConvLSTM at high resolution, one convolution of input and state a frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + HIDDEN, 4 * HIDDEN, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the last cell: ``(B, T, C, H, W)`` -> ``(B, K, H, W)``."""
        batch, _, _, height, width = features.shape
        cell = hidden = features.new_zeros(batch, HIDDEN, height, width)
        for frame in features.unbind(1):
            i, f, o, g = self.gates(torch.cat((frame, hidden), 1)).chunk(4, 1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
        return cell


def plain_step(student: SlidingWindow, teacher: SlidingWindow | None) -> Callable[[Tensor, Tensor], None]:
    """Run the textbook's training step; with a teacher both losses of space-time distillation."""
    memory = PlainLSTM(student.feature_channels).to(device_of(student)) if teacher is not None else None
    learned = [*student.parameters(), *(memory.parameters() if memory is not None else ())]
    optimizer = torch.optim.Adam(learned, lr=1e-4)

    def step(low: Tensor, high: Tensor) -> None:
        optimizer.zero_grad()
        return_features: FeatureLayer | None = "hr" if teacher is not None else None
        ours = window_by_window(student, low, return_features)
        loss = ((ours.frames - high).square() + 1e-6).sqrt().mean()
        if teacher is not None and memory is not None:
            with torch.no_grad():
                theirs = window_by_window(teacher, low, return_features)
            assert ours.features is not None
            assert theirs.features is not None
            maps = [F.normalize(f.square().sum(2).flatten(2), dim=-1) for f in (ours.features, theirs.features)]
            loss = loss + 1e-3 * (maps[0] - maps[1]).square().mean() * maps[0].shape[-1]
            loss = loss + 0.03 * F.mse_loss(memory(ours.features), memory(theirs.features))
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()

    return step
