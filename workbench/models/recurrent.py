"""Base class of the networks that propagate features along the clip, then upsample frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from workbench.choices import FeatureLayer
from workbench.errors import ShapeError
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.passes import images_per_pass
from workbench.models.video_sr import Upscaled, VideoSR, WindowOutput, join_outputs


class Recurrent(VideoSR):
    """Network in two halves: :meth:`propagate` needs the whole clip, :meth:`reconstruct` one frame at a time.

    A subclass defines how features propagate along the clip (:meth:`propagate`) and how those of a frame become an
    image (:meth:`upsample`); F^LR are the features of the first half. This class adds the skip connection, crops the
    padding, and bounds the memory of the second half. The memory of the first half grows with the clip; see the
    subclass.
    """

    temporal_radius = None
    tail: nn.Module

    frames_per_pass: int | None = None
    """Number of frames that are upsampled at once; None: all with gradient, else one on a CPU and eight on a GPU."""

    def propagate(self, clip: Tensor, flow: EstimatedFlow | None = None) -> Tensor:
        """Return features of each frame that depend on the whole clip.

        Args:
            clip: ``(B, T, 3, H, W)``, any size.
            flow: result of :meth:`estimate_flow` for this clip; computed here where it is None and needed.

        Returns:
            ``(B, T, C, H', W')``: low-resolution features; ``H'`` and ``W'`` are ``H`` and ``W``, or the next larger
            sizes that the layers take.
        """
        raise NotImplementedError

    def upsample(self, features_NCHW: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Return the output of some frames before the skip connection; by default that of ``self.tail``."""
        residual, features = self.tail(features_NCHW, return_features)
        return WindowOutput(residual, features, features_NCHW if return_features else None)

    def reconstruct(self, features: Tensor, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Make images from the features of :meth:`propagate`, for all frames or a chunk of them.

        Args:
            features: ``(B, T, C, H', W')``.
            clip: the same frames of the input, ``(B, T, 3, H, W)``.
            return_features: see :meth:`VideoSR.forward`.

        Raises:
            ShapeError: features and clip do not have the same number of frames.
            ConfigError: the network does not have the features that ``return_features`` names.
        """
        self.check_features(return_features)
        batch, frames = clip.shape[:2]
        if features.ndim != 5 or features.shape[:2] != clip.shape[:2]:
            raise ShapeError(f"features: want ({batch}, {frames}, C, H, W) as in the clip, got {tuple(features.shape)}")
        at_once = images_per_pass(batch * frames, clip.device, setting=self.frames_per_pass)
        outputs = [self.upsample(some, return_features) for some in features.flatten(0, 1).split(at_once)]
        residual, high, aligned = join_outputs(outputs, clip, frames, self.scale)
        return Upscaled(self.add_skip(residual, clip), features=high, aligned=aligned)

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; see :meth:`VideoSR.forward`."""
        self.check_input(clip, return_features)
        flow = self.estimate_flow(clip) if self.training else None
        upscaled = self.reconstruct(self.propagate(clip, flow), clip, return_features)
        if flow is None:
            return upscaled
        height, width = clip.shape[-2:]
        return replace(upscaled, flow=EstimatedFlow(*(part[..., :height, :width] for part in flow)))

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Propagate along the whole clip once, then reconstruct chunk by chunk; see :meth:`VideoSR.chunks`."""
        self.check_input(clip, return_features)
        features = self.propagate(clip)
        for first in range(0, clip.shape[1], frames):
            chunk = slice(first, first + frames)
            yield self.reconstruct(features[:, chunk], clip[:, chunk], return_features)
