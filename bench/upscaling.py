"""Growth of an upscaled video: time of the network against reading and writing; ``python bench/upscaling.py``.

A video of ``--seconds`` at 480x270 is made (frames of ``--video`` downsampled, repeatedly; a moving texture by default)
and upscaled by ``workbench upscale`` in a process of its own, to 1920x1080 H.264. Before and after, the first
``--alone`` frames of the same video are read, enlarged by ``cv2.resize`` and written by the same reader and writer
without a network. A quarter of an hour for two minutes of video on two slow cores.

``vespcn_paper`` has random weights: its time does not depend on them, that of the encoder depends on its output.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from workbench.data.video.read import stream_video
from workbench.data.video.write import VideoWriter
from workbench.models.weights import save
from workbench.models.zoo import build

WIDTH, HEIGHT, SCALE, FPS = 480, 270, 4, 24
MARGIN = 64


class MovingTexture:
    """Moving texture: every frame is a crop of one larger image."""

    def __init__(self, frames: int, width: int, height: int) -> None:
        size = (height + MARGIN, width + MARGIN, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        self.texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # pyright: ignore
        self.frames, self.width, self.height = frames, width, height

    def stream(self) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 ``(H, W, 3)``."""
        for t in range(self.frames):
            y, x = t % MARGIN, 2 * t % MARGIN
            yield self.texture[y : y + self.height, x : x + self.width].copy()


def frames_of(video: Path | None) -> Iterator[np.ndarray]:
    """Yield frames of 480x270 without end."""
    while True:
        source = stream_video(video) if video else MovingTexture(600, WIDTH, HEIGHT).stream()
        for frame in source:
            yield cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) if video else frame


def alone(video: Path, out: Path, frames: int) -> float:
    """Measure frames a second of reading and writing, with the cheapest enlargement between them."""
    started = time.perf_counter()
    with VideoWriter(out, fps=FPS) as writer:
        for frame in itertools.islice(stream_video(video), frames):
            writer.write(cv2.resize(frame, (WIDTH * SCALE, HEIGHT * SCALE), interpolation=cv2.INTER_CUBIC))
    return frames / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="video file whose frames are taken")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--alone", type=int, default=240, help="frames that go without a network, twice")
    parser.add_argument("--network", default="vespcn_paper", help="a network of the zoo")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--more", default="", help="further words for `workbench upscale`, such as '--memory 2G'")
    options = parser.parse_args()
    frames = round(options.seconds * FPS)
    cv2.setNumThreads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with VideoWriter(home / "in.mp4", fps=FPS) as writer:
            for frame in itertools.islice(frames_of(options.video), frames):
                writer.write(frame)
        torch.manual_seed(0)
        weights = home / f"{options.network}.safetensors"
        save(build(options.network), weights)
        bare = [alone(home / "in.mp4", home / "alone.mp4", min(frames, options.alone))]
        command = [sys.executable, "-c", "import sys; from workbench.cli import main; sys.exit(main())", "upscale"]
        command += [str(home / "in.mp4"), str(home / "out.mp4"), "--network", str(weights)]
        command += ["--threads", str(options.threads), *options.more.split()]
        started = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stderr)
        bare.append(alone(home / "in.mp4", home / "alone.mp4", min(frames, options.alone)))
        size = (home / "out.mp4").stat().st_size
    peak = next((line for line in done.stderr.splitlines() if line.startswith("peak memory")), "")
    print(
        f"{frames} frames of {WIDTH}x{HEIGHT} to {WIDTH * SCALE}x{HEIGHT * SCALE} by {options.network}, "
        f"{options.threads} threads of {platform.machine()}, torch {torch.__version__}\n"
        f"the whole video: {seconds:.0f} s, {frames / seconds:.2f} frames a second with the start of the process; "
        f"{size / 1e6:.0f} MB\n"
        f"{done.stdout.strip()}\n{peak}\n"
        f"reading, cv2.resize and writing alone: {bare[0]:.2f} frames a second before, {bare[1]:.2f} after"
    )


if __name__ == "__main__":
    main()
