"""Interface of all networks: a clip goes in, an upscaled clip comes out.

Symbols in the docstrings of this package:

- ``B``, ``T``, ``C``, ``H``, ``W``: clips of a batch, frames, channels, height and width at low resolution; ``s``: the
  upscaling factor, so that the high resolution has ``s*H`` by ``s*W`` pixels.
- F^SR: features at high resolution before they become RGB. F^LR: aligned and fused features at low resolution.
- ``K``, ``h``, ``w``: channels, height and width of the ConvLSTM's memory cells; ``T'``: number of frames whose cells
  are compared.
- STD, "the paper": Xiao et al., Space-time distillation for video super-resolution, CVPR 2021.
- "ours": not published; an addition of this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import FeatureLayer, Skip
from workbench.errors import ConfigError, ShapeError, check_choice
from workbench.imaging import pad_to_multiple, resize_bicubic
from workbench.models.layers.flow import EstimatedFlow
from workbench.tensors import check_clip

Clip = TypeVar("Clip")
"""A clip as a tensor or as an array."""


class WindowOffsets(NamedTuple):
    """Offsets at which the frames of windows are sampled, to be compared with the true flow.

    Attributes:
        offsets: of several layers, each ``(B, T, M, 2 * taps, H', W')``: ``(dy, dx)`` of each tap, in pixels of the
            layer, from each reference frame to M frames of its window. A positive ``dx`` samples the neighbor to the
            right of the reference pixel, as a positive flow does.
        strides: low-resolution pixels per pixel of each layer.
        references: index of each reference frame, ``(T,)``, on the CPU.
        neighbors: index of each sampled frame, ``(T, M)``, on the CPU; beyond the ends of the clip by the border rule.
    """

    offsets: tuple[Tensor, ...]
    strides: tuple[int, ...]
    references: Tensor
    neighbors: Tensor


@dataclass(frozen=True)
class Upscaled:
    """Output of a network for a batch of clips.

    Attributes:
        frames: ``(B, T, 3, s*H, s*W)`` RGB, not clamped.
        features: F^SR, ``(B, T, C, s*H, s*W)``: high-resolution features before they become RGB; None unless returned.
        aligned: F^LR, ``(B, T, C', H, W)``: aligned and fused features; None unless returned, or if there are none.
        encoded: ``(B, T, 3, H, W)``: output of a privileged network's encoder; else None.
        alignment_loss: mean distance of the aligned neighbors from their reference, a scalar; None outside of training,
            and for networks without it.
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

    def chunk(self, first: int, last: int) -> Upscaled:
        """Return frames ``first`` to ``last`` (excluded)."""
        fields = {"frames": self.frames, "features": self.features, "aligned": self.aligned, "encoded": self.encoded}
        return Upscaled(**{name: value[:, first:last] for name, value in fields.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """Paper and role of a network.

    Attributes:
        paper: authors, short title, venue, year.
        year: of that paper.
        role: use in this project: ``student``, ``teacher``, ``both``, or ``baseline`` (without parameters).
    """

    paper: str
    year: int
    role: Literal["student", "teacher", "both", "baseline"]


class VideoSR(nn.Module):
    """Video super-resolution network: ``upscaled = network(clip, return_features=None)``.

    Attributes:
        info: paper and role.
        scale: upsampling factor: 2, 3 or 4; 1 for the few networks that restore at the same size.
        scales: valid values of ``scale``.
        num_frames: number of input frames per output frame.
        temporal_radius: number of frames before and after that one output frame depends on; None for the whole clip.
        period: number of frames after which the work repeats; more than 1 if some frames get more than others.
        size_multiple: ``H`` and ``W`` of the layers are multiples of this; other sizes are padded and cropped.
        minimum_size: smallest ``H`` and ``W`` of the layers; smaller sizes are padded and cropped.
        feature_channels: channels of F^SR; 0 if the network has none wider than RGB.
        aligned_channels: channels of F^LR; 0 if there is none.
        has_alignment_loss: whether it returns ``Upscaled.alignment_loss`` in training.
        supports_flow_supervision: whether the true flow can supervise it: in training it returns ``Upscaled.flow`` or,
            if it aligns by deformable convolutions, ``Upscaled.offsets``. See also :meth:`estimate_flow`.
        flow_module: name of the optical-flow module, which can load weights of its own; empty if there is none.
        low_lr_params: parts of the names of parameters with a lower learning rate (offsets, masks, flow).
        check_values: whether :meth:`check_input` checks the values; False if that must not wait for the device.
        privileged: whether its input is the high resolution (``models.privileged``): a teacher that cannot upscale.
        recipe: zoo name and settings to rebuild this network; set by :func:`workbench.models.zoo.build`.

    Args:
        scale: one of ``scales``.
        skip: upsampled reference frame that is added to the output: ``bicubic`` (as in STD's figure 2), ``bilinear``
            (as in EDVR's code), or ``none``.
    """

    info: NetworkInfo = NetworkInfo(paper="", year=0, role="both")
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
    supports_flow_supervision: bool = False
    flow_module: str = ""
    low_lr_params: tuple[str, ...] = ("conv_offset",)
    check_values: bool = True
    privileged: bool = False

    def __init__(self, *, scale: int, skip: Skip = "none") -> None:
        super().__init__()
        check_choice("skip", skip, Skip)
        if scale not in self.scales:
            *others, last = self.scales
            raise ConfigError(f"scale: want {', '.join(map(str, others))} or {last}, got {scale}")
        self.scale = scale
        self.skip: Skip = skip
        self.recipe: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Name in the zoo, or of the class."""
        return self.recipe.get("name", type(self).__name__)

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips.

        Args:
            clip: ``(B, T, 3, H, W)``, float RGB in [0, 1]; any ``H`` and ``W``.
            return_features: layer whose features are returned with the frames: ``hr`` (input of the last convolution,
                after its activation), ``hr_pre`` (the same before the activation), ``shuffle`` (output of the last
                pixel-shuffle); None: no features, at no cost.

        Raises:
            ShapeError: not a batch of clips.
            ConfigError: the network does not have the features that ``return_features`` names.
        """
        raise NotImplementedError

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow | None:
        """Return the flow along a clip that the network aligns by; None for networks without flow.

        Args:
            clip: ``(B, T, 3, H, W)``, any size.

        Returns:
            In low-resolution pixels; ``H`` and ``W`` are padded for the layers and may exceed those of the clip.
        """
        return None

    def check_input(self, clip: Tensor, return_features: FeatureLayer | None = None) -> tuple[int, int, int, int, int]:
        """Check an input and return its ``(B, T, C, H, W)``.

        Axes, type, device and ``return_features`` are checked in every call, at no cost. The values are checked in
        evaluation only, since that needs a pass over the clip and a synchronization with the device (well under 1 % of
        the time of the smallest network): not in training (the loop stops at losses that are not finite), not under
        ``torch.compile`` or an exporter, not if :attr:`check_values` is False.

        Raises:
            ShapeError: not ``(B, T, 3, H, W)``, an empty axis, no floats, another device than that of the weights, NaN
                or infinite values, or values far outside [0, 1], such as 0..255.
            ConfigError: the network does not have the features that ``return_features`` names.
        """
        shape = check_clip(clip)
        self.check_features(return_features)
        weight = next(self.parameters(), None)
        if weight is not None and weight.device != clip.device:
            raise ShapeError(
                f"clip: it is on {clip.device}, the network on {weight.device}; move one of them: "
                f"clip.to({str(weight.device)!r}), or network.to({str(clip.device)!r})"
            )
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        if self.check_values and not (self.training or tracing):
            _check_values(clip)
        return shape

    def pad_input(self, images: Tensor) -> Tensor:
        """Repeat the last row and column until ``H`` and ``W`` suit the layers; the caller crops."""
        return pad_to_multiple(images, self.size_multiple, at_least=self.minimum_size)

    def plan_chunk(self, total: int, first: int, last: int) -> tuple[Tensor, Callable[..., Upscaled]]:
        """Return the frames that a chunk of a clip depends on, and the function that upscales them.

        For networks with a bounded temporal radius.

        Args:
            total: number of frames of the clip.
            first: first output frame.
            last: end of the output frames.

        Returns:
            The indices of the frames, and a function of these frames ``(B, n, 3, H, W)``, with the argument
            ``return_features`` of :meth:`forward`, that returns frames ``first`` to ``last`` (excluded).
        """
        radius = self.temporal_radius or 0
        start, stop = max(first - radius, 0), min(last + radius, total)

        def upscale(frames: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
            return self(frames, return_features=return_features).chunk(first - start, last - start)

        return torch.arange(start, stop), upscale

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Upscale a clip in chunks; concatenated along the frames, they equal one pass over the whole clip.

        With an unbounded temporal radius it is one pass, whose result is cut. Recurrent networks override this to bound
        the memory; see also :func:`workbench.inference.chunks.chunks`.

        Args:
            clip: see :meth:`forward`.
            frames: output frames per chunk.
            return_features: see :meth:`forward`.
        """
        total = clip.shape[1]
        whole = self(clip, return_features=return_features) if self.temporal_radius is None else None
        for first in range(0, total, frames):
            last = min(first + frames, total)
            if whole is not None:
                yield whole.chunk(first, last)
            else:
                needed, upscale = self.plan_chunk(total, first, last)
                yield upscale(clip[:, needed.to(clip.device)], return_features=return_features)

    def select_input(self, low: Clip, high: Clip) -> Clip:
        """Return the resolution that is this network's input: the low one, or the high one if it is privileged."""
        return high if self.privileged else low

    def check_upscales(self) -> None:
        """Check that this network upscales clips whose high resolution is unknown.

        Raises:
            ConfigError: it is privileged.
        """
        if self.privileged:
            raise ConfigError(
                f"{self.name} is a privileged teacher: its input is the high resolution, so it cannot upscale; name a "
                "student that it taught (docs/teaching.md)"
            )

    def check_features(self, return_features: FeatureLayer | None) -> None:
        """Check that the network has the features that ``return_features`` names."""
        if return_features is None:
            return
        check_choice("return_features", return_features, FeatureLayer)
        if not self.feature_channels:
            raise ConfigError(
                f"{self.name} has no high-resolution features wider than RGB; distill its output instead "
                "(spatial_weight 0, temporal_weight 0), or choose another network"
            )

    def add_skip(self, residual: Tensor, frames: Tensor) -> Tensor:
        """Add the upsampled reference frames to a residual, in float32 also under autocast.

        Args:
            residual: ``(B, T, 3, s*H, s*W)``.
            frames: the reference frames, ``(B, T, 3, H, W)``.
        """
        residual = residual.to(torch.promote_types(residual.dtype, torch.float32))
        if self.skip == "none":
            return residual
        with without_autocast(frames.device):
            low = frames.to(residual.dtype)
            if self.skip == "bicubic":
                return residual + resize_bicubic(low, scale=self.scale)
            flat = F.interpolate(low.flatten(0, 1), scale_factor=self.scale, mode="bilinear", align_corners=False)
            return residual + flat.view_as(residual)


LARGEST_VALUE = 8.0
"""Limit of absolute values: images in [0, 1] stay below, noise and overshoot included; 8-bit values do not."""


def _check_values(clip: Tensor) -> None:
    """Check that the values of a clip can be those of images in [0, 1]."""
    if type(clip) is not Tensor or clip.is_meta:
        return  # a placeholder without values
    lowest, highest = torch.stack(clip.detach().aminmax()).tolist()
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ShapeError("clip: want values in [0, 1], got NaN or infinite values")
    if max(-lowest, highest) > LARGEST_VALUE:
        raise ShapeError(
            f"clip: want RGB in [0, 1], got values from {lowest:.4g} to {highest:.4g}; divide 8-bit values by 255 "
            "(tensors.to_float does)"
        )


class WindowOutput(NamedTuple):
    """Output of a network for N windows or frames, before the skip connection.

    Attributes:
        residual: ``(N, 3, s*H, s*W)``.
        features: F^SR.
        aligned: F^LR.
        alignment_loss: see :class:`Upscaled`.
        flow: ``(N, 2, 2, H, W)``, from the middle frame to the frame before and to the frame after.
        offsets: each ``(N, M, 2 * taps, H', W')``, from the middle frame to all frames of the window, or to all others.
    """

    residual: Tensor
    features: Tensor | None = None
    aligned: Tensor | None = None
    alignment_loss: Tensor | None = None
    flow: Tensor | None = None
    offsets: tuple[Tensor, ...] = ()


def join_outputs(
    outputs: Sequence[WindowOutput], clip: Tensor, frames: int, scale: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Concatenate residual, F^SR and F^LR of several passes, and crop the padding.

    Args:
        outputs: of all windows or frames, in order.
        clip: the input, ``(B, T, 3, H, W)``.
        frames: output frames per clip.
        scale: s.

    Returns:
        Each ``(B, frames, ...)``, None if there is none.
    """
    batch, _, _, height, width = clip.shape

    def join(parts: list[Tensor | None], factor: int) -> Tensor | None:
        present = [part[..., : height * factor, : width * factor] for part in parts if part is not None]
        return torch.cat(present).unflatten(0, (batch, frames)) if present else None

    residual = join([output.residual for output in outputs], scale)
    assert residual is not None
    return residual, join([output.features for output in outputs], scale), join([o.aligned for o in outputs], 1)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
