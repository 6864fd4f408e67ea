"""Networks that carry what they know along the clip: propagate at low resolution, then enlarge frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from workbench.errors import ConfigError, ShapeError
from workbench.models.video_sr import (
    SKIPS,
    EstimatedFlow,
    FeatureLayer,
    Skip,
    Upscaled,
    VideoSR,
    WindowOutput,
    add_skip,
)


class Recurrent(VideoSR):
    """A network in two halves: :meth:`propagate` needs the whole clip, :meth:`reconstruct` one frame at a time.

    A subclass says how features travel along the clip (:meth:`propagate`) and how those of a frame become a picture
    (:meth:`enlarge`); this class adds the skip connection, crops sizes that were padded, and bounds the memory of the
    second half. That of the first half grows with the clip: see what the subclass says of it.

    Args:
        scale: 2, 3 or 4.
        skip: what is added to the output: the frame enlarged ``bicubic``, ``bilinear``, or ``none``.
    """

    temporal_radius = None

    frames_per_pass: int | None = None
    """How many frames are enlarged at once; None: all while training, one on a CPU and eight on a GPU otherwise."""

    def __init__(self, *, scale: int, skip: Skip) -> None:
        super().__init__(scale=scale)
        if skip not in SKIPS:
            raise ConfigError(f"skip: want one of {', '.join(SKIPS)}, got {skip!r}")
        self.skip: Skip = skip

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

    def enlarge(self, features_NCHW: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """From the features of some frames to what is added to the skip connection."""
        raise NotImplementedError

    def reconstruct(self, features: Tensor, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Make pictures of what :meth:`propagate` returned, for all frames or for a stretch of them.

        Args:
            features: ``(B, T, C, H', W')``.
            clip: the same frames as they came, ``(B, T, 3, H, W)``.
            return_features: see :meth:`VideoSR.forward`.

        Raises:
            ShapeError: features and clip are not of the same frames.
            ConfigError: ``return_features`` asks for what is not there.
        """
        self.check_features(return_features)
        batch, frames, _, height, width = clip.shape
        if features.ndim != 5 or features.shape[:2] != clip.shape[:2]:
            raise ShapeError(f"features: want ({batch}, {frames}, C, H, W) as in the clip, got {tuple(features.shape)}")
        seen = [
            self.enlarge(some, return_features) for some in features.flatten(0, 1).split(self._frames_at_once(clip))
        ]

        def whole(parts: list[Tensor | None], factor: int) -> Tensor | None:
            there = [part[..., : height * factor, : width * factor] for part in parts if part is not None]
            return torch.cat(there).unflatten(0, (batch, frames)) if there else None

        residual = whole([part.residual for part in seen], self.scale)
        assert residual is not None
        return Upscaled(
            frames=add_skip(residual, clip, skip=self.skip, scale=self.scale),
            features=whole([part.features for part in seen], self.scale),
            aligned=whole([part.aligned for part in seen], 1),
        )

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
        """Propagate along the whole clip once, then reconstruct a stretch at a time; see :meth:`VideoSR.stretches`."""
        self.check_input(clip, return_features)
        features = self.propagate(clip)
        for first in range(0, clip.shape[1], frames):
            stretch = slice(first, first + frames)
            yield self.reconstruct(features[:, stretch], clip[:, stretch], return_features)

    def _frames_at_once(self, clip: Tensor) -> int:
        if self.frames_per_pass is not None:
            return self.frames_per_pass
        if torch.is_grad_enabled():
            return clip.shape[0] * clip.shape[1]
        return 1 if clip.device.type == "cpu" else 8
