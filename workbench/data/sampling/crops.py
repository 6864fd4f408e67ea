"""Training clips: random crops of footage, every draw a function of (seed, step, index)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from workbench.data.degradation.families import degrade
from workbench.data.sampling.footage_motion import crop_motion, motion_map
from workbench.errors import DataError, ShapeError
from workbench.tensors import check_frames

logger = logging.getLogger(__name__)

MEASURED = 1024
"""Places of a crop of which the motion is looked up when footage is opened."""

TRIES = 128
"""Places that are drawn for one crop that must move."""

FEW = 4 / TRIES
"""Share of moving places below which more than 2 % of the crops that must move find none."""

SECONDS_BETWEEN_NOTES = 10.0

Place = tuple[slice, slice, slice]
"""Frames, rows and columns of a crop, in low-resolution pixels."""

B_co = TypeVar("B_co", covariant=True)
"""A batch, of whatever parts."""


class Footage(Protocol):
    """What crops are cut from: a clip in both resolutions, in memory, mapped, or still on disk."""

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns in low resolution."""
        ...

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """A part, given in low-resolution pixels: uint8 ``(T, h, w, 3)`` and ``(T, s*h, s*w, 3)``."""
        ...

    def motion(self) -> np.ndarray:
        """Return the motion map of the clip (``sampling.footage_motion.motion_map``), stored or measured now."""
        ...


@dataclass(frozen=True)
class Pair:
    """A clip in both resolutions, uint8 ``(T, H, W, 3)`` and ``(T, s*H, s*W, 3)``."""

    low: np.ndarray
    high: np.ndarray

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns in low resolution."""
        frames, height, width, _ = self.low.shape
        return frames, height, width

    @property
    def scale(self) -> int:
        """How many times larger ``high`` is.

        Raises:
            ShapeError: the two are not clips of which one lies under the other.
        """
        for name, clip in (("low", self.low), ("high", self.high)):
            if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
                raise ShapeError(f"{name}: want uint8 (T, H, W, 3), got {clip.dtype} {clip.shape}")
        scale = self.high.shape[1] // self.low.shape[1]
        frames, height, width = self.low_shape
        if self.high.shape != (frames, scale * height, scale * width, 3):
            raise ShapeError(f"high is {self.high.shape}, which is no multiple of low, {self.low.shape}")
        return scale

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Footage`."""
        scale = self.scale
        return self.low[frames, rows, columns], self.high[frames, times(rows, scale), times(columns, scale)]

    def motion(self) -> np.ndarray:
        """See :class:`Footage`."""
        return motion_map(self.low)


def times(part: slice, scale: int) -> slice:
    """A part of an axis in high-resolution pixels."""
    return slice(part.start * scale, part.stop * scale)


def make_pair(frames: np.ndarray, *, scale: int, degradation: str = "bi") -> Pair:
    """Cut a clip to a multiple of ``scale`` and make its low resolution, rounded to 8 bits as if it lay on disk.

    Args:
        frames: uint8 ``(T, H, W, 3)``; becomes the ground truth.
        scale: how many times smaller ``low`` is.
        degradation: its family, see :data:`workbench.data.degradation.families.DEGRADATIONS`.
    """
    _, height, width = check_frames(frames)
    high = frames[:, : height - height % scale, : width - width % scale]
    if 0 in high.shape:
        raise DataError(f"a clip of {width}x{height} pixels is too small for scale {scale}")
    return Pair(low=degrade(high, degradation, scale), high=np.ascontiguousarray(high))


def check_footage(footage: Footage, name: str, crop: int, frames: int) -> None:
    """Make sure that crops fit.

    Raises:
        DataError: a clip that is too short or too small.
    """
    check_size(footage.low_shape, name, crop, frames)


def check_size(low_shape: tuple[int, int, int], name: str, crop: int, frames: int) -> None:
    """The same for footage of so many frames, rows and columns in low resolution."""
    count, height, width = low_shape
    if count < frames or height < crop or width < crop:
        raise DataError(
            f"{name}: {count} frames of {width}x{height} low-resolution pixels are too few for training clips of "
            f"{frames} frames of {crop}x{crop}; lower data.crop_size or data.num_frames"
        )


class CropSampler:
    """Batches of crops ``(low, high)``; the batch of a step is the same whenever and wherever it is asked for.

    Clips are drawn in proportion to the number of places that a crop can lie in. With ``moving_share``, some crops must
    move: a place is drawn again until it does. Since crops that may be anywhere move too, fewer than that share must;
    how many is decided by the share of :data:`MEASURED` places that move.

    Args:
        pairs: the footage.
        crop: side of a crop in low-resolution pixels.
        frames: consecutive frames of a crop.
        batch: crops a step.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: with the step, decides every draw.
        fixed: draw from so many crops, chosen once, instead of a fresh one each time; 0: fresh ones.
        views: of every fixed crop so many augmentations, drawn once.
        fixed_seed: decides which fixed crops there are.
        moving_share: share of the crops, at least, that move more than ``moving_above``; where too little footage
            moves, a warning says so, and the most moving of :data:`TRIES` places is taken. 0, or crops of one frame: no
            motion is measured.
        moving_above: mean motion in the crop, in low-resolution pixels a frame.

    Raises:
        DataError: no footage, or a clip that is too short or too small for the crops.
    """

    def __init__(
        self,
        pairs: Sequence[Footage],
        *,
        crop: int,
        frames: int,
        batch: int,
        augment: bool = True,
        seed: int = 0,
        fixed: int = 0,
        views: int = 1,
        fixed_seed: int = 0,
        moving_share: float = 0.0,
        moving_above: float = 0.25,
    ) -> None:
        if not pairs:
            raise DataError("there is no footage to cut crops from")
        for number, pair in enumerate(pairs):
            check_footage(pair, f"clip {number + 1} of {len(pairs)}", crop, frames)
        self.pairs = list(pairs)
        self.crop, self.frames, self.batch, self.augment, self.seed = crop, frames, batch, augment, seed
        self.fixed, self.views, self.fixed_seed = fixed, views, fixed_seed
        counts, heights, widths = np.array([pair.low_shape for pair in self.pairs], np.float64).T
        share = (counts - frames + 1) * (heights - crop + 1) * (widths - crop + 1)
        self._up_to = np.cumsum(share / share.sum())
        self._up_to /= self._up_to[-1]
        self.moving_share, self.moving_above = moving_share if frames > 1 else 0.0, moving_above
        self._motion: dict[int, np.ndarray] = {}
        self._must_move = self._measure() if self.moving_share else 0.0

    def at(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The batch of a step: ``(B, T, 3, crop, crop)`` and ``(B, T, 3, s*crop, s*crop)`` in [0, 1].

        Args:
            step: from 1.
            share: which of its crops; all where left out.
        """
        return to_batch(self.crops(step, range(self.batch)[share]))

    def crops(self, step: int, indices: Iterable[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return some crops of the batch of a step: uint8 ``(T, H, W, 3)`` in both resolutions."""
        if self.fixed:
            views = self.views_at(step)
            return [self.view(views[index]) for index in indices]
        return [self._draw(self._dice(step, index)) for index in indices]

    def after(
        self, step: int, steps: int, *, workers: int = 0, share: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the steps after ``step``, up to and including ``steps``.

        Args:
            step: the last one that is done.
            steps: the last one wanted.
            workers: processes that cut crops beside this one; 0: they are cut here, when they are asked for. The
                batches are the same.
            share: see :meth:`at`.
        """
        yield from batches_after(self, step, steps, workers=workers, share=share)

    def views_at(self, step: int) -> list[int]:
        """Which views of which fixed crops make the batch of a step: ``crop * views + view``."""
        return [int(self._dice(step, index).integers(self.fixed * self.views)) for index in range(self.batch)]

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One view of one fixed crop, whenever it is asked for: uint8 ``(T, H, W, 3)`` of both resolutions."""
        crop, _ = divmod(number, self.views)
        dice = np.random.default_rng((self.fixed_seed, 0, 0, crop))
        turns = np.random.default_rng((self.fixed_seed, 0, 1, number)) if self.augment else None
        return cut_crop(*self._place(dice), turns)

    def _dice(self, step: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step, index))

    def _draw(self, dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return cut_crop(*self._place(dice), dice if self.augment else None)

    def _place(self, rng: np.random.Generator) -> tuple[Footage, Place]:
        """Draw the place of a crop, of one that must move with the probability that ``moving_share`` needs."""
        if not self.moving_share or rng.random() >= self._must_move:
            index, place = self._anywhere(rng)
            return self.pairs[index], place
        most, best = -1.0, None
        for _ in range(TRIES):
            index, place = self._anywhere(rng)
            motion = self._motion_at(index, place)
            if motion > most:
                most, best = motion, (self.pairs[index], place)
            if motion > self.moving_above:
                break
        assert best is not None
        return best

    def _anywhere(self, rng: np.random.Generator) -> tuple[int, Place]:
        index = int(np.searchsorted(self._up_to, rng.random(), side="right"))
        return index, draw_place(self.pairs[index].low_shape, rng, self.crop, self.frames)

    def _motion_at(self, index: int, place: Place) -> float:
        if index not in self._motion:
            self._motion[index] = self.pairs[index].motion()
        return crop_motion(self._motion[index], *place)

    def _measure(self) -> float:
        """Return the share of crops that must move, so that with the others ``moving_share`` of all crops do."""
        began = told = time.monotonic()
        rng, moving = np.random.default_rng(0), 0
        for number in range(MEASURED):
            moving += self._motion_at(*self._anywhere(rng)) > self.moving_above
            if time.monotonic() - told > SECONDS_BETWEEN_NOTES:
                told = time.monotonic()
                logger.info("measuring the motion of the footage: %d of %d places", number + 1, MEASURED)
        share = moving / MEASURED
        logger.info(
            "%.1f %% of the places of a crop of %dx%d low-resolution pixels and %d frames move more than %g pixels a "
            "frame; measured in %.1f s", 100 * share, self.crop, self.crop, self.frames, self.moving_above,
            time.monotonic() - began,
        )  # fmt: skip
        if share < FEW:
            logger.warning(
                "data.moving_share: want %g of the crops to move more than %g low-resolution pixels a frame, got "
                "footage of which %.1f %% does; the most moving of %d places is taken instead. Add footage that moves, "
                "or still images (data.stills), lower data.moving_above, or set data.moving_share to 0",
                self.moving_share, self.moving_above, 100 * share, TRIES,
            )  # fmt: skip
        return max(self.moving_share - share, 0.0) / (1 - share) if share < 1 else 0.0


class StepSampler(Protocol[B_co]):
    """A source of batches of which each is a function of its step."""

    def at(self, step: int, share: slice = ..., /) -> B_co:
        """Return the batch of a step, or some of its clips."""
        ...


def batches_after(
    sampler: StepSampler[B_co], step: int, steps: int, *, workers: int = 0, share: slice = slice(None)
) -> Iterator[B_co]:
    """Yield the batches of the steps after ``step``; arguments as in :meth:`CropSampler.after`."""
    if workers:
        yield from DataLoader(Steps(sampler, step, steps, share), batch_size=None, num_workers=workers)
        return
    for number in range(step + 1, steps + 1):
        yield sampler.at(number, share)


class Steps(Dataset[Any]):
    """The batches of the steps after ``done`` as a torch data set: item ``i`` is the batch of step ``done + 1 + i``.

    For a DataLoader with ``batch_size=None``. An item is a whole batch, so the batches are the same in the same order
    whatever the number of workers.
    """

    def __init__(self, sampler: StepSampler[Any], done: int, steps: int, share: slice = slice(None)) -> None:
        self.sampler, self.done, self.steps, self.share = sampler, done, steps, share

    def __len__(self) -> int:
        return max(self.steps - self.done, 0)

    def __getitem__(self, index: int) -> Any:
        return self.sampler.at(self.done + 1 + index, self.share)


def random_crop(
    footage: Footage, dice: np.random.Generator, crop: int, frames: int, *, augment: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A crop from anywhere in a clip, and the high resolution that it lies under.

    Args:
        footage: large enough (:func:`check_footage`).
        dice: decides place and turns.
        crop: its side in low-resolution pixels.
        frames: consecutive frames.
        augment: flip, transpose and reverse in time, each with probability 1/2.
    """
    return cut_crop(footage, draw_place(footage.low_shape, dice, crop, frames), dice if augment else None)


def draw_place(low_shape: tuple[int, int, int], rng: np.random.Generator, crop: int, frames: int) -> Place:
    """Draw the place of a crop in footage of this many frames, rows and columns."""
    count, height, width = low_shape
    t, y, x = (int(rng.integers(size + 1)) for size in (count - frames, height - crop, width - crop))
    return slice(t, t + frames), slice(y, y + crop), slice(x, x + crop)


def cut_crop(footage: Footage, place: Place, turns: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """Cut a crop, and flip, transpose and reverse it as ``turns`` decides; None: as it is."""
    low, high = footage.cut(*place)
    if turns is not None:
        flags = turns.integers(2, size=4).astype(bool)
        low, high = _augment(low, flags), _augment(high, flags)
    return np.ascontiguousarray(low), np.ascontiguousarray(high)


def _augment(clip: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Flip rows, flip columns, transpose, reverse time: each where its flag is set."""
    for axis, wanted in zip((1, 2), turns, strict=False):
        clip = np.flip(clip, axis) if wanted else clip
    clip = clip.transpose(0, 2, 1, 3) if turns[2] else clip
    return clip[::-1] if turns[3] else clip


def to_batch(crops: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Stack pairs of uint8 ``(T, H, W, 3)`` to two clips ``(B, T, 3, H, W)`` in [0, 1]."""
    low, high = (torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3) for clips in zip(*crops, strict=True))
    return low.float().div(255).contiguous(), high.float().div(255).contiguous()
