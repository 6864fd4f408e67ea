"""Memory against the length of a clip: ``python bench/memory.py``, more than an hour; tOF is slow.

A synthetic 1080p stream of frames is processed by

- ``score``: PSNR, SSIM and tOF, by ``metrics.scorer.Scorer``;
- ``upscale``: bicubic x4 from 480x270 to 1920x1080, by ``inference.upscale_stream``;
- ``upscale2``: bicubic x2 from 1920x1080 to 3840x2160;
- ``evaluate``: all but tOF, by ``evaluation.evaluate``: downsampled, upscaled, scored.

Each runs in its own process. Every hundredth frame prints the peak memory of the process, less that after the imports.
All lines of a task must be nearly equal.
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
"""Called with the number of finished frames."""


def peak_mb() -> float:
    """Return the peak memory of this process in megabytes."""
    return peak_bytes() / 1e6


class MovingTexture:
    """Moving texture: every frame is a crop of one larger image."""

    def __init__(self, frames: int, width: int = WIDTH, height: int = HEIGHT) -> None:
        size = (height + MARGIN, width + MARGIN, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        self.texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # pyright: ignore
        self.frames, self.width, self.height = frames, width, height

    def stream(self) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 ``(H, W, 3)``."""
        for t in range(self.frames):
            y, x = t % MARGIN, 2 * t % MARGIN
            yield self.texture[y : y + self.height, x : x + self.width].copy()

    def read(self, first: int, last: int) -> np.ndarray:
        """Raise an error; not needed here."""
        raise NotImplementedError


def score(frames: int, report: Peak) -> None:
    """Score every frame against a blurred copy."""
    scorer = Scorer(metrics=("psnr_y_db", "ssim_y", "tof"))
    for number, frame in enumerate(MovingTexture(frames).stream()):
        scorer.add(cv2.blur(frame, (3, 3)), frame)
        report(number + 1)


def upscale(frames: int, report: Peak) -> None:
    """Upscale to 1080p."""
    video = MovingTexture(frames, WIDTH // 4, HEIGHT // 4)
    for number, _ in enumerate(upscale_stream(Bicubic(scale=4), video.stream())):
        report(number + 1)


def upscale2(frames: int, report: Peak) -> None:
    """Upscale from 1080p."""
    for number, _ in enumerate(upscale_stream(Bicubic(scale=2), MovingTexture(frames).stream())):
        report(number + 1)


def evaluate_stream(frames: int, report: Peak) -> None:
    """Evaluate as ``workbench evaluate`` does."""
    clip = ClipEntry(
        name="texture",
        frames=frames,
        size=(WIDTH, HEIGHT),
        scale=4,
        targets=tuple(range(frames)),
        source=MovingTexture(frames),
    )
    dataset = ClipSet(name="made up", scale=4, degradation=None, clips=(clip,))
    evaluate(Bicubic(scale=4), dataset, "folders", progress=lambda _, done, __: report(done))


TASKS = {"score": score, "upscale": upscale, "upscale2": upscale2, "evaluate": evaluate_stream}


def work(task: str, frames: int) -> None:
    """Run one task in this process; print a line every hundredth frame, and at the end."""
    before, started = peak_mb(), time.perf_counter()
    peaks: list[float] = []

    def report(done: int) -> None:
        if not done or (done % EVERY and done != frames):
            return
        peaks.append(peak_mb() - before)
        seconds = (time.perf_counter() - started) / done
        more = f"{peaks[-1] - peaks[0]:+.0f} MB since the first line"
        print(f"{task:<9} frame {done:4d}: {peaks[-1]:+6.0f} MB, {more}, {seconds:.2f} s a frame", flush=True)

    print(f"{task:<9} {before:.0f} MB after the imports", flush=True)
    TASKS[task](frames, report)


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
