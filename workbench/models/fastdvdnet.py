"""FastDVDnet (Tassano et al., CVPR 2020): a denoiser, and a student derived from it as in STD.

Two stages of the same block, a small U-net over three frames. The first stage processes the triples (t-2, t-1, t),
(t-1, t, t+1) and (t, t+1, t+2) with shared weights, the second the three resulting images. Nothing is warped: the
U-nets handle motion. A triple of frames belongs to three neighboring windows, and is computed once.

``fastdvdnet`` is the denoiser as published: the output has the size of the input, and every input frame has a noise
map. ``fastdvdnet_vsr`` has no noise map; its second stage ends in EDVR's tail, whose output is added to the upsampled
reference. STD's changes are **unconfirmed**: this tail is the simplest with 2.6 M parameters, as quoted, and with
EDVR's 64 channels at high resolution (2,626,247).

In training, batch normalization uses the statistics of the batch: with a few small crops the distilled features differ
from those in evaluation. ``norm="frozen"`` always uses the running statistics.

Deviations, all of the initial weights: in both stages the first layer ignores brightness, the output is almost zero and
the coarser sizes of the U-nets have small weights, and the tail's pixel-shuffles start as upsampling, so that short
trainings start from the image and its details. Without the first and the last of these, ``fastdvdnet_vsr_s`` stayed at
bicubic's score for hundreds of steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import ConfigError, check_choice
from workbench.models.layers.blocks import icnr_init_, kaiming_init_, zero_mean_init_
from workbench.models.layers.norm import BatchNormMode, Norm
from workbench.models.layers.tail import ShuffleTail, pick_features
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput


def _layer(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, batch normalization and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


class DenoisingBlock(nn.Module):
    """U-net over three frames (figure 2 of the paper) with half and quarter size, pixel-shuffles and additive skips.

    Args:
        channels: width at full size; half and quarter size have twice and four times as many.
        entry_channels: width per frame of the first layer, which processes each frame separately.
        noise_map: whether each frame has a fourth channel with the noise level.
        has_output: ends in a convolution to RGB.
    """

    def __init__(self, *, channels: int, entry_channels: int, noise_map: bool, has_output: bool) -> None:
        super().__init__()
        entry, half, quarter = 3 * entry_channels, 2 * channels, 4 * channels

        def twice(width: int) -> nn.Sequential:
            return nn.Sequential(*_layer(width, width), *_layer(width, width))

        widened2 = nn.Conv2d(quarter, half * 4, 3, padding=1, bias=False)
        widened1 = nn.Conv2d(half, channels * 4, 3, padding=1, bias=False)
        first, *others = _layer(12 if noise_map else 9, entry, groups=3)
        assert isinstance(first, nn.Conv2d)
        self.entry = nn.Sequential(first, *others, *_layer(entry, channels))
        self.down1 = nn.Sequential(*_layer(channels, half, stride=2), twice(half))
        self.down2 = nn.Sequential(*_layer(half, quarter, stride=2), twice(quarter))
        self.up2 = nn.Sequential(twice(quarter), widened2, nn.PixelShuffle(2))
        self.up1 = nn.Sequential(twice(half), widened1, nn.PixelShuffle(2))
        self.exit = nn.Sequential(*_layer(channels, channels)[:2])
        self.out = nn.Conv2d(channels, 3, 3, padding=1, bias=False) if has_output else None
        kaiming_init_(*(part for part in self.modules() if isinstance(part, nn.Conv2d)), slope=0.0)
        zero_mean_init_(first, inputs=3)
        kaiming_init_(widened2, widened1, slope=1.0, gain=0.1)  # a small initial share of the coarser sizes
        if self.out is not None:
            kaiming_init_(self.out, slope=1.0, gain=0.005)

    def forward(self, frames_NTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of three frames.

        Args:
            frames_NTCHW: three frames with their noise maps, if any: ``(N, 3, 3 or 4, H, W)``; ``H`` and ``W`` are
                multiples of 4.

        Returns:
            ``(N, channels, H, W)`` twice: the output of the last pixel-shuffle, and that of the last normalization. The
            ReLU and the last convolution are left to the caller.
        """
        full = self.entry(frames_NTCHW.flatten(1, 2))
        half = self.down1(full)
        quarter = self.down2(half)
        shuffled = self.up1(half + self.up2(quarter))
        return shuffled, self.exit(full + shuffled)

    def denoise(self, frames_NTCHW: Tensor) -> Tensor:
        """Return the middle frame without the estimated noise, ``(N, 3, H, W)``."""
        assert self.out is not None
        return frames_NTCHW[:, 1, :3] - self.out(F.relu(self(frames_NTCHW)[1]))


class TwoStages(BatchNormMode, SlidingWindow):
    """Base class: the first stage on every triple of frames, the second on three of its images.

    Args:
        noise: standard deviation of the expected noise, for images in [0, 1]; it can be set at any time on a network
            with a noise map. None: no map.
        norm: ``batch``, or ``frozen``: running statistics in training too.
        channels: see :class:`DenoisingBlock`; 32 as published.
        entry_channels: see :class:`DenoisingBlock`; 30 as published.
        scale: see :class:`SlidingWindow`.
        skip: see :class:`SlidingWindow`.
        border: see :class:`SlidingWindow`.
    """

    has_output: bool
    """Whether the second stage ends in a convolution to RGB, as the first does."""

    def __init__(
        self,
        *,
        noise: float | None,
        norm: Norm,
        channels: int,
        entry_channels: int,
        scale: int,
        skip: Skip,
        border: Border,
    ) -> None:
        super().__init__(
            scale=scale,
            num_frames=5,
            border=border,
            skip=skip,
            size_multiple=4,
            minimum_size=8,  # batch normalization needs more than one pixel at a quarter of the size
        )
        check_choice("norm", norm, Norm)
        if noise is not None and not 0 <= noise <= 1:
            raise ConfigError(f"noise: want a standard deviation in [0, 1] (25/255 is a usual one), got {noise}")
        self.noise, self.norm = noise, norm
        self.stage1, self.stage2 = (
            DenoisingBlock(
                channels=channels, entry_channels=entry_channels, noise_map=noise is not None, has_output=output
            )
            for output in (True, self.has_output)
        )

    def with_map(self, frames_NTCHW: Tensor) -> Tensor:
        """Return the frames with a constant noise map as a further channel, if the network has one."""
        if self.noise is None:
            return frames_NTCHW
        noise_map = torch.full_like(frames_NTCHW[:, :, :1], self.noise)
        return torch.cat((frames_NTCHW, noise_map), dim=2)

    def frame_groups(self, frames_NCHW: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return every triple of all windows once, ``(N, 3, 3, H, W)``, and the indices of each window's three."""
        triples = [tuple(window[first : first + 3]) for window in windows.tolist() for first in range(3)]
        index = {triple: number for number, triple in enumerate(dict.fromkeys(triples))}
        unique = frames_NCHW[torch.tensor(list(index)).to(frames_NCHW.device, non_blocking=True)]
        return unique, torch.tensor([index[triple] for triple in triples]).view(-1, 3)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return the image of the first stage for each triple ``(N, 3, 3, H, W)``."""
        return (self.stage1.denoise(self.with_map(frames_NCHW)),)


class FastDVDnet(TwoStages):
    """Denoiser: the second stage estimates the remaining noise.

    F^SR is the end of the second stage, at the size of the clip: ``hr`` is the input of the last convolution,
    ``hr_pre`` the same before its ReLU, ``shuffle`` the output of the last pixel-shuffle.

    Args:
        channels: width at full size, and so of F^SR.
        entry_channels: width per frame of the first layer.
        noise: see :class:`TwoStages`.
        norm: see :class:`TwoStages`.
        scale: 1; a denoiser does not upsample.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(FastDVDnet())
        2479096
    """

    scales = (1,)
    has_output = True
    info = NetworkInfo(
        paper="Tassano et al., FastDVDnet: towards real-time deep video denoising without flow estimation, CVPR 2020",
        year=2020,
        role="both",
    )

    def __init__(
        self,
        *,
        channels: int = 32,
        entry_channels: int = 30,
        noise: float | None = 25 / 255,
        norm: Norm = "batch",
        scale: int = 1,
        border: Border = "replicate",
    ) -> None:
        if scale != 1:
            raise ConfigError(f"scale: want 1 for the denoiser fastdvdnet, got {scale}; fastdvdnet_vsr upsamples")
        super().__init__(
            noise=noise, norm=norm, channels=channels, entry_channels=entry_channels, border=border,
            scale=scale, skip="none",  # the output is subtracted from the first stage's image, not from the clip
        )  # fmt: skip
        self.feature_channels = channels

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Run the second stage, whose output is subtracted from the middle one of the first stage's images."""
        (denoised_NTCHW,) = features
        shuffled, before = self.stage2(self.with_map(denoised_NTCHW))
        after = F.relu(before)
        assert self.stage2.out is not None
        image = denoised_NTCHW[:, 1] - self.stage2.out(after)
        return WindowOutput(image, pick_features(return_features, hr=after, hr_pre=before, shuffle=shuffled))


class FastDVDnetVSR(TwoStages):
    """Student: the second stage ends in EDVR's tail, whose output is added to the upsampled reference.

    F^LR is the end of the second stage.

    Args:
        channels: width at full size.
        entry_channels: width per frame of the first layer.
        tail_channels: width at high resolution, and so of F^SR.
        norm: see :class:`TwoStages`.
        scale: 2, 3 or 4.
        skip: see :class:`SlidingWindow`.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(FastDVDnetVSR())
        2626247
    """

    info = NetworkInfo(
        paper="Tassano et al., FastDVDnet, CVPR 2020; as a student in Xiao et al., CVPR 2021", year=2020, role="student"
    )
    has_output = False

    def __init__(
        self,
        *,
        channels: int = 32,
        entry_channels: int = 30,
        tail_channels: int = 64,
        norm: Norm = "batch",
        scale: int = 4,
        skip: Skip = "bicubic",
        border: Border = "replicate",
    ) -> None:
        super().__init__(
            noise=None, norm=norm, channels=channels, entry_channels=entry_channels, border=border,
            scale=scale, skip=skip,
        )  # fmt: skip
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.tail = ShuffleTail(channels, tail_channels=tail_channels, scale=scale)
        icnr_init_(self.tail.upconv2, self.tail.last_factor)
        if self.tail.upconv1:
            icnr_init_(self.tail.upconv1)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Run the second stage and the tail."""
        (denoised_NTCHW,) = features
        aligned = F.relu(self.stage2(denoised_NTCHW)[1])
        residual, high = self.tail(aligned, return_features)
        return WindowOutput(residual, high, aligned if return_features else None)
