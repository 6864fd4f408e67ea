"""Training clips: random crops of footage, every draw a function of (seed, step, index)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.data.degrade import degrade
from workbench.errors import DataError
from workbench.tensors import check_frames


@dataclass(frozen=True)
class Pair:
    """A clip in both resolutions, uint8 ``(T, H, W, 3)`` and ``(T, s*H, s*W, 3)``."""

    low: np.ndarray
    high: np.ndarray


def make_pair(frames: np.ndarray, *, scale: int, degradation: str = "bi") -> Pair:
    """Cut a clip to a multiple of ``scale`` and make its low resolution, rounded to 8 bits as if it lay on disk.

    Args:
        frames: uint8 ``(T, H, W, 3)``; becomes the ground truth.
        scale: how many times smaller ``low`` is.
        degradation: its family, see :data:`workbench.data.degrade.DEGRADATIONS`.
    """
    _, height, width = check_frames(frames)
    high = frames[:, : height - height % scale, : width - width % scale]
    if 0 in high.shape:
        raise DataError(f"a clip of {width}x{height} pixels is too small for scale {scale}")
    return Pair(low=degrade(high, degradation, scale), high=np.ascontiguousarray(high))


class CropSampler:
    """Batches of crops ``(low, high)``; the batch of a step is the same whenever it is asked for.

    Clips are drawn in proportion to the number of places that a crop can lie in.

    Args:
        pairs: the footage.
        crop: side of a crop in low-resolution pixels.
        frames: consecutive frames of a crop.
        batch: crops a step.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: with the step, decides every draw.

    Raises:
        DataError: a clip is too short or too small for the crops.
    """

    def __init__(
        self, pairs: Sequence[Pair], *, crop: int, frames: int, batch: int, augment: bool = True, seed: int = 0
    ) -> None:
        for number, pair in enumerate(pairs):
            count, height, width = pair.low.shape[:3]
            if count < frames or height < crop or width < crop:
                raise DataError(
                    f"clip {number + 1} of {len(pairs)}: {count} frames of {width}x{height} low-resolution pixels are "
                    f"too few for training clips of {frames} frames of {crop}x{crop}; lower data.crop or data.frames"
                )
        self.pairs = list(pairs)
        self.crop, self.frames, self.batch, self.augment, self.seed = crop, frames, batch, augment, seed
        places = np.array(
            [
                (p.low.shape[0] - frames + 1) * (p.low.shape[1] - crop + 1) * (p.low.shape[2] - crop + 1)
                for p in self.pairs
            ],
            dtype=np.float64,
        )
        self._share = places / places.sum()

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: ``(B, T, 3, crop, crop)`` and ``(B, T, 3, s*crop, s*crop)`` in [0, 1]."""
        drawn = [self._draw(np.random.default_rng((self.seed, step, index))) for index in range(self.batch)]
        low = torch.from_numpy(np.stack([low for low, _ in drawn])).permute(0, 1, 4, 2, 3)
        high = torch.from_numpy(np.stack([high for _, high in drawn])).permute(0, 1, 4, 2, 3)
        return low.float().div(255).contiguous(), high.float().div(255).contiguous()

    def after(self, step: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the steps after ``step``, up to and including ``steps``."""
        for number in range(step + 1, steps + 1):
            yield self.at(number)

    def _draw(self, dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        pair = self.pairs[dice.choice(len(self.pairs), p=self._share)]
        scale = pair.high.shape[1] // pair.low.shape[1]
        count, height, width = pair.low.shape[:3]
        t = dice.integers(count - self.frames + 1)
        y = dice.integers(height - self.crop + 1)
        x = dice.integers(width - self.crop + 1)
        low = pair.low[t : t + self.frames, y : y + self.crop, x : x + self.crop]
        high = pair.high[
            t : t + self.frames,
            y * scale : (y + self.crop) * scale,
            x * scale : (x + self.crop) * scale,
        ]
        if self.augment:
            turns = dice.integers(2, size=4).astype(bool)
            low, high = _turn(low, turns), _turn(high, turns)
        return np.ascontiguousarray(low), np.ascontiguousarray(high)


def _turn(clip: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Flip rows, flip columns, transpose, reverse time: each where its flag is set."""
    for axis, wanted in zip((1, 2), turns, strict=False):
        clip = np.flip(clip, axis) if wanted else clip
    clip = clip.transpose(0, 2, 1, 3) if turns[2] else clip
    return clip[::-1] if turns[3] else clip
