"""Cost of clips from still images against a training step: ``python bench/stills.py``, a minute (``--rounds 3``: less).

On one thread, in turn: a training step of ``vespcn_s`` with its batch at hand, and a batch of clips that are rendered
from still images, for 5 and for 7 frames. The folder has more images than are kept decoded, so that decoding counts:
40 JPEGs of 2600x1700, made here, or ``--stills FOLDER``. CPU time, medians and means; the mean of the batches contains
the decoding. The target is 15 % of a step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from workbench.config import Data
from workbench.data.sampling.mixed import MixedSampler
from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.stills import open_stills
from workbench.models.zoo import build
from workbench.training.torch_setup import configure_torch

STUDENT = "vespcn_s"
IMAGES = 40


def make_stills(folder: Path) -> None:
    """Write images with detail of all sizes."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        image = np.zeros((1700, 2600, 3), np.float32)
        for size in (4, 16, 64, 256):
            coarse = rng.standard_normal((1700 // size + 2, 2600 // size + 2, 3)).astype(np.float32)
            image += cv2.resize(coarse, (2600, 1700), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), (image * 25 + 128).clip(0, 255).astype(np.uint8))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def training_step(batch: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
    """Return one training step on a batch."""
    low, high = batch
    network = build(STUDENT)
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        ((network(low).frames - high).square() + 1e-6).sqrt().mean().backward()
        optimizer.step()

    return step


def measure(folder: Path, frames: int, rounds: int) -> None:
    """Measure clips of one length and print a line."""
    data = Data(num_frames=frames)
    settings = MotionSettings(crop_size=data.crop_size, num_frames=frames, scale=data.scale)
    sampler = MixedSampler(
        MotionSampler(open_stills(folder, min_side=settings.min_still_side), settings),
        None,
        batch_size=data.batch_size,
        share=1.0,
    )
    low, high, _ = sampler.at(0)
    step, steps, batches = training_step((low, high)), [], []
    for number in range(-1, rounds):
        times = (
            cpu_seconds(step),
            [cpu_seconds(lambda at=at: sampler.at(at)) for at in range(4 * number + 4, 4 * number + 8)],
        )
        if number >= 0:
            steps.append(times[0])
            batches += times[1]
    one, made, mean = statistics.median(steps), statistics.median(batches), statistics.mean(batches)
    print(
        f"{frames} frames: step {one * 1e3:.0f} ms, batch of {data.batch_size} clips {made * 1e3:.1f} ms (mean "
        f"{mean * 1e3:.1f}), {made / one:.1%} of a step (mean {mean / one:.1%}; target 15 %)"
    )


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stills", type=Path)
    options.add_argument("--rounds", type=int, default=20, help="a step and four batches each (default 20)")
    chosen = options.parse_args()
    configure_torch(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.stills or Path(temporary)
        if chosen.stills is None:
            make_stills(folder)
        for frames in (5, 7):
            measure(folder, frames, chosen.rounds)


if __name__ == "__main__":
    main()
