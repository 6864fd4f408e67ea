"""TOFlow (Xue et al., IJCV 2019): a flow that is learned for the task, on upsampled frames.

Frames are upsampled bicubically and normalized as for ImageNet; everything else is at high resolution. A flow network
of four levels, like SPyNet with batch normalization, estimates the flow from the middle frame to every neighbor, and
the neighbors are warped by it. Two 9x9 and two 1x1 convolutions on the seven aligned frames give the residual of the
middle one. There is no pixel-shuffle: F^SR are the 64 input channels of the last convolution: ``hr`` is after its ReLU,
``hr_pre`` before, ``shuffle`` is ``hr``.

The flow is computed in float32 also under autocast. ``norm`` selects the statistics of its normalizations in training:
``batch`` uses all pairs of frames of the batch, so a single clip is normalized by its own motion; ``frozen`` uses the
running statistics, as in evaluation.

Deviations: the residual of the middle frame starts near zero, and so does the flow (the authors train the flow network
first). In training all neighbors are normalized together, not one after the other. With ``reference_first`` the middle
frame is the first of the seven, as in weights that were converted from the authors' Torch files. Unconfirmed: the
authors' own graph and training, known only from re-implementations.
"""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import Border, FeatureLayer
from workbench.errors import check_choice
from workbench.imaging import resize_bicubic, warp
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.layers.flow import IMAGENET_MEAN, IMAGENET_STD, coarse_to_fine
from workbench.models.layers.norm import BatchNormMode, Norm
from workbench.models.layers.tail import pick_features
from workbench.models.passes import images_per_pass
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput
from workbench.models.windows import with_middle, without_middle

LEVELS = 4


class TaskFlow(nn.Module):
    """Flow between two image pyramids, coarse to fine; 960,776 parameters."""

    pairs_per_pass: int | None = None
    """Number of pairs that are processed at once; None: all with gradient, else one on a CPU and eight on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level() for _ in range(LEVELS))

    def forward(self, reference: list[Tensor], neighbor: list[Tensor]) -> Tensor:
        """Return the flow from the reference to the neighbor.

        Args:
            reference: four sizes of normalized images ``(N, 3, h, w)``, the smallest first, each half the next.
            neighbor: the same shapes.

        Returns:
            ``(N, 2, H, W)`` in pixels of the largest size, x first, float32.
        """
        at_once = images_per_pass(len(reference[0]), reference[0].device, setting=self.pairs_per_pass)
        passes = zip(*(level.split(at_once) for level in (*reference, *neighbor)), strict=True)
        return torch.cat([coarse_to_fine(self.levels, some[:LEVELS], some[LEVELS:], "zeros") for some in passes])


def _level() -> nn.Sequential:
    """Return layers from 8 channels (reference, warped neighbor, flow) to a correction of the flow."""
    layers: list[nn.Module] = []
    for into, out in pairwise((8, 32, 64, 32, 16)):
        conv = nn.Conv2d(into, out, 7, padding=3, bias=False)
        kaiming_init_(conv, slope=0.0)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
    last = nn.Conv2d(16, 2, 7, padding=3)
    kaiming_init_(last, slope=1.0, gain=1e-3)
    return nn.Sequential(*layers, last)


class TOFlow(BatchNormMode, SlidingWindow):
    """TOFlow: upsampling, flow estimation, warping, and convolution of the aligned frames.

    Args:
        channels: width of the three convolutions after the alignment, and so of F^SR.
        num_frames: 7 as published.
        reference_first: the middle frame is the first input of the first convolution, not between the others.
        norm: see the module.
        scale: 2, 3 or 4; the layers are the same.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(TOFlow())
        1405899
    """

    info = NetworkInfo(paper="Xue et al., Video enhancement with task-oriented flow, IJCV 2019", year=2019, role="both")
    supports_flow_supervision = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        channels: int = 64,
        num_frames: int = 7,
        reference_first: bool = False,
        norm: Norm = "batch",
        scale: int = 4,
        border: Border = "replicate",
    ) -> None:
        smallest = 2**LEVELS  # at high resolution
        super().__init__(
            scale=scale,
            num_frames=num_frames,
            border=border,
            skip="bicubic",  # the upsampled frame that is the input of the layers
            size_multiple=smallest // gcd(smallest, scale),
        )
        check_choice("norm", norm, Norm)
        self.norm: Norm = norm
        self.reference_first = reference_first
        self.feature_channels = channels
        self.flow = TaskFlow()
        self.conv1 = nn.Conv2d(3 * num_frames, channels, 9, padding=4)
        self.conv2 = nn.Conv2d(channels, channels, 9, padding=4)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 3, 1)
        kaiming_init_(self.conv1, self.conv2, self.conv3, slope=0.0)
        kaiming_init_(self.conv4, slope=1.0, gain=0.02)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return each frame upsampled and normalized, in four sizes, the smallest first."""
        with without_autocast(frames_NCHW.device):
            frames = frames_NCHW.to(torch.promote_types(frames_NCHW.dtype, self.mean.dtype))
            sizes = [(resize_bicubic(frames, scale=self.scale) - self.mean) / self.std]
            for _ in range(LEVELS - 1):
                sizes.insert(0, F.avg_pool2d(sizes[0], 2))
        return tuple(sizes)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Warp the neighbors to the middle frame; convolve all together."""
        n, frames = features[0].shape[:2]
        middle = frames // 2
        neighbor = [without_middle(size).flatten(0, 1) for size in features]
        reference = [size[:, middle].repeat_interleave(frames - 1, dim=0) for size in features]
        flow = self.flow(reference, neighbor)
        moved = warp(neighbor[-1], flow, padding_mode="zeros").to(neighbor[-1].dtype).unflatten(0, (n, frames - 1))
        fixed = features[-1][:, middle]
        aligned = torch.cat((fixed[:, None], moved), dim=1) if self.reference_first else with_middle(moved, fixed)
        before = self.conv3(F.relu(self.conv2(F.relu(self.conv1(aligned.flatten(1, 2))))))
        after = F.relu(before)
        sampled = ()
        if self.training:  # at low resolution, y first
            sampled = ((F.avg_pool2d(flow, self.scale) / self.scale).flip(1).unflatten(0, (n, frames - 1)),)
        high = pick_features(return_features, hr=after, hr_pre=before, shuffle=after)
        return WindowOutput(self.conv4(after) * self.std, high, offsets=sampled)
