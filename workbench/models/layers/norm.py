"""Modes of batch normalization for small batches."""

from __future__ import annotations

from typing import Literal

from torch import nn

from workbench.errors import ConfigError

Norm = Literal["batch", "frozen"]
"""Statistics in training: ``batch`` uses those of the batch, ``frozen`` the running ones, as in evaluation."""


def check_norm(norm: Norm) -> None:
    """Check that ``norm`` is a valid mode."""
    if norm not in ("batch", "frozen"):
        raise ConfigError(f"norm: want 'batch' or 'frozen', got {norm!r}")


def freeze_norms(network: nn.Module) -> None:
    """Switch all batch normalizations of a network to evaluation mode, so that they use their running statistics."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.eval()
