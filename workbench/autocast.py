"""Regions of full precision inside of mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations on a device keep the precision of their inputs.

    Example:
        >>> images = torch.zeros(1, 1, 2, 2)
        >>> with torch.autocast("cpu", torch.bfloat16), without_autocast(images.device):
        ...     torch.conv2d(images, torch.zeros(1, 1, 1, 1)).dtype
        torch.float32
    """
    if not torch.amp.is_autocast_available(device.type):  # the device meta
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
