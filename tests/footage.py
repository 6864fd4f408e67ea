"""Synthetic footage with known frames: cameras that move over images of soft spots."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.videos import encode
from workbench.data.preparation.manifest import PrepareSettings
from workbench.data.preparation.prepare import prepare

HEIGHT, WIDTH = 48, 64


def scene(seed: int) -> np.ndarray:
    """Make an image of soft spots, much wider than a frame."""
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT, 8 * WIDTH, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(soft, np.zeros_like(soft), 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def pan(count: int, *, seed: int = 0, step: int = 2, first: int = 0) -> list[np.ndarray]:
    """Make the frames of a camera that moves over such an image by ``step`` pixels a frame."""
    wide = scene(seed)
    return [wide[:, (first + n) * step : (first + n) * step + WIDTH] for n in range(count)]


def save(folder: Path, frames: Iterable[np.ndarray], *, names: str = "{:04d}.png", first: int = 0) -> Path:
    """Write a folder of images, numbered from ``first``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(np.ascontiguousarray(frame)).save(folder / names.format(number), compress_level=1)
    return folder


SHOTS: dict[str, list[np.ndarray]] = {
    "alley": pan(16),
    "beach": [*pan(9, seed=1), *pan(15, seed=2)],
    "cliff": pan(8, seed=3, step=1),
}
"""Source to frames; beach has a cut after frame 8."""


def write_shots(folder: Path) -> Path:
    """Write three folders of images: 16, 24 and 8 frames; 2, 1 + 2 and 1 septuplets."""
    for name, frames in SHOTS.items():
        save(folder / name, frames)
    return folder


def prepare_shards(folder: Path) -> Path:
    """Prepare three tar files of 4, 6 and 2 septuplets of these shots: two tiles of 2, 3 and 1."""
    settings = PrepareSettings(format="shards", downscale="1", tile_size="32x48", validation_share=0)
    prepare([write_shots(folder / "shots")], folder / "set", settings)
    return folder / "set"


def write_clip(path: Path, frames: list[np.ndarray]) -> Path:
    """Write a video file."""
    return encode(path, np.stack(frames))
