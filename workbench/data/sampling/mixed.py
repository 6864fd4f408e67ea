"""Training batches of clips from still images in motion, alone or mixed with footage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from workbench.data.sampling.crops import CropSampler, batches_after, to_batch
from workbench.data.sampling.motion import MotionClip
from workbench.data.sampling.true_flow import TrueFlow, stack_flows
from workbench.errors import DataError


class ClipSource(Protocol):
    """A source of clips with true flow, each a function of (step, index)."""

    def clip(self, step: int, index: int) -> MotionClip:
        """Return clip ``index`` of the batch of a step."""
        ...


class MixedSampler:
    """Batches ``(low, high, flow)``, in part of still images in motion; a function of the step, as in ``CropSampler``.

    The clips from stills come first in a batch. Where the share of them is no whole number, it is kept over the steps:
    half of a batch of one is every second step.

    Args:
        motion: makes the clips from stills.
        footage: the rest of each batch; None where all clips come from stills.
        batch: clips a step.
        share: of a batch's clips that come from stills, above 0 and up to 1.

    Raises:
        DataError: footage of another batch size, or none although the share is below 1.
    """

    def __init__(self, motion: ClipSource, footage: CropSampler | None, *, batch: int, share: float) -> None:
        if not 0 < share <= 1:
            raise DataError(f"data.stills_share: want more than 0 and up to 1, got {share}")
        if share < 1 and (footage is None or footage.batch != batch):
            raise DataError(
                f"data.stills_share: at {share} want footage in batches of {batch}, got "
                f"{'none' if footage is None else f'batches of {footage.batch}'}"
            )
        self.motion, self.footage, self.batch, self.share = motion, footage, batch, share

    def stills_at(self, step: int) -> int:
        """Return how many clips of a step's batch come from stills."""
        wanted = self.share * self.batch
        return math.floor(step * wanted + 1e-9) - math.floor((step - 1) * wanted + 1e-9)

    def at(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor, TrueFlow]:
        """Return the batch of a step: ``(B, T, 3, H, W)``, ``(B, T, 3, s*H, s*W)`` and its true flow.

        Args:
            step: from 1.
            share: which of its clips; all where left out.
        """
        indices = range(self.batch)[share]
        stills = self.stills_at(step)
        made = [self.motion.clip(step, index) for index in indices if index < stills]
        crops = [(clip.low, clip.high) for clip in made]
        if self.footage is not None:
            crops += self.footage.crops(step, [index for index in indices if index >= stills])
        flows = [clip.flow for clip in made] + [None] * (len(crops) - len(made))
        frames, height, width, _ = crops[0][0].shape
        return *to_batch(crops), stack_flows(flows, frames=frames, height=height, width=width)

    def after(
        self, step: int, steps: int, *, workers: int = 0, share: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor, TrueFlow]]:
        """Yield the batches of the steps after ``step``, as ``CropSampler.after`` does."""
        yield from batches_after(self, step, steps, workers=workers, share=share)
