"""Small scenes and runs for tests of viewers: frames from formulas, written by the real writers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from workbench import runs
from workbench.atomic_files import write_atomic
from workbench.config import Network, RunConfig
from workbench.scenes import Method, Overlay, SceneWriter, write_scene

LABELS = {
    "low": ("Low resolution", "every fourth pixel"),
    "high": ("Ground truth", "the clip itself"),
    "bicubic": ("Bicubic", "no network"),
    "plain": ("Plain student", "vespcn, trained without a teacher"),
    "distilled": ("Distilled student", "vespcn, distilled from edvr_s"),
    "student": ("Student", "vespcn, at this step"),
    "teacher": ("Teacher", "edvr_s"),
}
BLUR = {"bicubic": 4, "plain": 3, "distilled": 2, "student": 2, "teacher": 1}
HOSTILE = "<b>not bold</b> ${7*7} {{8*8}}"
"""Text with markup that a page must escape."""


def moving_clip(frames: int, height: int, width: int) -> np.ndarray:
    """Return a disc that crosses a grating, with noise that only a lossless codec keeps: uint8 ``(T, H, W, 3)``."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    clip = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        grating = 127 + 60 * np.sin((x + 2 * t) / 3.0) * np.cos(y / 5.0)
        frame = np.stack([grating, np.full_like(grating, 40 + 150 * t / max(1, frames - 1)), 255 - grating], -1)
        inside = (x - width * (0.2 + 0.6 * t / max(1, frames - 1))) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2
        frame[inside] = (250, 120, 20)
        clip[t] = (frame + rng.integers(-9, 10, frame.shape)).clip(0, 255)
    return clip


def blurred(clip: np.ndarray, radius: int) -> np.ndarray:
    """Return the clip, blurred by a box of ``2 * radius + 1`` pixels a side."""
    total = sum(
        np.roll(clip.astype(np.float32), (dy, dx), axis=(1, 2))
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
    )
    return (total / (2 * radius + 1) ** 2).round().astype(np.uint8)


def attention(clip: np.ndarray, sharpness: float) -> np.ndarray:
    """Return a map per frame at a quarter of the size, largest on the disc."""
    warm = clip[:, ::4, ::4, 0].astype(np.float32) - clip[:, ::4, ::4, 2]
    energy = np.maximum(warm, 0) ** sharpness + 1
    return energy / np.sqrt((energy**2).sum((1, 2), keepdims=True))


def memory(clip: np.ndarray, channels: int, gain: float) -> np.ndarray:
    """Return signed cells per frame and channel, ``(T, channels, h, w)``."""
    gray = clip[:, ::4, ::4].mean(-1) / 255 - 0.5
    return np.stack([gain * np.roll(gray, k, axis=2) * (-1) ** k for k in range(channels)], axis=1)


def add(writer: SceneWriter, keys: tuple[str, ...], high: np.ndarray, *, softness: float = 1.0) -> None:
    """Write methods with their curves, and maps for networks with features."""
    frames = len(high)
    for key in keys:
        label, note = LABELS[key]
        radius = max(1, round(BLUR.get(key, 0) * softness))
        images = high if key == "high" else high[:, ::4, ::4] if key == "low" else blurred(high, radius)
        writer.add_method(Method(key=key, label=label, note=note), images)
        if key in ("low", "high"):
            continue
        error = ((images.astype(np.float32) - high) ** 2).mean((1, 2, 3))
        psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-9))
        change = np.abs(np.diff(images.astype(np.float32), axis=0) - np.diff(high.astype(np.float32), axis=0))
        t_diff = np.concatenate([[np.nan], change.mean((1, 2, 3))])
        writer.add_curve("psnr_y_db", "PSNR-Y", "dB", "higher", key, psnr)
        writer.add_curve("ssim_y", "SSIM-Y", "", "higher", key, 1 - error / 255**2 * 20)
        writer.add_curve("t_diff", "T-diff", "8-bit levels", "lower", key, t_diff)
        writer.add_curve("tof", "tOF", "px", "lower", key, t_diff / 9 + np.sin(np.arange(frames)) / 20)
        if key in ("distilled", "student", "teacher"):
            attention_map = Overlay(
                kind="attention",
                label="Attention: squares",
                method=key,
                vmin=0.0,
                vmax=float(attention(high, 1.0).max()),
                explain="Energy of the features; the squares of a map add up to 1.",
            )
            writer.add_overlay(attention_map, attention(high, {"teacher": 1.0}.get(key, 0.6)))
            memory_map = Overlay(
                kind="memory",
                label="Memory cell",
                method=key,
                vmin=-0.5,
                vmax=0.5,
                diverging=True,
                explain="Cells of the shared ConvLSTM after this frame, a channel at a time.",
            )
            writer.add_overlay(memory_map, memory(high, 8, {"teacher": 1.0}.get(key, 0.7)))


def make_scene(
    folder: Path,
    *,
    frames: int = 8,
    height: int = 48,
    width: int = 64,
    methods: tuple[str, ...] = ("low", "high", "bicubic", "plain", "distilled", "teacher"),
    title: str = "Disc over a grating",
) -> Path:
    """Write a scene with curves and maps."""
    with write_scene(folder) as writer:
        add(writer, methods, moving_clip(frames, height, width))
        writer.finish(
            name=folder.name,
            title=title,
            fps=12,
            protocol={"degradation": "every fourth pixel", "channel": "Y of BT.601", "crop_border": 0},
            provenance={"source": "arithmetic", "licence": "CC0", "note": HOSTILE},
        )
    return folder


def make_run(
    folder: Path, *, steps: int = 1000, size: tuple[int, int, int] = (6, 48, 64), distills: bool = True
) -> runs.Run:
    """Write a run folder with a validation clip and an empty log."""
    teacher = Network(name="edvr_s", weights="pretrained:edvr_s") if distills else Network()
    run = runs.create_run(folder, RunConfig(teacher=teacher, steps=steps))
    with write_scene(folder / "validation_clip") as writer:
        keys = ("low", "high", "bicubic", "teacher") if distills else ("low", "high", "bicubic")
        add(writer, keys, moving_clip(*size))
        writer.finish(
            name="validation_clip", title="Validation clip", fps=12, protocol={}, provenance={"license": "CC0"}
        )
    return run


def add_snapshot(
    run: runs.Run, step: int, *, softness: float = 1.0, size: tuple[int, int, int] = (6, 48, 64), plain: bool = True
) -> None:
    """Write the student at a step, and the plain student at the same step if the run has a teacher."""
    with write_scene(run.folder / "snapshots" / f"{step:07d}") as writer:
        keys = ("plain", "student") if plain and run.config().teacher.name else ("student",)
        add(writer, keys, moving_clip(*size), softness=softness)
        writer.finish(name=f"step-{step}", title=f"Step {step}", fps=12, protocol={}, provenance={"step": step})


def row(step: int, *, distills: bool = True, collapse_index: float = 0.92) -> dict[str, Any]:
    """Return a row of ``metrics.jsonl`` as training writes it."""
    noise = 1 + 0.2 * np.sin(step * 12.9898)
    terms = {"reconstruction": 0.03 + 0.1 * np.exp(-step / 200) * noise}
    if distills:
        terms |= {"spatial": 1.2 * np.exp(-step / 400) * noise, "temporal": 0.4 * np.exp(-step / 300) * noise}
    weights = {"reconstruction": 1.0} | ({"spatial": 0.001, "temporal": 0.03} if distills else {})
    values = {
        "step": step,
        "terms": {name: float(value) for name, value in terms.items()},
        "weights": weights,
        "total": 0.05,
        "learning_rate": 4e-4,
        "seconds": 0.5,
        "gradient_norm": 0.8,
    }
    return values | ({"collapse_index": collapse_index} if distills else {})


def add_rows(run: runs.Run, steps: range, **settings: Any) -> None:
    """Append lines to the log."""
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row(step, **settings)) + "\n" for step in steps)


def write_status(run: runs.Run, state: str, step: int, *, steps: int = 1000, reason: str = "") -> None:
    """Replace ``status.json`` as a worker does."""
    left = 0.5 * (steps - step) if state == "running" else None
    status = {
        "state": state,
        "step": step,
        "steps": steps,
        "reason": reason,
        "seconds_per_step": 0.5,
        "seconds_left": left,
        "updated": time.time(),
    }
    write_atomic(run.folder / "status.json", json.dumps(status))
