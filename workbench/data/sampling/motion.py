"""Synthetic camera motion: clips rendered from still images, with their exact flow.

A camera moves over a still image: shift, rotation, zoom and jitter, together between 0 and 3 low-resolution pixels a
frame. Each frame is rendered at twice the high resolution, averaged down by area, and degraded like any other clip. In
some clips a second layer with a separate motion covers a part of the first, or text is drawn into the image.

An affine map leads from a frame to the plane of the image: the pixel ``p`` (in high-resolution pixels from the center
of the frame) shows the point :math:`A p + t`, in the same unit from the point of the image below the camera.
OpenCV interpolates at steps of 1/32 pixel of the image, which is below 0.005 low-resolution pixels at scale 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from workbench.data.degradation.families import degrade, find_degradation
from workbench.data.sampling.stills import Stills
from workbench.data.sampling.true_flow import ClipFlow, affine_flow, clip_flow

MARGIN = 3
"""Low-resolution pixels rendered around a clip, the largest radius of a degradation kernel."""

OVERSAMPLING = 2
"""Size at which frames are rendered, in multiples of the high resolution, before they are averaged down by area."""

MIN_DOWNSAMPLING, MAX_DOWNSAMPLING = 1.6, 2.4
"""Pixels of the image per high-resolution pixel; averages noise and compression artifacts of the image."""

MIN_DETAIL = 4.0
"""Mean gray level difference to the neighboring high-resolution pixels, right and below together, of 255. A crop of an
image with less is drawn again, up to three times: out-of-focus areas and sky are useless for alignment."""

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """Settings of clips of synthetic motion.

    Attributes:
        crop_size: side of a clip in low-resolution pixels.
        num_frames: frames of a clip.
        scale: high-resolution pixels per low-resolution pixel.
        degradation: family of the low resolution.
        augment: flip and transpose the image.
        min_speed: least speed of the fastest pixel between two frames, in low-resolution pixels; drawn log-uniformly.
        max_speed: largest speed of it.
        layer_share: share of the clips with a second layer.
        text_share: share of the clips with text in the image.
    """

    crop_size: int
    num_frames: int
    scale: int = 4
    degradation: str = "bi"
    augment: bool = True
    min_speed: float = 0.03
    max_speed: float = 3.0
    layer_share: float = 0.3
    text_share: float = 0.25

    @property
    def side(self) -> int:
        """Side of a rendered frame in high-resolution pixels: the crop with its margin."""
        return (self.crop_size + 2 * MARGIN) * self.scale

    @property
    def min_still_side(self) -> int:
        """Smallest side of a still image into which a frame fits."""
        return math.ceil(MIN_DOWNSAMPLING * self.side) + 4


@dataclass(frozen=True)
class MotionClip:
    """Clip in both resolutions, uint8 ``(T, H, W, 3)`` and ``(T, s*H, s*W, 3)``, with its true flow."""

    low: np.ndarray
    high: np.ndarray
    flow: ClipFlow


@dataclass(frozen=True)
class CameraPath:
    """Motion of a camera: one entry per frame.

    Attributes:
        shift: ``(T, 2)`` in high-resolution pixels, x first.
        angle: ``(T,)`` in radians.
        log_zoom: ``(T,)``.
    """

    shift: np.ndarray
    angle: np.ndarray
    log_zoom: np.ndarray

    def times(self, factor: float) -> CameraPath:
        """Return the same motion, larger or smaller."""
        return CameraPath(self.shift * factor, self.angle * factor, self.log_zoom * factor)

    def matrices(self) -> np.ndarray:
        """Return ``[A | t]`` of each frame, ``(T, 2, 3)``."""
        zoom = np.exp(self.log_zoom)
        cos, sin = zoom * np.cos(self.angle), zoom * np.sin(self.angle)
        return np.stack(
            (np.stack((cos, -sin, self.shift[:, 0]), -1), np.stack((sin, cos, self.shift[:, 1]), -1)), axis=1
        )

    def peak(self, side: float) -> float:
        """Return the largest displacement of a pixel of a square of this side between two neighboring frames."""
        matrices = self.matrices()
        here = np.concatenate((matrices[:-1], matrices[1:]))
        there = np.concatenate((matrices[1:], matrices[:-1]))
        return float(np.linalg.norm(affine_flow(here, there, _corners(side)), axis=1).max(initial=0.0))


def _corners(side: float) -> np.ndarray:
    return np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]]) * (side / 2)


def draw_path(rng: np.random.Generator, settings: MotionSettings) -> CameraPath:
    """Draw a smooth motion whose fastest pixel moves by a log-uniform speed.

    The camera pans along a curve at a varying pace and turns and zooms a little; jitter shifts each frame by itself.
    The motion is relative to the middle frame.
    """
    frames, side = settings.num_frames, settings.crop_size * settings.scale
    speed = settings.scale * math.exp(rng.uniform(math.log(settings.min_speed), math.log(settings.max_speed)))
    k = np.arange(frames - 1)
    pace = 1 - rng.uniform(0, 0.7) * (0.5 + 0.5 * np.cos(2 * np.pi * (k / rng.uniform(4, 16) + rng.random())))
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.15) * k
    pan = speed * rng.uniform(0.3, 1) * pace[:, None] * np.stack((np.cos(heading), np.sin(heading)), -1)
    limit = speed / side  # beyond it rotation or zoom alone would exceed the speed
    turn = np.clip(rng.normal(0, math.radians(0.25)), -limit, limit) * pace
    zoom = np.clip(rng.normal(0, 0.003), -limit, limit) * pace
    jitter = rng.uniform(-1, 1, (frames, 2)) * (speed * rng.uniform(0, 0.25))
    path = CameraPath(_from_middle(pan) + jitter, _from_middle(turn), _from_middle(zoom))
    for _ in range(2):  # the peak is linear in the motion but for a percent
        peak = path.peak(side)
        path = path.times(speed / peak) if peak else path
    return path


def _from_middle(steps: np.ndarray) -> np.ndarray:
    along = np.cumsum(np.concatenate((np.zeros((1, *steps.shape[1:])), steps)), axis=0)
    return along - along[len(along) // 2]


@dataclass(frozen=True)
class Layer:
    """Crop of an image, and the map from each frame to it.

    Attributes:
        patch: uint8 ``(h, w, C)``.
        matrices: ``[A | t]`` of each frame, ``(T, 2, 3)``.
        center: point of the patch below the camera, x first.
        downsampling: pixels of the image per high-resolution pixel.
    """

    patch: np.ndarray
    matrices: np.ndarray
    center: np.ndarray
    downsampling: float

    def render(self, side: int) -> np.ndarray:
        """Render the frames ``(T, side, side, C)``."""
        large = OVERSAMPLING * side
        offset = np.full(2, -(large - 1) / 2 / OVERSAMPLING)  # of the first rendered pixel from the center
        frames = np.empty((len(self.matrices), side, side, self.patch.shape[2]), np.uint8)
        for frame, matrix in zip(frames, self.matrices, strict=True):
            linear = self.downsampling * matrix[:, :2]
            start = self.center + self.downsampling * matrix[:, 2] + linear @ offset
            cv2.resize(
                cv2.warpAffine(
                    self.patch, np.column_stack((linear / OVERSAMPLING, start)), (large, large),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
                ),
                (side, side), dst=frame, interpolation=cv2.INTER_AREA,
            )  # fmt: skip
        return frames


def place(still: np.ndarray, path: CameraPath, rng: np.random.Generator, settings: MotionSettings) -> Layer:
    """Place a camera above an image so that all frames are inside of its borders.

    The motion is halved until it fits, which happens where the image is only a little larger than a frame.
    """
    height, width = still.shape[:2]
    room = np.array([width, height]) - 2.0
    turned = _orientation(rng) if settings.augment else np.eye(2)
    matrices, low, high = _turned(turned, path, settings.side)
    for factor in (*[0.5] * 11, 0):
        if (MIN_DOWNSAMPLING * (high - low) <= room).all():
            break
        path = path.times(factor)
        matrices, low, high = _turned(turned, path, settings.side)
    downsampling = min(
        math.exp(rng.uniform(math.log(MIN_DOWNSAMPLING), math.log(MAX_DOWNSAMPLING))), *(room / (high - low))
    )
    first, last = 0.5 - downsampling * low, room + 0.5 - downsampling * high

    def above(center: np.ndarray) -> Layer:
        start = np.maximum(np.floor(center + downsampling * low).astype(int), 0)
        end = np.ceil(center + downsampling * high).astype(int) + 1
        return Layer(still[start[1] : end[1], start[0] : end[0]], matrices, center - start, downsampling)

    layer = above(first + rng.random(2) * (last - first))
    for _ in range(3):
        if _detail(layer.patch) < MIN_DETAIL:
            layer = above(first + rng.random(2) * (last - first))
    return layer


def _turned(orientation: np.ndarray, path: CameraPath, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the maps of a path after a turn, and the bounding box of the points in frames of this side, x first."""
    matrices = orientation @ path.matrices()
    corners = matrices[:, :, :2] @ _corners(side) + matrices[:, :, 2:]
    return matrices, corners.min((0, 2)), corners.max((0, 2))


def _detail(patch: np.ndarray) -> float:
    green = patch[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _orientation(rng: np.random.Generator) -> np.ndarray:
    flips = np.diag(rng.choice((-1.0, 1.0), 2))
    return flips[::-1] if rng.random() < 0.5 else flips


def make_clip(
    draw: Callable[[np.random.Generator], np.ndarray], rng: np.random.Generator, settings: MotionSettings
) -> MotionClip:
    """Render a clip of a still image in motion.

    Args:
        draw: returns a still image, uint8 ``(H, W, 3)``.
        rng: decides all draws.
        settings: size, motion and degradation.
    """
    back = place(draw(rng), draw_path(rng, settings), rng, settings)
    if rng.random() < settings.text_share:
        back = replace(back, patch=_with_text(back.patch, back.downsampling, rng))
    front = None
    if rng.random() < settings.layer_share:
        front = place(draw(rng), draw_path(rng, settings), rng, settings)
        front = replace(front, patch=np.dstack((front.patch, _shape(front, settings, rng))))
    return compose(back, front, settings)


def compose(back: Layer, front: Layer | None, settings: MotionSettings) -> MotionClip:
    """Render one or two layers in both resolutions, and compute their true flow.

    Args:
        back: fills the frame.
        front: covers a part of it; its patch has a fourth channel, the coverage. None for no such layer.
        settings: size and degradation.
    """
    scale, crop, family = settings.scale, settings.crop_size, find_degradation(settings.degradation, settings.scale)
    high, coverage, layers = back.render(settings.side), None, [back.matrices]
    inner = slice(MARGIN, MARGIN + crop)
    if front is not None:
        rgba = front.render(settings.side)
        alpha = rgba[..., 3:].astype(np.float32) / 255
        high = np.rint(high + (rgba[..., :3] - high.astype(np.float32)) * alpha).astype(np.uint8)
        covered = family.downsample(torch.from_numpy(np.ascontiguousarray(alpha[..., 0]))[None], scale)
        coverage, layers = covered[0].clamp(0, 1).numpy()[:, inner, inner], [back.matrices, front.matrices]
    low = degrade(high, settings.degradation, scale)[:, inner, inner]
    along = scale * np.arange(MARGIN, MARGIN + crop) + family.phase(scale) - (settings.side - 1) / 2
    points = np.stack(np.broadcast_arrays(along, along[:, None]))
    inner_high = slice(scale * MARGIN, scale * (MARGIN + crop))
    return MotionClip(
        np.ascontiguousarray(low),
        np.ascontiguousarray(high[:, inner_high, inner_high]),
        clip_flow(layers, points, scale, coverage),
    )


def _with_text(patch: np.ndarray, downsampling: float, rng: np.random.Generator) -> np.ndarray:
    """Draw words into a copy of an image, in letters of 8 to 40 high-resolution pixels."""
    patch = patch.copy()
    height, width = patch.shape[:2]
    for _ in range(rng.integers(1, 5)):
        color = tuple(int(level) for level in rng.integers(0, 256, 3))
        at = (int(rng.integers(-width // 4, width // 2)), int(rng.integers(height)))
        _put_text(patch, _word(rng), at, downsampling * rng.uniform(0.4, 2.0), color, rng)
    return patch


def _put_text(
    image: np.ndarray, word: str, at: tuple[int, int], size: float, color: tuple[int, ...], rng: np.random.Generator
) -> None:
    font, thickness = FONTS[rng.integers(len(FONTS))], int(rng.integers(1, 4))
    cv2.putText(image, word, at, font, size, color, thickness, cv2.LINE_AA)


def _word(rng: np.random.Generator) -> str:
    first = rng.choice((ord("A"), ord("a")))
    return "".join(chr(first + letter) for letter in rng.integers(0, 26, rng.integers(2, 10)))


def _shape(layer: Layer, settings: MotionSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw the coverage of a front layer ``(h, w)``: an ellipse, a polygon or a word."""
    coverage = np.zeros(layer.patch.shape[:2], np.uint8)
    size = layer.downsampling * settings.crop_size * settings.scale
    x, y = layer.center + rng.uniform(-0.4, 0.4, 2) * size
    radius = rng.uniform(0.08, 0.35) * size
    kind = rng.integers(3)
    if kind == 0:
        axes = (int(radius), int(radius * rng.uniform(0.4, 1)))
        cv2.ellipse(coverage, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 10)))
        radii = radius * rng.uniform(0.5, 1.3, len(angles))
        corners = np.stack((x + radii * np.cos(angles), y + radii * np.sin(angles)), -1)
        cv2.fillPoly(coverage, [np.rint(corners).astype(np.int32)], 255, cv2.LINE_AA)
    else:
        _put_text(
            coverage, _word(rng), (int(x - 2 * radius), int(y)), layer.downsampling * rng.uniform(1, 4), (255,), rng
        )
    return coverage


class MotionSampler:
    """Endless clips of still images in motion, each a function of (seed, step, index).

    Args:
        stills: see :func:`workbench.data.sampling.stills.open_stills`, with ``settings.min_still_side``.
        settings: size, motion and degradation.
        seed: with step and index, decides every draw.
    """

    def __init__(self, stills: Stills, settings: MotionSettings, *, seed: int = 0) -> None:
        find_degradation(settings.degradation, settings.scale)
        self.stills, self.settings, self.seed = stills, settings, seed

    def clip(self, step: int, index: int) -> MotionClip:
        """Return clip ``index`` of the batch of a step."""
        rng = np.random.default_rng((self.seed, step, index, 1))
        return make_clip(lambda rng: self.stills.draw(rng, seed=self.seed, step=step), rng, self.settings)
