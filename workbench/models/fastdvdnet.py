"""FastDVDnet (Tassano et al., CVPR 2020): a denoiser, and the student that STD makes of it.

Two stages of one kind of block, a small U-net over three frames. The first stage runs on the triples (t-2, t-1, t),
(t-1, t, t+1) and (t, t+1, t+2) with shared weights; the second on the three pictures that come of it. Motion is left
to the U-nets: nothing is warped. A triple of frames belongs to three neighboring windows, and is computed once.

``fastdvdnet`` is the denoiser as published: the clip comes out in its own size, and every frame goes in with a map of
the noise to expect. ``fastdvdnet_vsr`` drops the map and ends the second stage in EDVR's tail, on top of the enlarged
reference. What STD changed is **unconfirmed**: this tail is the simplest that rounds to the 2.6 M parameters quoted
for it and that has EDVR's 64 channels at high resolution (2,626,247).

Batch normalization sees the whole batch while training: with a handful of small crops the features that are distilled
are not those of the network in evaluation. ``norm="frozen"`` always uses the running statistics.

Where we differ: both stages start with predictions near zero and with the coarser sizes of the U-nets faint, so that
short trainings begin at the picture and at its detail.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.layers.tail import ShuffleTail
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, Skip, SlidingWindow, WindowOutput

Norm = Literal["batch", "frozen"]


def _layer(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, batch normalization, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


class DenoisingBlock(nn.Module):
    """A U-net over three frames (figure 2 of the paper): half and quarter size, shuffled up again, skips that add.

    Args:
        channels: width at full size; half and quarter size have twice and four times as many.
        entry_channels: width per frame of the first layer, which sees each frame apart.
        noise_map: a fourth channel beside each frame says how much noise to expect.
        predicts: ends in a convolution to RGB.
    """

    def __init__(self, *, channels: int, entry_channels: int, noise_map: bool, predicts: bool) -> None:
        super().__init__()
        entry, half, quarter = 3 * entry_channels, 2 * channels, 4 * channels

        def twice(width: int) -> nn.Sequential:
            return nn.Sequential(*_layer(width, width), *_layer(width, width))

        widened2 = nn.Conv2d(quarter, half * 4, 3, padding=1, bias=False)
        widened1 = nn.Conv2d(half, channels * 4, 3, padding=1, bias=False)
        self.entry = nn.Sequential(*_layer(12 if noise_map else 9, entry, groups=3), *_layer(entry, channels))
        self.down1 = nn.Sequential(*_layer(channels, half, stride=2), twice(half))
        self.down2 = nn.Sequential(*_layer(half, quarter, stride=2), twice(quarter))
        self.up2 = nn.Sequential(twice(quarter), widened2, nn.PixelShuffle(2))
        self.up1 = nn.Sequential(twice(half), widened1, nn.PixelShuffle(2))
        self.exit = nn.Sequential(*_layer(channels, channels)[:2])
        self.out = nn.Conv2d(channels, 3, 3, padding=1, bias=False) if predicts else None
        kaiming_init_(*(part for part in self.modules() if isinstance(part, nn.Conv2d)), slope=0.0)
        kaiming_init_(widened2, widened1, slope=1.0, gain=0.1)  # the coarser sizes enter faintly
        if self.out is not None:
            kaiming_init_(self.out, slope=1.0, gain=0.005)

    def forward(self, frames_NTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Three frames, with their maps if there are any: ``(N, 3, 3 or 4, H, W)``, ``H`` and ``W`` multiples of 4.

        Returns:
            ``(N, channels, H, W)`` twice: what the last pixel-shuffle gives, and what the last normalization gives;
            the ReLU and the last convolution are left to the caller.
        """
        full = self.entry(frames_NTCHW.flatten(1, 2))
        half = self.down1(full)
        quarter = self.down2(half)
        shuffled = self.up1(half + self.up2(quarter))
        return shuffled, self.exit(full + shuffled)

    def denoise(self, frames_NTCHW: Tensor) -> Tensor:
        """The middle frame less what is predicted to be noise, ``(N, 3, H, W)``."""
        assert self.out is not None
        return frames_NTCHW[:, 1, :3] - self.out(F.relu(self(frames_NTCHW)[1]))


class TwoStages(SlidingWindow):
    """The first stage on every triple of frames, the second on three of its pictures; what comes of it is open.

    Args:
        predicts: whether the second stage ends in a convolution to RGB, as the first does.
        noise: the standard deviation of the noise to expect, for pictures in [0, 1]; it may be set at any time on a
            network that has a noise map. None: no map at all.
        norm: ``batch``, or ``frozen``: running statistics while training, too.
        channels: see :class:`DenoisingBlock`; 32 as published.
        entry_channels: likewise; 30 as published.
        scale: see :class:`SlidingWindow`.
        skip: likewise.
        border: likewise.
    """

    def __init__(
        self,
        *,
        predicts: bool,
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
            minimum_size=8,  # batch normalization wants more than one pixel at a quarter of the size
        )
        if norm not in ("batch", "frozen"):
            raise ConfigError(f"norm: want 'batch' or 'frozen', got {norm!r}")
        if noise is not None and not 0 <= noise <= 1:
            raise ConfigError(f"noise: want a standard deviation in [0, 1] (25/255 is a usual one), got {noise}")
        self.noise, self.norm = noise, norm
        self.stage1, self.stage2 = (
            DenoisingBlock(
                channels=channels, entry_channels=entry_channels, noise_map=noise is not None, predicts=ends_in_rgb
            )
            for ends_in_rgb in (True, predicts)
        )

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen normalization stays in evaluation."""
        super().train(mode)
        if self.norm == "frozen":
            for part in self.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def with_map(self, frames_NTCHW: Tensor) -> Tensor:
        """The frames with a constant noise map beside each, where the network wants one."""
        if self.noise is None:
            return frames_NTCHW
        expected = torch.full_like(frames_NTCHW[:, :, :1], self.noise)
        return torch.cat((frames_NTCHW, expected), dim=2)

    def units(self, frames_NCHW: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Every triple that occurs in a window, once, ``(N, 3, 3, H, W)``; and each window as three of them."""
        wanted = [tuple(window[first : first + 3]) for window in windows.tolist() for first in range(3)]
        place = {triple: number for number, triple in enumerate(dict.fromkeys(wanted))}
        device = frames_NCHW.device
        triples = frames_NCHW[torch.tensor(list(place), device=device)]
        return triples, torch.tensor([place[triple] for triple in wanted], device=device).view(-1, 3)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """The first stage, once per triple ``(N, 3, 3, H, W)``."""
        return (self.stage1.denoise(self.with_map(frames_NCHW)),)


class FastDVDnet(TwoStages):
    """The denoiser: the second stage predicts what is left of the noise.

    Args:
        channels: width at full size, and so of F^SR.
        entry_channels: width per frame of the first layer.
        noise: see :class:`TwoStages`.
        norm: likewise.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(FastDVDnet())
        2479096
    """

    scales = (1,)
    info = NetworkInfo(
        paper="Tassano et al., FastDVDnet: towards real-time deep video denoising without flow estimation, CVPR 2020",
        year=2020,
        role="both",
        features="the end of the second stage, at the size of the clip: hr is what the last convolution reads, hr_pre "
        "the same before its ReLU, shuffle right after the last pixel-shuffle",
        differs="denoises, does not enlarge; one noise level for the whole clip; starts with predictions near zero",
    )

    def __init__(
        self,
        *,
        channels: int = 32,
        entry_channels: int = 30,
        noise: float | None = 25 / 255,
        norm: Norm = "batch",
        border: Border = "replicate",
    ) -> None:
        super().__init__(
            predicts=True,
            noise=noise,
            norm=norm,
            channels=channels,
            entry_channels=entry_channels,
            scale=1,
            skip="none",  # the prediction is subtracted from the first stage's picture, not from the clip
            border=border,
        )
        self.feature_channels = channels

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """The second stage: what it predicts is taken from the middle one of the first stage's pictures."""
        (denoised_NTCHW,) = pieces
        shuffled, before = self.stage2(self.with_map(denoised_NTCHW))
        after = F.relu(before)
        assert self.stage2.out is not None
        picture = denoised_NTCHW[:, 1] - self.stage2.out(after)
        return WindowOutput(
            picture, {"hr": after, "hr_pre": before, "shuffle": shuffled}[return_features] if return_features else None
        )


class FastDVDnetVSR(TwoStages):
    """The student: the second stage ends in EDVR's tail instead, on top of the enlarged reference.

    Args:
        channels: width at full size.
        entry_channels: width per frame of the first layer.
        tail_channels: width at high resolution, and so of F^SR.
        norm: see :class:`TwoStages`.
        scale: 2, 3 or 4.
        skip: see :class:`SlidingWindow`.
        border: likewise.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(FastDVDnetVSR())
        2626247
    """

    info = NetworkInfo(
        paper="Tassano et al., FastDVDnet, CVPR 2020; as a student in Xiao et al., CVPR 2021",
        year=2020,
        role="student",
        features="the end of the tail at high resolution, as in EDVR: hr is what the last convolution reads, hr_pre "
        "the same before its activation, shuffle right after the last pixel-shuffle",
        aligned="the end of the second stage",
        differs="EDVR's tail for the last convolution, no noise map, bicubic skip: what STD did is unconfirmed; "
        "starts with predictions near zero",
    )

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
            predicts=False,
            noise=None,
            norm=norm,
            channels=channels,
            entry_channels=entry_channels,
            scale=scale,
            skip=skip,
            border=border,
        )
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.tail = ShuffleTail(channels, tail_channels=tail_channels, scale=scale)

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """The second stage and the tail."""
        (denoised_NTCHW,) = pieces
        aligned = F.relu(self.stage2(denoised_NTCHW)[1])
        residual, features = self.tail(aligned, return_features)
        return WindowOutput(residual, features, aligned if return_features else None)


def fastdvdnet(
    *,
    scale: int = 1,
    channels: int = 32,
    entry_channels: int = 30,
    noise: float | None = 25 / 255,
    norm: Norm = "batch",
) -> FastDVDnet:
    """The denoiser as published: what comes out has the size of what went in; 2,479,096 parameters.

    Raises:
        ConfigError: a scale other than 1.
    """
    if scale != 1:
        raise ConfigError(f"fastdvdnet: a denoiser, so scale must be 1, got {scale}; fastdvdnet_vsr enlarges")
    return FastDVDnet(channels=channels, entry_channels=entry_channels, noise=noise, norm=norm)


def fastdvdnet_vsr(
    *,
    scale: int = 4,
    skip: Skip = "bicubic",
    channels: int = 32,
    entry_channels: int = 30,
    tail_channels: int = 64,
    norm: Norm = "batch",
) -> FastDVDnetVSR:
    """The denoiser with EDVR's tail, for super-resolution, as STD's student may have been; 2,626,247 parameters."""
    return FastDVDnetVSR(
        scale=scale,
        skip=skip,
        channels=channels,
        entry_channels=entry_channels,
        tail_channels=tail_channels,
        norm=norm,
    )
