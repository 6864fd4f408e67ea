"""Base class of the networks that make each output frame from a window of input frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import ShapeError
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.passes import images_per_pass
from workbench.models.video_sr import Upscaled, VideoSR, WindowOffsets, WindowOutput, join_outputs
from workbench.models.windows import window_indices, without_middle

FRAMES_PER_PASS = 4
"""Frames that :meth:`SlidingWindow.per_frame` processes at once without gradient.

Twenty-eight frames of 180x120 at once take EDVR-M 1.7 times as long on a CPU, and as much memory again.
"""

PIXELS_PER_PASS = 2**15
"""Low-resolution pixels of the windows that a GPU processes at once: eight of 64x64, one of 180x120.

EDVR-L takes 1.5 GB of sampled columns for one such window of seven frames.
"""


class SlidingWindow(VideoSR):
    """Network that makes each output frame from a window of input frames.

    A subclass defines the computation per frame (:meth:`per_frame`) and per window (:meth:`per_window`). This class
    cuts the clip into windows, applies the border rule, bounds the memory by processing few windows at once, adds the
    skip connection and crops the padding.

    Args:
        scale: 2, 3 or 4.
        num_frames: frames of a window, odd.
        border: rule beyond the ends of the clip, see :func:`workbench.models.windows.window_indices`.
        skip: see :class:`VideoSR`.
        size_multiple: ``H`` and ``W`` of the layers; other sizes are padded and cropped.
        minimum_size: smallest ``H`` and ``W`` of the layers; smaller sizes are padded and cropped.
    """

    windows_per_pass: int | None = None
    """Number of windows that are processed at once.

    None: all with gradient; without gradient one on a CPU, and up to eight small ones on a GPU.
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
        super().__init__(scale=scale, skip=skip)
        window_indices(1, num_frames, border)  # checks both
        self.num_frames, self.temporal_radius = num_frames, num_frames // 2
        self.border: Border = border
        self.size_multiple, self.minimum_size = size_multiple, minimum_size

    def frame_groups(self, frames_NCHW: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of :meth:`per_frame`, and for each window the indices of its inputs.

        By default the inputs are the frames. A network overrides this if windows share more than frames (FastDVDnet:
        triples of frames). Indices are on the CPU, so that reading them waits for no other device.
        """
        return frames_NCHW, windows

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return features that are computed once per frame: tensors with the frames along their first axis."""
        return (frames_NCHW,)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Return the output of windows, from the features of their frames, each ``(N, num_frames, ...)``."""
        raise NotImplementedError

    def per_pass(
        self, features: tuple[Tensor, ...], windows: Tensor, *, return_features: FeatureLayer | None
    ) -> WindowOutput:
        """Return the output of the windows of one pass, by :meth:`per_window`.

        A network overrides this if windows share more than the features of their frames (EDVR: alignments).

        Args:
            features: results of :meth:`per_frame` for all frames.
            windows: indices of the frames of each window, ``(N, num_frames)``, on the CPU.
            return_features: see :meth:`forward`.
        """
        chosen = windows.to(features[0].device, non_blocking=True)
        return self.per_window(*(each[chosen] for each in features), return_features=return_features)

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        _, frames, _, _, _ = self.check_input(clip, return_features)
        return self._upscale(clip, window_indices(frames, self.num_frames, self.border), return_features)

    def upscale_windows(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale the middle frames of given windows.

        Args:
            clip: ``(B, T, 3, H, W)``, see :meth:`VideoSR.forward`.
            windows: indices of the frames of each window in ``clip``, ``(n, num_frames)``; see
                :func:`workbench.models.windows.window_indices`.
            return_features: see :meth:`VideoSR.forward`.

        Returns:
            ``n`` frames of every clip.
        """
        _, frames, _, _, _ = self.check_input(clip, return_features)
        if windows.ndim != 2 or windows.shape[1] != self.num_frames:
            raise ShapeError(f"windows: want (n, {self.num_frames}), got {tuple(windows.shape)}")
        if len(windows) == 0 or windows.min() < 0 or windows.max() >= frames:
            raise ShapeError(f"windows: want indices of the {frames} frames, got {windows.tolist()}")
        return self._upscale(clip, windows, return_features)

    def plan_chunk(self, total: int, first: int, last: int) -> tuple[Tensor, Callable[..., Upscaled]]:
        """Return the frames of the windows of a chunk, and the function; see :meth:`VideoSR.plan_chunk`."""
        windows = window_indices(total, self.num_frames, self.border, first=first, last=last)
        needed, windows = windows.unique(return_inverse=True)
        return needed, partial(self.upscale_windows, windows=windows)

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        batch, frames, _, height, width = clip.shape
        start = torch.arange(batch).repeat_interleave(len(windows)) * frames
        padded = self.pad_input(clip.flatten(0, 1))
        groups, chosen = self.frame_groups(padded, start[:, None] + windows.repeat(batch, 1))
        middle = windows[:, self.num_frames // 2].to(clip.device, non_blocking=True)
        features = self._all_frames(groups)
        few = min(max(PIXELS_PER_PASS // (height * width), 1), 8)
        at_once = images_per_pass(len(chosen), clip.device, on_gpu=few, setting=self.windows_per_pass)
        outputs = [self.per_pass(features, some, return_features=return_features) for some in chosen.split(at_once)]
        residual, high, aligned = join_outputs(outputs, clip, len(windows), self.scale)
        losses = [
            output.alignment_loss * len(output.residual) for output in outputs if output.alignment_loss is not None
        ]
        flows = [output.flow[..., :height, :width] for output in outputs if output.flow is not None]
        flow = torch.cat(flows).unflatten(0, (batch, len(windows))) if flows else None  # at the borders to a copy
        return Upscaled(
            frames=self.add_skip(residual, clip[:, middle]),
            features=high,
            aligned=aligned,
            alignment_loss=torch.stack(losses).sum() / len(residual.flatten(0, 1)) if losses else None,
            flow=None if flow is None else EstimatedFlow(to_next=flow[:, :-1, 1], to_previous=flow[:, 1:, 0]),
            offsets=_join_offsets(outputs, windows, batch, padded.shape[-2]) if outputs[0].offsets else None,
        )

    def _all_frames(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return :meth:`per_frame` of all frames: at once with gradient, else in passes that bound the memory."""
        if torch.is_grad_enabled() or len(frames_NCHW) <= FRAMES_PER_PASS:
            return self.per_frame(frames_NCHW)
        passes = [self.per_frame(some) for some in frames_NCHW.split(FRAMES_PER_PASS)]
        return tuple(torch.cat(same) for same in zip(*passes, strict=True))


def _join_offsets(outputs: list[WindowOutput], windows: Tensor, batch: int, height: int) -> WindowOffsets:
    """Join the offsets of all windows; ``height`` is that of the padded frames."""
    layers = zip(*(output.offsets for output in outputs), strict=True)
    offsets = tuple(torch.cat(same).unflatten(0, (batch, len(windows))) for same in layers)
    middle = windows.shape[1] // 2
    neighbors = windows
    if offsets[0].shape[2] < windows.shape[1]:  # the middle frame is not aligned to itself
        neighbors = without_middle(windows)
    strides = tuple(height // offset.shape[-2] for offset in offsets)
    return WindowOffsets(offsets, strides, windows[:, middle], neighbors)
