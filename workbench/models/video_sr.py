"""The one protocol of networks: a clip goes in, a clip comes out; and the sliding window that most of them share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import pad_to_multiple, resize_bicubic
from workbench.models.layers.flow import EstimatedFlow as EstimatedFlow
from workbench.models.windows import BORDERS as BORDERS
from workbench.models.windows import Border, window_indices
from workbench.tensors import check_clip

Skip = Literal["bicubic", "bilinear", "none"]
FeatureLayer = Literal["hr", "hr_pre", "shuffle"]
Clip = TypeVar("Clip")
"""A clip as a tensor or as an array."""

SKIPS: tuple[Skip, ...] = ("bicubic", "bilinear", "none")
FEATURE_LAYERS: tuple[FeatureLayer, ...] = ("hr", "hr_pre", "shuffle")


class WindowOffsets(NamedTuple):
    """Offsets at which the frames of windows are sampled, to be compared with the true flow.

    Attributes:
        offsets: of several layers, each ``(B, T, M, 2 * K, H', W')``: ``(dy, dx)`` of K taps, in pixels of the layer,
            from each reference frame to M frames of its window. A positive ``dx`` samples the neighbor to the right of
            the reference pixel, as a positive flow does.
        strides: low-resolution pixels in a pixel of each layer.
        references: index of each reference frame, ``(T,)``.
        neighbors: index of each frame that is sampled, ``(T, M)``; beyond the ends of the clip as the border rule says.
    """

    offsets: tuple[Tensor, ...]
    strides: tuple[int, ...]
    references: Tensor
    neighbors: Tensor


@dataclass(frozen=True)
class Upscaled:
    """What a network makes of a clip.

    Attributes:
        frames: ``(B, T, 3, s*H, s*W)`` RGB, not clamped.
        features: F^SR, ``(B, T, C, s*H, s*W)``: high-resolution features just before they become RGB; None unless kept.
        aligned: F^LR, ``(B, T, C', H, W)``: aligned and fused features; None unless kept, or where there are none.
        encoded: ``(B, T, 3, H, W)``: what a privileged network makes of the truth before it enlarges it; else None.
        motion: how far the aligned neighbors are from their reference, one number, for networks that can say; None
            outside of training, and where there is no such number.
        flow: estimated flow between neighboring frames, for supervision by the true flow; None outside of training, and
            for networks that estimate none.
        offsets: sampling offsets of deformable convolutions, for the same purpose; else None.
    """

    frames: Tensor
    features: Tensor | None = None
    aligned: Tensor | None = None
    encoded: Tensor | None = None
    alignment_loss: Tensor | None = None
    flow: EstimatedFlow | None = None
    offsets: WindowOffsets | None = None

    def part(self, first: int, last: int) -> Upscaled:
        """Frames ``first`` to ``last`` (excluded) of the clip."""
        rows = slice(first, last)
        return Upscaled(
            frames=self.frames[:, rows],
            features=None if self.features is None else self.features[:, rows],
            aligned=None if self.aligned is None else self.aligned[:, rows],
            encoded=None if self.encoded is None else self.encoded[:, rows],
        )


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What there is to know of a network before it is called.

    Attributes:
        paper: authors, short title, where, year.
        year: of that paper.
        role: what it is used as here: ``student``, ``teacher``, ``both``, or ``baseline`` (nothing to learn).
        colour: what the layers work on: ``rgb``, or the luma alone. What goes in and comes out is RGB always.
        value_range: what the layers work in, likewise. What goes in and comes out is [0, 1] always.
        upscaled_input: whether the layers work at high resolution, on enlarged frames.
        features: where F^SR is, in words; empty where there is none wider than RGB.
        aligned: where F^LR is, in words; empty where there is none.
        differs: what differs from the paper, and what could not be confirmed.
        without_gradient: parameters that get no gradient in ordinary training: a regular expression that their whole
            names match, and why.
    """

    paper: str
    year: int
    role: Literal["student", "teacher", "both", "baseline"]
    color: Literal["rgb", "y"] = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)
    upscaled_input: bool = False
    features: str
    aligned: str = ""
    differs: str = ""
    without_gradient: Mapping[str, str] = field(default_factory=dict)


class VideoSR(nn.Module):
    """A video super-resolution network: ``upscaled = network(clip, return_features=None)``.

    Attributes:
        about: the paper, and what the layers work on; of the class, or of the instance where settings change it.
        scale: how many times larger the output is: 2, 3 or 4; 1 for the few networks that restore at the same size.
        scales: what ``scale`` may be.
        num_frames: how many input frames one output frame looks at.
        reach: how many frames to either side one output frame depends on; None where it is the whole clip.
        period: after how many frames the work repeats itself; more than 1 where some frames get more than others.
        size_multiple: ``H`` and ``W`` that the layers need are multiples of this; others are padded and cropped inside.
        minimum_size: the smallest ``H`` and ``W`` that the layers take; smaller ones are padded and cropped inside.
        feature_channels: channels of F^SR; 0 where the network has none wider than RGB.
        aligned_channels: channels of F^LR; 0 where there is none.
        has_alignment_loss: whether it says in training how well it aligns, see ``Upscaled.alignment_loss``.
        has_flow: whether it can be supervised by the true flow: in training it returns ``Upscaled.flow`` or, where it
            aligns by deformable convolutions, ``Upscaled.offsets``. See also :meth:`estimate_flow`.
        flow_part: name of the module that estimates optical flow, whose weights can come from elsewhere; empty: none.
        slow: parts of the names of parameters that say where to look (offsets, masks, flow): training moves them less.
        check_values: whether :meth:`check_input` looks at the numbers; False where that must not wait for the device.
        privileged: whether it is called with the high resolution (``models.privileged``): a teacher, and no upscaler.
        recipe: the zoo name and settings that build this network again; set by :func:`workbench.models.zoo.build`.
    """

    info: NetworkInfo = NetworkInfo(paper="", year=0, role="both", features="")
    scale: int = 4
    scales: tuple[int, ...] = (2, 3, 4)
    num_frames: int = 1
    temporal_radius: int | None = 0
    period: int = 1
    size_multiple: int = 1
    minimum_size: int = 1
    feature_channels: int = 0
    aligned_channels: int = 0
    has_alignment_loss: bool = False
    has_flow: bool = False
    flow_part: str = ""
    low_lr_params: tuple[str, ...] = ("conv_offset",)
    check_values: bool = True
    privileged: bool = False

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        if scale not in self.scales:
            *others, last = self.scales
            raise ConfigError(f"scale: want {', '.join(map(str, others))} or {last}, got {scale}")
        self.scale = scale
        self.recipe: dict[str, Any] = {}

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips.

        Args:
            clip: ``(B, T, 3, H, W)``, float RGB in [0, 1]; any ``H`` and ``W``.
            return_features: layer whose features are returned with the frames: ``hr`` (input of the last convolution,
                after its activation), ``hr_pre`` (the same before the activation), ``shuffle`` (output of the last
                pixel-shuffle); None: no features, at no cost.

        Raises:
            ShapeError: not a batch of clips.
            ConfigError: ``return_features`` asks for features that this network does not have.
        """
        raise NotImplementedError

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow | None:
        """Return the flow along a clip that the network aligns by; None for networks without (``has_flow``).

        Args:
            clip: ``(B, T, 3, H, W)``, any size.

        Returns:
            In low-resolution pixels, ``H`` and ``W`` as the layers need them, which may be more than those of the clip.
        """
        return None

    def check_input(self, clip: Tensor, return_features: FeatureLayer | None = None) -> tuple[int, int, int, int, int]:
        """Return ``(B, T, C, H, W)`` of what came in at the door, or say what is wrong with it.

        Axes, type, device and ``return_features`` are checked in every call, at no cost. The numbers are checked in
        evaluation only, since that takes a pass over the clip and a wait for the device (well under 1 % of what the
        smallest network takes): not in training (the loop stops at losses that are not finite), not while
        ``torch.compile`` or an exporter traces, not where :attr:`check_values` is False.

        Raises:
            ShapeError: not ``(B, T, 3, H, W)``, an empty axis, no floats, another device than the weights', NaN or
                infinite numbers, or numbers far outside [0, 1], such as 0..255.
            ConfigError: ``return_features`` asks for features that this network does not have.
        """
        shape = check_clip(clip)
        self.check_features(return_features)
        weight = next(self.parameters(), None)
        if weight is not None and weight.device != clip.device:
            raise ShapeError(
                f"clip: it is on {clip.device}, the network on {weight.device}; bring one to the other: "
                f"clip.to({str(weight.device)!r}), or network.to({str(clip.device)!r})"
            )
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        if self.check_values and not (self.training or tracing):
            _check_values(clip)
        return shape

    def pad_input(self, pictures: Tensor) -> Tensor:
        """Repeat the last row and column until ``H`` and ``W`` are what the layers need; the caller crops."""
        return pad_to_multiple(pictures, self.size_multiple, at_least=self.minimum_size)

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Upscale a clip a stretch at a time: joined along the frames, they equal one pass over the whole.

        This one makes one pass and cuts it. Networks that can bound their memory do better: see
        :func:`workbench.inference.chunks.chunks`.

        Args:
            clip: see :meth:`forward`.
            frames: output frames a stretch.
            return_features: see :meth:`forward`.
        """
        whole = self(clip, return_features=return_features)
        for first in range(0, clip.shape[1], frames):
            yield whole.part(first, first + frames)

    def select_input(self, low: Clip, high: Clip) -> Clip:
        """Which of the two resolutions of a clip this network is called with."""
        return high if self.privileged else low

    def check_upscales(self) -> None:
        """Say so if this network cannot enlarge a clip whose high resolution nobody has.

        Raises:
            ConfigError: it is privileged.
        """
        if self.privileged:
            raise ConfigError(
                f"{self.recipe.get('name', type(self).__name__)} is a privileged teacher: it is given the high "
                "resolution and can upscale nothing; name a student that it taught (docs/teaching.md)"
            )

    def check_features(self, return_features: FeatureLayer | None) -> None:
        """Say so if ``return_features`` asks for what is not there."""
        if return_features is None:
            return
        if return_features not in FEATURE_LAYERS:
            raise ConfigError(f"return_features: want one of {', '.join(FEATURE_LAYERS)}, got {return_features!r}")
        if not self.feature_channels:
            raise ConfigError(
                f"{self.recipe.get('name', type(self).__name__)} has no high-resolution features wider than RGB; "
                "distil its output instead (spatial_weight 0, temporal_weight 0), or choose another network"
            )


LARGEST_VALUE = 8.0
"""No picture in [0, 1] gets here, noise and overshoot included; 8-bit numbers do unless they are all but black."""


def _check_values(clip: Tensor) -> None:
    """Say so if the numbers of a clip cannot be those of pictures in [0, 1]."""
    if type(clip) is not Tensor or clip.is_meta:
        return  # it stands for a tensor and has no numbers
    lowest, highest = torch.stack(clip.detach().aminmax()).tolist()
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ShapeError("clip: it holds NaN or infinite numbers; want pictures in [0, 1]")
    if max(-lowest, highest) > LARGEST_VALUE:
        raise ShapeError(
            f"clip: its numbers go from {lowest:.4g} to {highest:.4g}; want RGB in [0, 1]: divide 8-bit numbers by 255 "
            "(tensors.to_float does)"
        )


class WindowOutput(NamedTuple):
    """Output of a window: ``residual (N, 3, s*H, s*W)``, F^SR, F^LR, the alignment loss, flow and offsets.

    The flow ``(N, 2, 2, H, W)`` leads from the middle frame to the frame before and to the frame after. Offsets
    ``(N, M, 2 * K, H', W')`` lead from the middle frame to all frames of the window, or to all but itself.
    """

    residual: Tensor
    features: Tensor | None = None
    aligned: Tensor | None = None
    alignment_loss: Tensor | None = None
    flow: Tensor | None = None
    offsets: tuple[Tensor, ...] = ()


FRAMES_PER_PASS = 4
"""Of how many frames that which is computed once per frame is computed at once, where no gradient is asked for.

Twenty-eight frames of 180x120 at once take EDVR-M 1.7 times as long on a CPU, and as much memory again.
"""

PIXELS_PER_PASS = 2**15
"""Low-resolution pixels of the windows that a GPU works on at once: eight of 64x64, one of 180x120.

EDVR-L takes 1.5 GB of sampled columns for one such window of seven frames.
"""


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
        minimum_size: the smallest ``H`` and ``W`` that the layers take; likewise.
    """

    windows_per_pass: int | None = None
    """How many windows are worked on at once.

    None: all while a gradient is asked for; else one on a CPU, and on a GPU up to eight as long as they are small.
    """

    def __init__(
        self,
        *,
        scale: int,
        num_frames: int,
        border: Border,
        skip: Skip,
        size_multiple: int = 1,
        minimum_size: int = 1,
    ) -> None:
        super().__init__(scale=scale)
        if skip not in SKIPS:
            raise ConfigError(f"skip: want one of {', '.join(SKIPS)}, got {skip!r}")
        window_indices(1, num_frames, border)  # refuses what cannot be a window
        self.num_frames, self.temporal_radius = num_frames, num_frames // 2
        self.border: Border = border
        self.skip: Skip = skip
        self.size_multiple, self.minimum_size = size_multiple, minimum_size

    def frame_groups(self, frames_NCHW: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`per_frame` is computed of, and which of it each window reads: the frames themselves.

        A network overrides this where windows share something larger than a frame (FastDVDnet: triples of frames).
        """
        return frames_NCHW, windows

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """What is computed once per frame: tensors with the frames along their first axis."""
        return (frames_NCHW,)

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """What is computed once per window, from the pieces of its frames, each ``(N, num_frames, ...)``."""
        raise NotImplementedError

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        _, frames, _, _, _ = self.check_input(clip, return_features)
        return self._upscale(clip, window_indices(frames, self.num_frames, self.border), return_features)

    def upscale_windows(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale the middle frames of some windows: a stretch of a clip from the few frames that it depends on.

        Args:
            clip: ``(B, T, 3, H, W)``, see :meth:`VideoSR.forward`.
            windows: which frames of ``clip`` each output frame looks at, ``(n, num_frames)``; see
                :func:`window_indices`.
            return_features: see :meth:`VideoSR.forward`.

        Returns:
            ``n`` frames of every clip.
        """
        _, frames, _, _, _ = self.check_input(clip, return_features)
        if windows.ndim != 2 or windows.shape[1] != self.num_frames:
            raise ShapeError(f"windows: want (n, {self.num_frames}), got {tuple(windows.shape)}")
        if len(windows) == 0 or windows.min() < 0 or windows.max() >= frames:
            raise ShapeError(f"windows: want some frames of the {frames} that there are, got {windows.tolist()}")
        return self._upscale(clip, windows, return_features)

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Upscale a clip a stretch at a time, each from the frames that it depends on; see :class:`VideoSR`."""
        total = clip.shape[1]
        for first in range(0, total, frames):
            windows = window_indices(total, self.num_frames, self.border, first=first, last=first + frames)
            needed, places = windows.unique(return_inverse=True)
            yield self.upscale_windows(clip[:, needed.to(clip.device)], places, return_features)

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        batch, frames, _, height, width = clip.shape
        windows = windows.to(clip.device)
        start = torch.arange(batch, device=clip.device).repeat_interleave(len(windows)) * frames
        fitting = self.pad_input(clip.flatten(0, 1))
        units, chosen = self.frame_groups(fitting, start[:, None] + windows.repeat(batch, 1))
        pieces = self._all_frames(units)
        seen = [
            self.per_window(*(piece[some] for piece in pieces), return_features=return_features)
            for some in chosen.split(self._windows_at_once(clip))
        ]

        def whole(parts: list[Tensor | None], factor: int) -> Tensor | None:
            there = [part for part in parts if part is not None]
            if not there:
                return None
            joined = torch.cat(there)[..., : height * factor, : width * factor]
            return joined.unflatten(0, (batch, len(windows)))

        residual = whole([part.residual for part in seen], self.scale)
        assert residual is not None
        flow = whole([part.flow for part in seen], 1)  # (B, T, 2, 2, H, W); at the borders it leads to a copy
        motions = [part.alignment_loss * len(part.residual) for part in seen if part.alignment_loss is not None]
        return Upscaled(
            frames=self._add_skip(residual, clip[:, windows[:, self.num_frames // 2]]),
            features=whole([part.features for part in seen], self.scale),
            aligned=whole([part.aligned for part in seen], 1),
            alignment_loss=torch.stack(motions).sum() / len(residual.flatten(0, 1)) if motions else None,
            flow=None if flow is None else EstimatedFlow(to_next=flow[:, :-1, 1], to_previous=flow[:, 1:, 0]),
            offsets=_join_offsets(seen, windows, batch, fitting.shape[-2]) if seen[0].offsets else None,
        )

    def _all_frames(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """What is computed once per frame, of all frames: at once in training, else in passes that bound the memory."""
        if torch.is_grad_enabled() or len(frames_NCHW) <= FRAMES_PER_PASS:
            return self.per_frame(frames_NCHW)
        passes = [self.per_frame(some) for some in frames_NCHW.split(FRAMES_PER_PASS)]
        return tuple(torch.cat(same) for same in zip(*passes, strict=True))

    def _windows_at_once(self, clip: Tensor) -> int:
        if self.windows_per_pass is not None:
            return self.windows_per_pass
        if torch.is_grad_enabled():
            return clip.shape[0] * clip.shape[1]
        if clip.device.type == "cpu":
            return 1
        return min(max(PIXELS_PER_PASS // (clip.shape[3] * clip.shape[4]), 1), 8)

    def _add_skip(self, residual: Tensor, clip: Tensor) -> Tensor:
        return add_skip(residual, clip, skip=self.skip, scale=self.scale)


def _join_offsets(seen: list[WindowOutput], windows: Tensor, batch: int, height: int) -> WindowOffsets:
    """Join the offsets of all windows; ``height`` is that of the padded frames."""
    layers = zip(*(part.offsets for part in seen), strict=True)
    offsets = tuple(torch.cat(same).unflatten(0, (batch, len(windows))) for same in layers)
    middle = windows.shape[1] // 2
    neighbors = windows
    if offsets[0].shape[2] < windows.shape[1]:  # the middle frame is not aligned to itself
        neighbors = torch.cat((windows[:, :middle], windows[:, middle + 1 :]), dim=1)
    strides = tuple(height // offset.shape[-2] for offset in offsets)
    return WindowOffsets(offsets, strides, windows[:, middle], neighbors)


def add_skip(residual: Tensor, clip: Tensor, *, skip: Skip, scale: int) -> Tensor:
    """Add the enlarged reference frames, in float32 whatever the precision of the layers.

    Args:
        residual: ``(B, T, 3, s*H, s*W)``.
        clip: the reference frames, ``(B, T, 3, H, W)``.
        skip: how they are enlarged, or ``none``.
        scale: s.
    """
    residual = residual.to(torch.promote_types(residual.dtype, torch.float32))
    if skip == "none":
        return residual
    with torch.autocast(clip.device.type, enabled=False):
        low = clip.to(residual.dtype)
        if skip == "bicubic":
            return residual + resize_bicubic(low, scale=scale)
        flat = F.interpolate(low.flatten(0, 1), scale_factor=scale, mode="bilinear", align_corners=False)
        return residual + flat.view_as(residual)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def require_same_scale(clip: Tensor, upscaled: Upscaled, scale: int) -> None:
    """Say so if a network did not return what the protocol promises."""
    want = (*clip.shape[:3], clip.shape[3] * scale, clip.shape[4] * scale)
    if tuple(upscaled.frames.shape) != want:
        raise ShapeError(f"frames: want {want}, got {tuple(upscaled.frames.shape)}")
