"""Does memory grow with the length of a clip? ``python bench/memory.py``, more than an hour; tOF is slow.

A 1080p stream of made-up frames, never held, goes through

- ``score``: PSNR, SSIM and tOF, by ``metrics.scorer.Scorer``;
- ``upscale``: bicubic x4 from 480x270 to 1920x1080, by ``inference.upscale_stream``;
- ``upscale2``: bicubic x2 from 1920x1080 to 3840x2160;
- ``evaluate``: all together but tOF, by ``evaluation.evaluate``: shrunk, upscaled, scored.

Each in a process of its own. What is printed at every hundredth frame is the peak of the process so far, less what it
was after the imports. All lines of a task must be nearly equal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet
from workbench.evaluation.evaluate import evaluate
from workbench.inference.chunks import upscale_stream
from workbench.metrics.scorer import Scorer
from workbench.models.bicubic import Bicubic
from workbench.process import peak_bytes

WIDTH, HEIGHT, MARGIN = 1920, 1080, 64
EVERY = 100

Peak = Callable[[int], None]
"""Told how many frames are done."""


def peak_mb() -> float:
    """What this process has held at most, in megabytes."""
    return peak_bytes() / 1e6


class Footage:
    """A texture that wanders: every frame is cut out of one larger picture when it is asked for."""

    def __init__(self, frames: int, width: int = WIDTH, height: int = HEIGHT) -> None:
        size = (height + MARGIN, width + MARGIN, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        self.picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # pyright: ignore
        self.frames, self.width, self.height = frames, width, height

    def stream(self) -> Iterator[np.ndarray]:
        """The frames, uint8 ``(H, W, 3)``."""
        for t in range(self.frames):
            y, x = t % MARGIN, 2 * t % MARGIN
            yield self.picture[y : y + self.height, x : x + self.width].copy()

    def read(self, first: int, last: int) -> np.ndarray:
        """Not needed here."""
        raise NotImplementedError


def score(frames: int, told: Peak) -> None:
    """Every frame against itself, a little blurred."""
    scorer = Scorer(metrics=("psnr_y_db", "ssim_y", "tof"))
    for number, truth in enumerate(Footage(frames).stream()):
        scorer.add(cv2.blur(truth, (3, 3)), truth)
        told(number + 1)


def upscale(frames: int, told: Peak) -> None:
    """To 1080p."""
    footage = Footage(frames, WIDTH // 4, HEIGHT // 4)
    for number, _ in enumerate(upscale_stream(Bicubic(scale=4), footage.stream())):
        told(number + 1)


def upscale2(frames: int, told: Peak) -> None:
    """From 1080p."""
    for number, _ in enumerate(upscale_stream(Bicubic(scale=2), Footage(frames).stream())):
        told(number + 1)


def evaluate_stream(frames: int, told: Peak) -> None:
    """As ``workbench evaluate`` does it."""
    clip = ClipEntry(
        name="footage",
        frames=frames,
        size=(WIDTH, HEIGHT),
        scale=4,
        targets=tuple(range(frames)),
        source=Footage(frames),
    )
    footage = ClipSet(name="made up", scale=4, degradation=None, clips=(clip,))
    evaluate(Bicubic(scale=4), footage, "folders", progress=lambda _, done, __: told(done))


TASKS = {"score": score, "upscale": upscale, "upscale2": upscale2, "evaluate": evaluate_stream}


def work(task: str, frames: int) -> None:
    """One task in this process; a line every hundredth frame, and at the end."""
    before, started = peak_mb(), time.perf_counter()
    seen: list[float] = []

    def told(done: int) -> None:
        if not done or (done % EVERY and done != frames):
            return
        seen.append(peak_mb() - before)
        seconds = (time.perf_counter() - started) / done
        more = f"{seen[-1] - seen[0]:+.0f} MB since the first line"
        print(f"{task:<9} frame {done:4d}: {seen[-1]:+6.0f} MB, {more}, {seconds:.2f} s a frame", flush=True)

    print(f"{task:<9} {before:.0f} MB after the imports", flush=True)
    TASKS[task](frames, told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--here", choices=TASKS, help="one task, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.here:
        work(options.here, options.frames)
        return
    for task in options.tasks.split(","):
        command = [sys.executable, __file__, "--here", task, "--frames", str(options.frames)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
