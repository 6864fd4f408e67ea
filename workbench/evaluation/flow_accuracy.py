"""Accuracy of the optical flow that a network estimates on real clips.

The true flow of real footage is not known. The reference is Farneback's flow between the high-resolution frames,
averaged down to the low resolution; the networks get the low resolution alone. The comparison is a diagnosis and not a
score: Farneback's flow is smooth, and wrong at occlusions. How far two good estimates of the ground truth's flow differ
is measured too (:func:`reference_agreement`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet
from workbench.data.degradation.families import degrade
from workbench.devices import device_of, evaluation_mode
from workbench.errors import ConfigError, DataError
from workbench.imaging import gray
from workbench.models.video_sr import VideoSR
from workbench.tensors import to_float

BORDER = 8
"""Low-resolution pixels left out at every border, where the reference is least reliable."""

FARNEBACK = {"pyr_scale": 0.5, "levels": 5, "winsize": 21, "iterations": 5, "poly_n": 7, "poly_sigma": 1.5, "flags": 0}
"""Settings of OpenCV's Farneback flow between high-resolution frames."""

DISTANCES = (-2, -1, 1, 2)
"""Frames from the reference to its neighbors."""

MIDDLE = -min(DISTANCES)
"""Index of the reference among the frames that are read for it."""


@dataclass(frozen=True, kw_only=True)
class FlowAccuracy:
    r"""Agreement of estimated flow :math:`f` with the reference flow :math:`f^*`, over all pixels of all pairs.

    Attributes:
        clip: name of the clip.
        pairs: number of frame pairs.
        motion: mean of :math:`\lVert f^* \rVert`, in low-resolution pixels: the end-point error of zero flow.
        end_point_error: mean of :math:`\lVert f - f^* \rVert`, in low-resolution pixels.
        slope: :math:`\sum f \cdot f^* / \sum f^* \cdot f^*`, mean over the pairs; 1 for the reference, 0 for no flow.
    """

    clip: str
    pairs: int
    motion: float
    end_point_error: float
    slope: float


def flow_accuracy(
    network: VideoSR, clips: ClipSet, *, degradation: str = "bi", frames_per_clip: int = 2
) -> Iterator[FlowAccuracy]:
    """Compare the flow of a network with the reference flow; yields one result per clip.

    Args:
        network: a network with :meth:`workbench.models.video_sr.VideoSR.estimate_flow`, on its device.
        clips: clips of the network's scale.
        degradation: family of the low resolution.
        frames_per_clip: reference frames, evenly spaced; each is compared with its neighbors at :data:`DISTANCES`.

    Raises:
        ConfigError: the network estimates no flow, or enlarges by another factor.
        DataError: a clip of fewer than 5 frames, or of fewer than 32 low-resolution pixels a side.
    """
    if network.scale != clips.scale:
        raise ConfigError(f"scale: want {clips.scale} as in {clips.name}, got a network for x{network.scale}")

    def estimate(high: np.ndarray, neighbor: int) -> np.ndarray:
        low = to_float(degrade(high[[MIDDLE, neighbor]], degradation, clips.scale), device=device_of(network))
        with torch.inference_mode():
            estimated = network.estimate_flow(low)
        if estimated is None:
            raise ConfigError(f"network: want one that estimates flow (VESPCN, EDVR, BasicVSR), got {network.name}")
        return estimated.to_next[0, 0].permute(1, 2, 0).cpu().numpy()

    with evaluation_mode(network):
        for clip in clips:
            yield _clip_accuracy(estimate, clip, frames_per_clip)


def reference_agreement(clips: ClipSet, *, frames_per_clip: int = 2) -> Iterator[FlowAccuracy]:
    """Compare OpenCV's DIS flow of the ground truth with the reference flow: the uncertainty of the reference.

    A network whose errors are near these agrees with the reference as well as another estimator that sees the
    high-resolution frames.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def estimate(high: np.ndarray, neighbor: int) -> np.ndarray:
        # OpenCV allocates the result where None is given
        flow = dis.calc(gray(high[MIDDLE]), gray(high[neighbor]), None)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return _to_low_resolution(flow, clips.scale)

    for clip in clips:
        yield _clip_accuracy(estimate, clip, frames_per_clip)


def mean_accuracy(results: Sequence[FlowAccuracy]) -> FlowAccuracy:
    """Return the mean over clips, each with the same weight."""
    return FlowAccuracy(
        clip="mean",
        pairs=sum(one.pairs for one in results),
        **{
            name: float(np.mean([getattr(one, name) for one in results]))
            for name in ("motion", "end_point_error", "slope")
        },
    )


def reference_flow(reference: np.ndarray, neighbor: np.ndarray, scale: int) -> np.ndarray:
    """Return Farneback's flow between two high-resolution frames, averaged down to low-resolution pixels.

    Args:
        reference: uint8 RGB ``(s*H, s*W, 3)``.
        neighbor: the same shape.
        scale: s.

    Returns:
        float32 ``(H, W, 2)`` in low-resolution pixels, x first.
    """
    grays = gray(reference), gray(neighbor)
    flow = cv2.calcOpticalFlowFarneback(*grays, None, **FARNEBACK)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return _to_low_resolution(flow, scale)


def _to_low_resolution(flow: np.ndarray, scale: int) -> np.ndarray:
    """Average a flow between high-resolution frames down to low-resolution pixels."""
    height, width = flow.shape[:2]
    return cv2.resize(flow, (width // scale, height // scale), interpolation=cv2.INTER_AREA) / scale


def reference_frames(frames: int, count: int) -> list[int]:
    """Return evenly spaced frame numbers whose neighbors at :data:`DISTANCES` are all in the clip.

    Example:
        >>> reference_frames(41, 2), reference_frames(5, 2)
        ([11, 29], [2])
    """
    first, last = -min(DISTANCES), frames - 1 - max(DISTANCES)
    return sorted({round(first + (last - first) * (2 * number + 1) / (2 * count)) for number in range(count)})


def _clip_accuracy(estimate: Callable[[np.ndarray, int], np.ndarray], clip: ClipEntry, count: int) -> FlowAccuracy:
    """Compare a flow on one clip.

    Args:
        estimate: function of high-resolution frames and the index of the neighbor of frame :data:`MIDDLE`.
        clip: the clip.
        count: reference frames.
    """
    width, height = (side // clip.scale for side in clip.size)
    if clip.frames < 5 or min(width, height) < 4 * BORDER:
        raise DataError(
            f"{clip.name}: want 5 frames of {4 * BORDER}x{4 * BORDER} low-resolution pixels or more, got {clip.frames} "
            f"of {width}x{height}"
        )
    inner = slice(BORDER, -BORDER)
    motion, errors, slopes = [], [], []
    for number in reference_frames(clip.frames, count):
        high = clip.high(number - MIDDLE, number + max(DISTANCES) + 1)
        high = high[:, : height * clip.scale, : width * clip.scale]
        for distance in DISTANCES:
            true = reference_flow(high[MIDDLE], high[MIDDLE + distance], clip.scale)[inner, inner]
            flow = estimate(high, MIDDLE + distance)[:height, :width][inner, inner]
            motion.append(float(np.linalg.norm(true, axis=-1).mean()))
            errors.append(float(np.linalg.norm(flow - true, axis=-1).mean()))
            slopes.append(float((flow * true).sum() / max(float((true * true).sum()), 1e-12)))
    return FlowAccuracy(
        clip=clip.name,
        pairs=len(motion),
        motion=float(np.mean(motion)),
        end_point_error=float(np.mean(errors)),
        slope=float(np.mean(slopes)),
    )
