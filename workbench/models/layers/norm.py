"""Modes of batch normalization for small batches."""

from __future__ import annotations

from typing import Literal, Self

from torch import nn

Norm = Literal["batch", "frozen"]
"""Statistics in training: ``batch`` uses those of the batch, ``frozen`` the running ones, as in evaluation."""


class BatchNormMode(nn.Module):
    """Base class of networks whose batch normalizations may use their running statistics in training."""

    norm: Norm = "batch"

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen normalization stays in evaluation."""
        super().train(mode)
        if self.norm == "frozen":
            for part in self.modules():
                if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
                    part.eval()
        return self
