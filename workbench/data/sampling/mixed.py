"""Training batches of still images in motion, alone or mixed with footage."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from workbench.data.sampling.crops import CropSampler, StepSampler, to_batch
from workbench.data.sampling.motion import MotionClip
from workbench.data.sampling.true_flow import TrueFlow, stack_flows
from workbench.errors import DataError


class ClipSource(Protocol):
    """Source of clips with true flow, each a function of (step, index)."""

    def clip(self, step: int, index: int) -> MotionClip:
        """Return clip ``index`` of the batch of a step."""
        ...


class MixedSampler(StepSampler[tuple[Tensor, Tensor, TrueFlow]]):
    """Batches ``(low, high, flow)`` of still images in motion and of footage; a batch is a function of its step.

    The clips from stills come first in a batch. A share that is no whole number of clips holds on average over the
    steps: half of a batch of one is every second step.

    Args:
        motion: source of the clips from stills.
        footage: source of the other clips; None where all clips come from stills.
        batch_size: clips per step.
        share: share of the clips that come from stills, above 0 and up to 1.

    Raises:
        DataError: the footage has another batch size, or is None although the share is below 1.
    """

    def __init__(self, motion: ClipSource, footage: CropSampler | None, *, batch_size: int, share: float) -> None:
        if not 0 < share <= 1:
            raise DataError(f"data.stills_share: want more than 0 and up to 1, got {share}")
        if share < 1 and (footage is None or footage.batch_size != batch_size):
            raise DataError(
                f"data.stills_share: at {share} want footage in batches of {batch_size}, got "
                f"{'none' if footage is None else f'batches of {footage.batch_size}'}"
            )
        self.motion, self.footage, self.batch_size, self.share = motion, footage, batch_size, share

    def stills_at(self, step: int) -> int:
        """Return how many clips of a step's batch come from stills."""
        wanted = self.share * self.batch_size
        return math.floor(step * wanted + 1e-9) - math.floor((step - 1) * wanted + 1e-9)

    def at(self, step: int, share: slice = slice(None)) -> tuple[Tensor, Tensor, TrueFlow]:
        """Return the batch of a step: ``(B, T, 3, H, W)``, ``(B, T, 3, s*H, s*W)`` and its true flow.

        Args:
            step: from 1.
            share: the clips to return; all where left out.
        """
        indices = range(self.batch_size)[share]
        stills = self.stills_at(step)
        made = [self.motion.clip(step, index) for index in indices if index < stills]
        crops = [(clip.low, clip.high) for clip in made]
        if self.footage is not None:
            crops += self.footage.crops(step, [index for index in indices if index >= stills])
        flows = [clip.flow for clip in made] + [None] * (len(crops) - len(made))
        frames, height, width, _ = crops[0][0].shape
        return *to_batch(crops), stack_flows(flows, frames=frames, height=height, width=width)
