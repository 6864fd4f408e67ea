"""Batch normalization where batches are small: over what it normalizes, and when it stops counting."""

from __future__ import annotations

from typing import Literal

from torch import nn

from workbench.errors import ConfigError

Norm = Literal["batch", "frozen"]
"""While training: ``batch`` normalizes by the batch at hand, ``frozen`` by the running statistics, as in evaluation."""


def check_norm(norm: Norm) -> None:
    """Say so if it is neither."""
    if norm not in ("batch", "frozen"):
        raise ConfigError(f"norm: want 'batch' or 'frozen', got {norm!r}")


def freeze_norms(network: nn.Module) -> None:
    """Put every batch normalization of a network in evaluation: it uses its running statistics and leaves them be."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.eval()
