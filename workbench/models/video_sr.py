"""The one protocol of networks: a clip goes in, a clip comes out; and the sliding window that most of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import pad_to_multiple, resize_bicubic
from workbench.tensors import check_clip

Border = Literal["replicate", "reflection", "reflection_circle", "circle"]
Skip = Literal["bicubic", "bilinear", "none"]
Tap = Literal["hr", "hr_pre", "shuffle"]

BORDERS: tuple[Border, ...] = ("replicate", "reflection", "reflection_circle", "circle")
SKIPS: tuple[Skip, ...] = ("bicubic", "bilinear", "none")
TAPS: tuple[Tap, ...] = ("hr", "hr_pre", "shuffle")


@dataclass(frozen=True)
class Upscaled:
    """What a network makes of a clip.

    Attributes:
        frames: ``(B, T, 3, s*H, s*W)`` RGB, not clamped.
        features: F^SR, ``(B, T, C, s*H, s*W)``: high-resolution features just before they become RGB; None unless kept.
        aligned: F^LR, ``(B, T, C', H, W)``: aligned and fused features; None unless kept, or where there are none.
    """

    frames: Tensor
    features: Tensor | None = None
    aligned: Tensor | None = None


class VideoSR(nn.Module):
    """A video super-resolution network: ``upscaled = network(clip, keep=None)``.

    Attributes:
        scale: how many times larger the output is: 2, 3 or 4.
        num_frames: how many input frames one output frame looks at.
        feature_channels: channels of F^SR; 0 where the network has none wider than RGB.
        aligned_channels: channels of F^LR; 0 where there is none.
        recipe: the zoo name and settings that build this network again; set by :func:`workbench.models.zoo.build`.
    """

    scale: int = 4
    num_frames: int = 1
    feature_channels: int = 0
    aligned_channels: int = 0

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ConfigError(f"scale: want 2, 3 or 4, got {scale}")
        self.scale = scale
        self.recipe: dict[str, Any] = {}

    def forward(self, clip: Tensor, keep: Tap | None = None) -> Upscaled:
        """Upscale a batch of clips.

        Args:
            clip: ``(B, T, 3, H, W)``, float RGB in [0, 1]; any ``H`` and ``W``.
            keep: which features to return besides the pictures: ``hr`` (what the last convolution reads, after its
                activation), ``hr_pre`` (the same before the activation), ``shuffle`` (right after the last
                pixel-shuffle). Nothing is kept, and nothing is paid, without it.

        Raises:
            ShapeError: not a batch of clips.
            ConfigError: ``keep`` asks for features that this network does not have.
        """
        raise NotImplementedError

    def check_keep(self, keep: Tap | None) -> None:
        """Say so if ``keep`` asks for what is not there."""
        if keep is None:
            return
        if keep not in TAPS:
            raise ConfigError(f"keep: want one of {', '.join(TAPS)}, got {keep!r}")
        if not self.feature_channels:
            raise ConfigError(
                f"{self.recipe.get('name', type(self).__name__)} has no high-resolution features wider than RGB; "
                "distil its output instead (spatial_weight 0, temporal_weight 0), or choose another network"
            )


def window_indices(frames: int, window: int, border: Border = "replicate") -> Tensor:
    """Which frames each output frame looks at, ``(T, window)``; the centre is the frame itself.

    Beyond the ends of the clip a rule decides; shown for frame 0 of a long clip and a window of 5:
    ``replicate`` [0, 0, 0, 1, 2], ``reflection`` [2, 1, 0, 1, 2], ``reflection_circle`` [4, 3, 0, 1, 2] (EDVR's own
    rule for Vid4), ``circle`` [3, 4, 0, 1, 2]. An index that the rule cannot supply is clamped to the clip.

    Raises:
        ConfigError: the window is even, or the rule unknown.

    Example:
        >>> window_indices(3, 3).tolist()
        [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    """
    if window % 2 == 0 or window < 1:
        raise ConfigError(f"window: want an odd number of frames, got {window}")
    if border not in BORDERS:
        raise ConfigError(f"border: want one of {', '.join(BORDERS)}, got {border!r}")
    last, reach = frames - 1, window // 2
    rows: list[list[int]] = []
    for centre in range(frames):
        row: list[int] = []
        for index in range(centre - reach, centre + reach + 1):
            over = max(index - last, 0)
            if index < 0 or over:
                index = {
                    "replicate": index,
                    "reflection": last - over if over else -index,
                    "reflection_circle": centre - reach - over if over else centre + reach - index,
                    "circle": index - window if over else index + window,
                }[border]
            row.append(min(max(index, 0), last))
        rows.append(row)
    return torch.tensor(rows)


class Seen(NamedTuple):
    """What a sliding window sees of its windows: ``residual (N, 3, s*H, s*W)``, F^SR and F^LR."""

    residual: Tensor
    features: Tensor | None = None
    aligned: Tensor | None = None


class SlidingWindow(VideoSR):
    """A network that makes each output frame from a window of input frames.

    A subclass says what it computes once per frame (:meth:`per_frame`) and what once per window
    (:meth:`per_window`); this class cuts the clip into windows, pads its borders, works through the windows in
    chunks that bound the memory, adds the skip connection and undoes the padding of sizes that do not fit.

    Args:
        scale: 2, 3 or 4.
        num_frames: frames of a window, odd.
        border: what to do beyond the ends of the clip, see :func:`window_indices`.
        skip: what is added to the output: the reference frame enlarged ``bicubic`` (as in STD's figure 2),
            ``bilinear`` (as in EDVR's code), or ``none``.
        size_multiple: ``H`` and ``W`` that the layers need; other sizes are padded and cropped.
    """

    windows_per_pass: int | None = None
    """How many windows are worked on at once; None: all while training, one on a CPU and eight on a GPU otherwise."""

    def __init__(self, *, scale: int, num_frames: int, border: Border, skip: Skip, size_multiple: int = 1) -> None:
        super().__init__(scale=scale)
        if skip not in SKIPS:
            raise ConfigError(f"skip: want one of {', '.join(SKIPS)}, got {skip!r}")
        window_indices(1, num_frames, border)  # refuses what cannot be a window
        self.num_frames = num_frames
        self.border: Border = border
        self.skip: Skip = skip
        self.size_multiple = size_multiple

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """What is computed once per frame: tensors with the frames along their first axis."""
        return (frames_NCHW,)

    def per_window(self, *pieces: Tensor, keep: Tap | None) -> Seen:
        """What is computed once per window, from the pieces of its frames, each ``(N, num_frames, ...)``."""
        raise NotImplementedError

    def forward(self, clip: Tensor, keep: Tap | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        batch, frames, _, height, width = check_clip(clip)
        self.check_keep(keep)
        fitting_NCHW = pad_to_multiple(clip.flatten(0, 1), self.size_multiple)
        pieces = self.per_frame(fitting_NCHW)
        within = window_indices(frames, self.num_frames, self.border).to(clip.device)
        start = torch.arange(batch, device=clip.device).repeat_interleave(frames) * frames
        windows = start[:, None] + within.repeat(batch, 1)

        seen = [
            self.per_window(*(piece[chosen] for piece in pieces), keep=keep)
            for chosen in windows.split(self._windows_at_once(clip))
        ]

        def whole(parts: list[Tensor | None], factor: int) -> Tensor | None:
            there = [part for part in parts if part is not None]
            if not there:
                return None
            joined = torch.cat(there)[..., : height * factor, : width * factor]
            return joined.unflatten(0, (batch, frames))

        residual = whole([part.residual for part in seen], self.scale)
        assert residual is not None
        return Upscaled(
            frames=self._add_skip(residual, clip),
            features=whole([part.features for part in seen], self.scale),
            aligned=whole([part.aligned for part in seen], 1),
        )

    def _windows_at_once(self, clip: Tensor) -> int:
        if self.windows_per_pass is not None:
            return self.windows_per_pass
        if torch.is_grad_enabled():
            return clip.shape[0] * clip.shape[1]
        return 1 if clip.device.type == "cpu" else 8

    def _add_skip(self, residual: Tensor, clip: Tensor) -> Tensor:
        """Add the enlarged reference frame, in float32 whatever the precision of the layers."""
        residual = residual.to(torch.promote_types(residual.dtype, torch.float32))
        if self.skip == "none":
            return residual
        with torch.autocast(clip.device.type, enabled=False):
            low = clip.to(residual.dtype)
            if self.skip == "bicubic":
                return residual + resize_bicubic(low, scale=self.scale)
            flat = F.interpolate(low.flatten(0, 1), scale_factor=self.scale, mode="bilinear", align_corners=False)
            return residual + flat.view_as(residual)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def require_same_scale(clip: Tensor, upscaled: Upscaled, scale: int) -> None:
    """Say so if a network did not return what the protocol promises."""
    want = (*clip.shape[:3], clip.shape[3] * scale, clip.shape[4] * scale)
    if tuple(upscaled.frames.shape) != want:
        raise ShapeError(f"frames: want {want}, got {tuple(upscaled.frames.shape)}")
