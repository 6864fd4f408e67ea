"""Training clips: random crops of footage, every draw a function of (seed, step, index)."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from workbench.data.degradation.families import crop_to_scale, degrade
from workbench.data.sampling.footage_motion import crop_motion, motion_map
from workbench.errors import DataError, ShapeError
from workbench.tensors import check_frames

logger = logging.getLogger(__name__)

MOTION_SAMPLES = 1024
"""Crop positions at which motion is measured when footage is opened."""

MAX_TRIES = 128
"""Positions that are drawn for one crop that must move."""

MIN_MOVING_SHARE = 4 / MAX_TRIES
"""Share of moving positions below which more than 2 % of the crops that must move find none."""

LOG_SECONDS = 10.0
"""Seconds between two progress messages."""

Position = tuple[slice, slice, slice]
"""Frames, rows and columns of a crop, in low-resolution pixels."""

B_co = TypeVar("B_co", covariant=True)
"""Type of a batch."""


class Footage(Protocol):
    """Clip in both resolutions from which crops are cut: in memory, memory-mapped or on disk."""

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns in low resolution."""
        ...

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return a crop, given in low-resolution pixels: uint8 ``(T, h, w, 3)`` and ``(T, s*h, s*w, 3)``."""
        ...

    def motion(self) -> np.ndarray:
        """Return the motion map of the clip (:func:`.footage_motion.motion_map`), stored or measured now."""
        ...


@dataclass(frozen=True)
class Pair:
    """Clip in both resolutions, uint8 ``(T, H, W, 3)`` and ``(T, s*H, s*W, 3)``."""

    low: np.ndarray
    high: np.ndarray

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns in low resolution."""
        frames, height, width, _ = self.low.shape
        return frames, height, width

    @property
    def scale(self) -> int:
        """High-resolution pixels per low-resolution pixel.

        Raises:
            ShapeError: the two are not uint8 clips, or their sizes do not differ by a whole factor.
        """
        frames, height, width = check_frames(self.low, "low")
        scale = check_frames(self.high, "high")[1] // height
        if self.high.shape != (frames, scale * height, scale * width, 3):
            raise ShapeError(f"high: want a multiple of low, {self.low.shape}, got {self.high.shape}")
        return scale

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Footage`."""
        scale = self.scale
        return self.low[frames, rows, columns], self.high[frames, scale_slice(rows, scale), scale_slice(columns, scale)]

    def motion(self) -> np.ndarray:
        """See :class:`Footage`."""
        return motion_map(self.low)


def scale_slice(part: slice, scale: int) -> slice:
    """Convert a slice of an axis to high-resolution pixels."""
    return slice(part.start * scale, part.stop * scale)


def make_pair(frames: np.ndarray, *, scale: int, degradation: str = "bi") -> Pair:
    """Crop a clip to a multiple of ``scale`` and degrade it, rounded to 8 bits as if it had been saved.

    Args:
        frames: uint8 ``(T, H, W, 3)``, the ground truth.
        scale: downsampling factor of ``low``.
        degradation: family of it, see :data:`workbench.data.degradation.families.DEGRADATIONS`.
    """
    _, height, width = check_frames(frames)
    high = crop_to_scale(frames, scale)
    if 0 in high.shape:
        raise DataError(f"a clip of {width}x{height} pixels is too small for scale {scale}")
    return Pair(low=degrade(high, degradation, scale), high=np.ascontiguousarray(high))


def check_size(low_shape: tuple[int, int, int], name: str, crop_size: int, num_frames: int) -> None:
    """Check that crops fit into footage of this many frames, rows and columns in low resolution.

    Raises:
        DataError: the clip is too short or too small.
    """
    count, height, width = low_shape
    if count < num_frames:
        raise DataError(f"{name}: want {num_frames} or more frames, got {count}; lower data.num_frames")
    small = [f"{side} {n}" for side, n in (("width", width), ("height", height)) if n < crop_size]
    if small:
        raise DataError(
            f"{name}: want {crop_size} or more low-resolution pixels in width and height (data.crop_size), got "
            f"{' and '.join(small)}; set --data.crop-size to {min(width, height)} or less, or use larger footage "
            "(`workbench prepare --downscale 1` keeps its size)"
        )


class StepSampler(ABC, Generic[B_co]):
    """Source of batches, each a function of its step."""

    @abstractmethod
    def at(self, step: int, share: slice = slice(None)) -> B_co:
        """Return the batch of a step, or some of its clips."""

    def after(self, step: int, steps: int, *, workers: int = 0, share: slice = slice(None)) -> Iterator[B_co]:
        """Return the batches of the steps after ``step``, up to and including ``steps``; workers start in this call.

        Args:
            step: the last finished step.
            steps: the last step.
            workers: processes that make batches; 0: this process makes them. The batches are the same.
            share: the clips of each batch to return; all where left out.
        """
        if workers:
            return iter(DataLoader(Steps(self, step, steps, share), batch_size=None, num_workers=workers))
        return (self.at(number, share) for number in range(step + 1, steps + 1))


@dataclass(eq=False, repr=False)
class CropSampler(StepSampler[tuple[Tensor, Tensor]]):
    """Batches of crops ``(low, high)``; a batch is a function of its step alone.

    Clips are drawn in proportion to the number of possible crop positions. With ``moving_share``, some crops must
    move: their position is drawn again until it does. Since some of the other crops move too, fewer than that share
    must; how many is estimated from :data:`MOTION_SAMPLES` positions.

    Args:
        pairs: the footage.
        crop_size: side of a crop in low-resolution pixels.
        num_frames: consecutive frames of a crop.
        batch_size: crops per step.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: with the step, decides every draw.
        num_fixed_crops: number of crops, chosen once, from which all batches are drawn; 0: new crops in every step.
        augmentations_per_crop: augmentations of every fixed crop, drawn once.
        fixed_crops_seed: decides the fixed crops.
        moving_share: least share of the crops that move more than ``moving_above``. Where too little footage moves, a
            warning is logged, and the most moving of :data:`MAX_TRIES` positions is taken. With 0, or crops of one
            frame, no motion is measured.
        moving_above: mean motion in the crop, in low-resolution pixels a frame.

    Raises:
        DataError: there is no footage, or a clip is too short or too small for the crops.
    """

    pairs: Sequence[Footage]
    _: KW_ONLY
    crop_size: int
    num_frames: int
    batch_size: int
    augment: bool = True
    seed: int = 0
    num_fixed_crops: int = 0
    augmentations_per_crop: int = 1
    fixed_crops_seed: int = 0
    moving_share: float = 0.0
    moving_above: float = 0.25

    def __post_init__(self) -> None:
        if not self.pairs:
            raise DataError("data.clips: want footage to cut crops from, got none; add clips")
        for number, pair in enumerate(self.pairs, 1):
            check_size(pair.low_shape, f"clip {number} of {len(self.pairs)}", self.crop_size, self.num_frames)
        counts, heights, widths = np.array([pair.low_shape for pair in self.pairs], np.float64).T
        share = (counts - self.num_frames + 1) * (heights - self.crop_size + 1) * (widths - self.crop_size + 1)
        self._cumulative = np.cumsum(share / share.sum())
        self._cumulative /= self._cumulative[-1]
        if self.num_frames == 1:
            self.moving_share = 0.0
        self._motion: dict[int, np.ndarray] = {}
        self._must_move = self._must_move_share() if self.moving_share else 0.0

    def at(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the batch of a step: ``(B, T, 3, H, W)`` and ``(B, T, 3, s*H, s*W)`` in [0, 1].

        Args:
            step: from 1.
            share: the crops to return; all where left out.
        """
        return to_batch(self.crops(step, range(self.batch_size)[share]))

    def crops(self, step: int, indices: Iterable[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return some crops of the batch of a step: uint8 ``(T, H, W, 3)`` in both resolutions."""
        if self.num_fixed_crops:
            ids = self.crop_ids(step)
            return [self.fixed_crop(ids[index]) for index in indices]
        rngs = (self._rng(step, index) for index in indices)
        return [cut_crop(*self._draw_position(rng), rng if self.augment else None) for rng in rngs]

    def crop_ids(self, step: int) -> list[int]:
        """Return the fixed crops in the batch of a step, as ``crop * augmentations_per_crop + augmentation``."""
        return [
            int(self._rng(step, index).integers(self.num_fixed_crops * self.augmentations_per_crop))
            for index in range(self.batch_size)
        ]

    def fixed_crop(self, crop_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one augmentation of one fixed crop: uint8 ``(T, H, W, 3)`` in both resolutions."""
        position_rng = np.random.default_rng((self.fixed_crops_seed, 0, 0, crop_id // self.augmentations_per_crop))
        augment_rng = np.random.default_rng((self.fixed_crops_seed, 0, 1, crop_id)) if self.augment else None
        return cut_crop(*self._draw_position(position_rng), augment_rng)

    def _rng(self, step: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step, index))

    def _draw_position(self, rng: np.random.Generator) -> tuple[Footage, Position]:
        """Draw the position of a crop; it must move with the probability that ``moving_share`` needs."""
        if not self.moving_share or rng.random() >= self._must_move:
            index, position = self._draw_any_position(rng)
            return self.pairs[index], position
        most, best = -1.0, None
        for _ in range(MAX_TRIES):
            index, position = self._draw_any_position(rng)
            motion = self._motion_at(index, position)
            if motion > most:
                most, best = motion, (self.pairs[index], position)
            if motion > self.moving_above:
                break
        assert best is not None
        return best

    def _draw_any_position(self, rng: np.random.Generator) -> tuple[int, Position]:
        index = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        return index, draw_position(self.pairs[index].low_shape, rng, self.crop_size, self.num_frames)

    def _motion_at(self, index: int, position: Position) -> float:
        if index not in self._motion:
            self._motion[index] = self.pairs[index].motion()
        return crop_motion(self._motion[index], *position)

    def _must_move_share(self) -> float:
        """Return the share of crops that must move, so that with the others ``moving_share`` of all crops do."""
        began = logged = time.monotonic()
        rng, moving = np.random.default_rng(0), 0
        for number in range(MOTION_SAMPLES):
            moving += self._motion_at(*self._draw_any_position(rng)) > self.moving_above
            if time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                logger.info("measuring the motion of the footage: %d of %d positions", number + 1, MOTION_SAMPLES)
        share = moving / MOTION_SAMPLES
        logger.info(
            "%.1f %% of the positions of a crop of %dx%d low-resolution pixels and %d frames move more than %g pixels "
            "a frame; measured in %.1f s", 100 * share, self.crop_size, self.crop_size, self.num_frames,
            self.moving_above, time.monotonic() - began,
        )  # fmt: skip
        if share < MIN_MOVING_SHARE:
            logger.warning(
                "data.moving_share: want %g of the crops to move more than %g low-resolution pixels a frame, got "
                "footage of which %.1f %% does; the most moving of %d positions is taken instead. Add moving footage, "
                "or still images (data.stills), lower data.moving_above, or set data.moving_share to 0",
                self.moving_share, self.moving_above, 100 * share, MAX_TRIES,
            )  # fmt: skip
        return max(self.moving_share - share, 0.0) / (1 - share) if share < 1 else 0.0


class Steps(Dataset[Any]):
    """Torch dataset of the batches after step ``done``: item ``i`` is the batch of step ``done + 1 + i``.

    For a DataLoader with ``batch_size=None``. An item is a whole batch, so the batches are the same in the same order
    for any number of workers.
    """

    def __init__(self, sampler: StepSampler[Any], done: int, steps: int, share: slice = slice(None)) -> None:
        self.sampler, self.done, self.steps, self.share = sampler, done, steps, share

    def __len__(self) -> int:
        return max(self.steps - self.done, 0)

    def __getitem__(self, index: int) -> Any:
        return self.sampler.at(self.done + 1 + index, self.share)


def random_crop(
    footage: Footage, rng: np.random.Generator, crop_size: int, num_frames: int, *, augment: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a random crop in both resolutions.

    Args:
        footage: large enough (:func:`check_size`).
        rng: decides position and augmentation.
        crop_size: side of the crop in low-resolution pixels.
        num_frames: consecutive frames.
        augment: flip, transpose and reverse in time, each with probability 1/2.
    """
    return cut_crop(footage, draw_position(footage.low_shape, rng, crop_size, num_frames), rng if augment else None)


def draw_position(
    low_shape: tuple[int, int, int], rng: np.random.Generator, crop_size: int, num_frames: int
) -> Position:
    """Draw the position of a crop in footage of this many frames, rows and columns."""
    count, height, width = low_shape
    t, y, x = (int(rng.integers(n + 1)) for n in (count - num_frames, height - crop_size, width - crop_size))
    return slice(t, t + num_frames), slice(y, y + crop_size), slice(x, x + crop_size)


def cut_crop(footage: Footage, position: Position, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """Cut a crop, and flip, transpose and reverse it at random; None: leave it as it is."""
    low, high = footage.cut(*position)
    if rng is not None:
        flags = rng.integers(2, size=4).astype(bool)
        low, high = _augment(low, flags), _augment(high, flags)
    return np.ascontiguousarray(low), np.ascontiguousarray(high)


def _augment(clip: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Flip rows, flip columns, transpose, reverse time: each where its flag is set."""
    for axis in np.flatnonzero(flags[:2]):
        clip = np.flip(clip, int(axis) + 1)
    clip = clip.transpose(0, 2, 1, 3) if flags[2] else clip
    return clip[::-1] if flags[3] else clip


def to_batch(crops: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Stack pairs of uint8 ``(T, H, W, 3)`` to two clips ``(B, T, 3, H, W)`` in [0, 1]."""
    low, high = (torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3) for clips in zip(*crops, strict=True))
    return low.float().div(255).contiguous(), high.float().div(255).contiguous()
