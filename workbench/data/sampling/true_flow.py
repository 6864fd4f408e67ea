"""Exact optical flow between the frames of a rendered clip.

Convention, as in ``imaging.warp`` and ``SPyNet.along``: flow is in low-resolution pixels, x first, and leads from a
pixel of a frame to the same point of the scene in its neighbor, so that ``warp(next_frame, to_next)`` is the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from workbench.imaging import warp

MIXED = 0.1
"""Coverage by the front layer above which, and below 1 minus which, a pixel shows both layers."""

ROUNDING = 1e-3
"""Low-resolution pixels by which a correspondence may be outside of the frame, for the rounding of still clips."""


class TrueFlow(NamedTuple):
    """True flow of a batch of clips; zero, all hidden and not valid for clips with unknown flow.

    Attributes:
        to_next: ``(B, T - 1, 2, H, W)``, from each frame but the last to the next one.
        to_previous: ``(B, T - 1, 2, H, W)``, from each frame but the first to the one before.
        hidden_next: bool ``(B, T - 1, H, W)``, pixels whose correspondence in the next frame is hidden or outside.
        hidden_previous: the same for the frame before.
        valid: bool ``(B,)``, whether the flow of each clip is known.
    """

    to_next: Tensor
    to_previous: Tensor
    hidden_next: Tensor
    hidden_previous: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> TrueFlow:
        """Return it on a device."""
        return TrueFlow(*(part.to(device, non_blocking=True) for part in self))

    def pin_memory(self) -> TrueFlow:
        """Return it in page-locked memory."""
        return TrueFlow(*(part.pin_memory() for part in self))

    def chunk(self, chunks: int) -> list[TrueFlow]:
        """Split it along the batch, as ``Tensor.chunk`` does."""
        return [TrueFlow(*parts) for parts in zip(*(part.chunk(chunks) for part in self), strict=True)]

    def between(self, references: Tensor, neighbors: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the flow from reference frames to frames at any distance, composed from frame to frame.

        .. math:: f_{0 \to 2}(p) = f_{0 \to 1}(p) + f_{1 \to 2}(p + f_{0 \to 1}(p))

        Between pixels the second flow is bilinear: exact for affine motion. At the edge of a front layer the result can
        contain a share of the other layer's flow, at most :data:`MIXED`; pixels with a larger share are hidden.

        Args:
            references: frame indices ``(N,)``, on the CPU.
            neighbors: frame indices ``(N, M)``, on the CPU. The flow from a frame to itself is 0, and nothing is
                hidden.

        Returns:
            The flow ``(B, N, M, 2, H, W)``, and bool ``(B, N, M, H, W)``: pixels whose correspondence is hidden or
            outside in the neighbor, or in a frame between the two.
        """
        batch, steps, _, height, width = self.to_next.shape
        flow = self.to_next.new_zeros(batch, *neighbors.shape, 2, height, width)
        hidden = self.hidden_next.new_zeros(batch, *neighbors.shape, height, width)
        distances = neighbors - references[:, None]
        for forward in (True, False):
            step, step_hidden = (
                (self.to_next, self.hidden_next) if forward else (self.to_previous, self.hidden_previous)
            )
            total, total_hidden = step, step_hidden  # from each frame that has a frame at this distance
            for distance in range(1, int(distances.abs().max()) + 1):
                if distance > 1:
                    left = steps + 1 - distance  # frames that have one
                    kept, onward = (slice(left), slice(-left, None)) if forward else (slice(1, None), slice(left))
                    total, more_hidden = _add_step(total[:, kept], step[:, onward], step_hidden[:, onward])
                    total_hidden = total_hidden[:, kept] | more_hidden
                rows, places = (distances == (distance if forward else -distance)).nonzero(as_tuple=True)
                sources = references[rows] - (0 if forward else distance)
                rows, places, sources = (i.to(flow.device, non_blocking=True) for i in (rows, places, sources))
                flow[:, rows, places], hidden[:, rows, places] = total[:, sources], total_hidden[:, sources]
        return flow, hidden


def _add_step(flow: Tensor, step: Tensor, step_hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Compose a flow ``(B, N, 2, H, W)`` with the flow of its target frames; return it and the pixels hidden there."""
    fields = torch.cat((step, step_hidden[:, :, None].to(step.dtype)), dim=2).flatten(0, 1)
    there = warp(fields, flow.flatten(0, 1)).to(step.dtype).unflatten(0, flow.shape[:2])
    return flow + there[:, :, :2], there[:, :, 2] > MIXED


class ClipFlow(NamedTuple):
    """True flow of one clip: :class:`TrueFlow` without its batch axis, as arrays (float32 and bool)."""

    to_next: np.ndarray
    to_previous: np.ndarray
    hidden_next: np.ndarray
    hidden_previous: np.ndarray


def unknown_flow(frames: int, height: int, width: int) -> ClipFlow:
    """Return the placeholder for a clip with unknown flow."""
    flow = np.zeros((frames - 1, 2, height, width), np.float32)
    hidden = np.ones((frames - 1, height, width), bool)
    return ClipFlow(flow, flow, hidden, hidden)


def stack_flows(flows: Sequence[ClipFlow | None], *, frames: int, height: int, width: int) -> TrueFlow:
    """Stack the flow of clips to a batch; None for a clip with unknown flow."""
    known = [unknown_flow(frames, height, width) if flow is None else flow for flow in flows]
    parts = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*known, strict=True))
    return TrueFlow(*parts, valid=torch.tensor([flow is not None for flow in flows]))


def affine_flow(source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    r"""Return the displacement between two frames that map to one plane by affine maps.

    A point ``p`` of the source frame shows the point :math:`A_s p + t_s` of the plane, so in the target frame it is at

    .. math:: q = A_t^{-1} (A_s p + t_s - t_t), \qquad \text{flow} = q - p

    Args:
        source: ``[A | t]`` of one or several source frames, ``(..., 2, 3)``.
        target: the same of the target frame.
        points: ``(2, H, W)``, x first.

    Returns:
        ``(..., 2, H, W)``, in the unit of the points.

    Example:
        >>> still, moved = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[1.0, 0, 3], [0, 1, 0]])
        >>> affine_flow(still, moved, np.zeros((2, 1, 1))).ravel().tolist()
        [-3.0, 0.0]
    """
    inverse = np.linalg.inv(target[..., :2])
    matrix = inverse @ source[..., :2] - np.eye(2)
    offset = inverse @ (source[..., 2:] - target[..., 2:])
    moved = matrix @ points.reshape(2, -1) + offset
    return moved.reshape(*moved.shape[:-1], *points.shape[1:])


def hidden_pixels(flow: np.ndarray, coverage: np.ndarray | None, neighbor_coverage: np.ndarray | None) -> np.ndarray:
    """Return the pixels that have no visible correspondence in the neighbor.

    Args:
        flow: ``(2, H, W)`` to the neighbor, in pixels.
        coverage: share of each pixel that the front layer covers, ``(H, W)`` in [0, 1]; None without such a layer.
        neighbor_coverage: the same of the neighbor.

    Returns:
        bool ``(H, W)``: the correspondence is outside of the neighbor or covered there by the other layer, or the pixel
        shows both layers, so that no single correspondence exists.
    """
    _, height, width = flow.shape
    x, y = flow[0] + np.arange(width), flow[1] + np.arange(height)[:, None]
    inside = (x > -ROUNDING) & (x < width - 1 + ROUNDING) & (y > -ROUNDING) & (y < height - 1 + ROUNDING)
    if coverage is None or neighbor_coverage is None:
        return ~inside
    there = cv2.remap(
        neighbor_coverage.astype(np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    front = (coverage > 1 - MIXED) & (there > 1 - MIXED)
    back = (coverage < MIXED) & (there < MIXED)
    return ~(inside & (front | back))


def clip_flow(layers: Sequence[np.ndarray], points: np.ndarray, scale: int, coverage: np.ndarray | None) -> ClipFlow:
    """Return the true flow of a clip of one or two layers.

    Args:
        layers: ``[A | t]`` of each frame ``(T, 2, 3)`` of the back layer and, where there is one, the front layer; in
            high-resolution pixels.
        points: positions of the low-resolution pixels ``(2, H, W)``, in high-resolution pixels.
        scale: high-resolution pixels in a low-resolution one.
        coverage: of the front layer in each frame ``(T, H, W)``, in [0, 1]; None where there is none.
    """

    def along(source: slice, target: slice) -> tuple[np.ndarray, np.ndarray]:
        fields = [affine_flow(layer[source], layer[target], points) / scale for layer in layers]
        if coverage is None:
            flows = fields[0].astype(np.float32)
            return flows, np.stack([hidden_pixels(flow, None, None) for flow in fields[0]])
        here, there = coverage[source], coverage[target]
        flows = np.where(here[:, None] >= 0.5, fields[1], fields[0]).astype(np.float32)
        return flows, np.stack([hidden_pixels(*parts) for parts in zip(flows, here, there, strict=True)])

    if len(layers[0]) == 1:
        return unknown_flow(1, *points.shape[1:])
    to_next, hidden_next = along(slice(None, -1), slice(1, None))
    to_previous, hidden_previous = along(slice(1, None), slice(None, -1))
    return ClipFlow(to_next, to_previous, hidden_next, hidden_previous)
