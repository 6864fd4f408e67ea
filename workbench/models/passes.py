"""Number of images that a network processes at once."""

from __future__ import annotations

import torch


def images_per_pass(total: int, device: torch.device, *, on_gpu: int = 8, setting: int | None = None) -> int:
    """Return how many of ``total`` images are processed at once.

    Without gradient few at once bound the memory, and on a CPU one at a time is also faster.

    Args:
        total: number of all images; with gradient they are processed together.
        device: of the images.
        on_gpu: number on a GPU, without gradient.
        setting: number that was set by hand; it replaces the rule.
    """
    if setting is not None:
        return setting
    if torch.is_grad_enabled():
        return total
    return 1 if device.type == "cpu" else on_gpu
