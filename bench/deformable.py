"""Time of the deformable convolution against loops: ``python bench/deformable.py``, about half a minute.

Three implementations of the same operation:

- ours: one ``grid_sample`` for all taps of all groups, one 1x1 convolution;
- tap by tap: a ``grid_sample`` for each of the nine taps;
- point by point: the definition in Python, on a small image.

Ours and a loop run in turn; threads and memory are configured as in a training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.models.layers.deformable import modulated_deform_conv
from workbench.training.torch_setup import configure_torch

CHANNELS, GROUPS = 64, 8


def tap_by_tap(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Sample and convolve tap by tap."""
    n, channels, height, width = features.shape
    moved = offset.view(n, GROUPS, 9, 2, height, width)
    masks = mask.view(n, GROUPS, 9, 1, height, width)
    folded = features.reshape(n * GROUPS, channels // GROUPS, height, width)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    out = bias.view(1, -1, 1, 1)
    for tap in range(9):
        ys = (moved[:, :, tap, 0] + rows + tap // 3 - 1).flatten(0, 1)
        xs = (moved[:, :, tap, 1] + columns + tap % 3 - 1).flatten(0, 1)
        grid = torch.stack(((2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1), dim=-1)
        sampled = F.grid_sample(folded, grid, padding_mode="zeros", align_corners=False)
        sampled = (sampled.view(n, GROUPS, -1, height, width) * masks[:, :, tap]).flatten(1, 2)
        out = out + F.conv2d(sampled, weight[:, :, tap // 3, tap % 3, None, None])
    return out


def point_by_point(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the definition: four neighbors for every point and tap, all channels of a group at once."""
    n, channels, height, width = features.shape
    per_group = channels // GROUPS
    padded = F.pad(features, (1, 1, 1, 1))
    images = []
    for image in range(n):
        points = []
        for row in range(height):
            for column in range(width):
                taps = []
                for index in range(GROUPS * 9):
                    group, tap = divmod(index, 9)
                    y = (row + tap // 3 - 1 + offset[image, 2 * index, row, column]).clamp(-1, height)
                    x = (column + tap % 3 - 1 + offset[image, 2 * index + 1, row, column]).clamp(-1, width)
                    top, left = min(int(y.floor()), height - 1), min(int(x.floor()), width - 1)
                    dy, dx = y - top, x - left
                    block = padded[
                        image, group * per_group : (group + 1) * per_group, top + 1 : top + 3, left + 1 : left + 3
                    ]
                    down, right = torch.stack((1 - dy, dy)), torch.stack((1 - dx, dx))
                    taps.append((block * down[:, None] * right).sum(dim=(1, 2)) * mask[image, index, row, column])
                sampled = torch.stack(taps).view(GROUPS, 9, per_group).transpose(1, 2).reshape(channels, 9)
                points.append((weight.flatten(2) * sampled).sum(dim=(1, 2)) + bias)
        images.append(torch.stack(points, dim=1).view(-1, height, width))
    return torch.stack(images)


def inputs(side: int) -> list[Tensor]:
    """Return an image, offsets of up to two pixels, masks, weights."""
    torch.manual_seed(0)
    parts = [
        torch.randn(1, CHANNELS, side, side),
        torch.rand(1, GROUPS * 18, side, side) * 4 - 2,
        torch.rand(1, GROUPS * 9, side, side),
        torch.randn(CHANNELS, CHANNELS, 3, 3),
        torch.randn(CHANNELS),
    ]
    return [part.requires_grad_() for part in parts]


def ours(*parts: Tensor) -> Tensor:
    """Compute the function of the networks."""
    return modulated_deform_conv(*parts, groups=GROUPS)


def main() -> None:
    """Time the three and print medians and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--side", type=int, default=32, help="side of the image (default 32: a training crop)")
    options.add_argument("--small", type=int, default=8, help="side of the image for the loop over points (default 8)")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    configure_torch(chosen.threads)

    print(
        f"{CHANNELS} channels, {GROUPS} groups, forward and backward, {chosen.threads} thread(s), medians of", end=" "
    )
    print(f"{chosen.rounds} interleaved rounds")
    compare("tap by tap", tap_by_tap, chosen.side, chosen.rounds)
    with torch.no_grad():  # its backward pass would keep millions of small blocks
        compare("point by point", point_by_point, chosen.small, chosen.rounds)


def compare(name: str, loop: Callable[..., Tensor], side: int, rounds: int) -> None:
    """Time ours and a loop in turn on one image, and print the result."""
    parts = inputs(side)
    assert torch.allclose(ours(*parts), loop(*parts), atol=1e-3)
    seconds: dict[str, list[float]] = {"ours": [], name: []}
    for number in range(rounds + 1):
        for way, compute in (("ours", ours), (name, loop)):
            start = time.perf_counter()
            total = compute(*parts).sum()
            if total.requires_grad:
                total.backward()
            if number:  # the first round warms up
                seconds[way].append(time.perf_counter() - start)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    passes = "forward and backward" if torch.is_grad_enabled() else "forward"
    print(f"  {side}x{side} {passes}: ours {median['ours'] * 1e3:.1f} ms, {name} {median[name] * 1e3:.1f} ms:", end=" ")
    print(f"{median[name] / median['ours']:.2f} times as long")


if __name__ == "__main__":
    main()
