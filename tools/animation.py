"""Draw a training run as an animation: ``python tools/animation.py``; ``--run`` selects another run.

Each image shows one snapshot: the same crop of one frame by the teacher, the plain and the distilled student, their
attention maps on one scale, and the PSNR-Y of the whole frame. The run folder determines the frame and the crop: those
in which the student's output changes most during the training. Where a snapshot has no plain student, that of the last
snapshot is shown, with its step.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from workbench.metrics.fidelity import luma
from workbench.pretrained import RUN
from workbench.runs import Run, locate_run
from workbench.scenes import Scene
from workbench.views.colors import METHODS
from workbench.views.figures import colormap

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "distillation.webp"
KIND = "attention_sum_squares"
COLUMNS = {"teacher": "Teacher", "plain": "Plain student", "student": "Distilled student"}
WIDTH, GAP, MARGIN = 960, 6, 6
"""Pixels: width of the animation, distance of the columns, outer margin."""
HEADER, TITLES, CAPTION = 58, 68, 42
"""Heights of the lines of text: training step, names and scores of the methods, scale of the maps."""
ZOOM = 3
CROP = (104, 76)
"""Width and height of the crop in pixels, multiples of those that one cell of an attention map covers."""
INK, FAINT = "#1f2328", "#d0d7de"
MAX_STEPS = 12
DURATION_MS, LAST_MS, MAX_STEP_MS = 9000, 2500, 1500
"""Duration of the loop, of its last image, and the longest of another image."""


class View(NamedTuple):
    """Frame and crop of the animation, and the upper end of the scale of its maps."""

    frame: int
    left: int
    top: int
    limit: float


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size)


def shown_steps(run: Run) -> list[int]:
    """Return the steps with a snapshot, at most a dozen, evenly chosen, with the first and the last."""
    steps = run.snapshots()
    chosen = np.linspace(0, len(steps) - 1, min(len(steps), MAX_STEPS)).round().astype(int)
    return [steps[index] for index in chosen]


def has(scene: Scene, method: str) -> bool:
    """Return whether a scene has a method."""
    return any(one.key == method for one in scene.methods)


def attention(scene: Scene, method: str, frame: int) -> np.ndarray:
    """Return the attention map of a method on one frame, float32 ``(H, W)``."""
    overlay = next(one for one in scene.overlays if (one.kind, one.method) == (KIND, method))
    return scene.array(overlay)[frame].astype(np.float32)


def psnr_db(scene: Scene, method: str, frame: int) -> float:
    """Return the PSNR-Y of one frame as the run recorded it."""
    values = next(curve for curve in scene.curves if curve.key == "psnr_y_db").series[method]
    return values[frame] or float("nan")


def choose_view(first: Scene, last: Scene) -> View:
    """Return the frame and crop in which the student's luma changes most between two snapshots."""
    width, height = CROP
    best = (-1.0, 0, 0, 0)
    for frame in range(last.frames):
        before, after = (luma(scene.frame("student", frame)[None])[0] for scene in (first, last))
        power = np.square(after - before).astype(np.float64)
        means = cv2.boxFilter(power, -1, CROP, anchor=(0, 0))[
            : last.height - height + 1 : 4, : last.width - width + 1 : 4
        ]
        row, column = np.unravel_index(means.argmax(), means.shape)
        best = max(best, (float(means.max()), frame, int(column) * 4, int(row) * 4))
    _, frame, left, top = best
    limit = float(np.percentile(attention(last, "teacher", frame), 99))
    return View(frame, left, top, limit)


def enlarged(image: Image.Image) -> Image.Image:
    """Return a crop at the size at which it is shown."""
    return image.resize((CROP[0] * ZOOM, CROP[1] * ZOOM), Image.Resampling.BICUBIC)


def crop_of(scene: Scene, method: str, view: View) -> Image.Image:
    """Return the crop of a frame."""
    left, top = view.left, view.top
    return enlarged(Image.fromarray(scene.frame(method, view.frame)).crop((left, top, left + CROP[0], top + CROP[1])))


def map_of(scene: Scene, method: str, view: View) -> Image.Image:
    """Return the crop of an attention map in color."""
    values = attention(scene, method, view.frame)
    cell = scene.width // values.shape[1]
    left, top, (width, height) = view.left // cell, view.top // cell, CROP
    cropped = values[top : top + height // cell, left : left + width // cell] / view.limit
    colors = colormap()(cropped.clip(0, 1))[..., :3]
    return enlarged(Image.fromarray((colors * 255).round().astype(np.uint8)))


def draw(scenes: dict[int, Scene], step: int, view: View) -> Image.Image:
    """Draw the methods at one step; the plain student at its last step where it has no snapshot of this one."""
    width, height = CROP[0] * ZOOM, CROP[1] * ZOOM
    image = Image.new("RGB", (WIDTH, HEADER + TITLES + CAPTION + 2 * height + MARGIN), "white")
    pen, last = ImageDraw.Draw(image), max(scenes)
    pen.text((MARGIN, 10), f"Training step {step:,}", INK, font(30, bold=True))
    start, end, middle = 400, WIDTH - MARGIN - 12, 28
    pen.line((start, middle, end, middle), FAINT, 6)
    places = {one: start + (end - start) * one / (last or 1) for one in scenes}
    pen.line((start, middle, places[step], middle), METHODS["student"], 6)
    for one, x in places.items():
        radius = 11 if one == step else 6
        pen.circle((x, middle), radius, METHODS["student"] if one <= step else FAINT)
    for column, (method, title) in enumerate(COLUMNS.items()):
        x = MARGIN + column * (width + GAP)
        at = step if has(scenes[step], method) else last
        scene = scenes[at]
        pen.text((x, HEADER), title, METHODS[method], font(26, bold=True))
        pen.text((x, HEADER + 34), f"PSNR-Y {psnr_db(scene, method, view.frame):.2f} dB", INK, font(23))
        y = HEADER + TITLES
        image.paste(crop_of(scene, method, view), (x, y))
        image.paste(map_of(scene, method, view), (x, y + height + CAPTION))
        if at != step:
            text, place = f"always step {at:,}", (x + 10, y + height - 18)
            left, top, right, bottom = pen.textbbox(place, text, font(20), "lm")
            pen.rectangle((left - 10, top - 8, right + 8, bottom + 8), "white")
            pen.text(place, text, METHODS[method], font(20), "lm")
    draw_scale(image, HEADER + TITLES + height + CAPTION // 2)
    return image


def draw_scale(image: Image.Image, y: int) -> None:
    """Draw the title of the maps and, in the last column, the colors of their scale."""
    pen, start, low, high = ImageDraw.Draw(image), WIDTH - MARGIN - CROP[0] * ZOOM, 52, 62
    pen.text((MARGIN, y), "Attention maps, one scale for all", INK, font(23), "lm")
    pen.text((start, y), "low", INK, font(23), "lm")
    pen.text((WIDTH - MARGIN, y), "high", INK, font(23), "rm")
    colors = colormap()(np.linspace(0, 1, CROP[0] * ZOOM - low - high))[None, :, :3]
    bar = Image.fromarray((colors * 255).round().astype(np.uint8))
    image.paste(bar.resize((bar.width, 18)), (start + low, y - 9))


def draw_run(run: str) -> list[Image.Image]:
    """Draw the snapshots of a run whose last one contains the plain student."""
    found = locate_run(run)
    scenes = {step: found.snapshot(step) for step in shown_steps(found)}
    first, last = scenes[min(scenes)], scenes[max(scenes)]
    if not has(last, "plain"):
        raise SystemExit(
            f"--run {run}: expected a plain student in the last snapshot, got none;"
            " train with --plain.weights or --plain-run"
        )
    view = choose_view(first, last)
    print(f"frame {view.frame}, crop at x {view.left}, y {view.top}; {len(scenes)} steps")
    return [draw(scenes, step, view) for step in scenes]


def main(run: str = f"pretrained:{RUN}", out: Path = OUT) -> None:
    """Write the animation of a run.

    Args:
        run: folder of a run whose last snapshot contains the plain student, or ``pretrained:NAME``.
        out: animated WebP.
    """
    images = draw_run(run)
    each = min(MAX_STEP_MS, (DURATION_MS - LAST_MS) // max(1, len(images) - 1))
    durations = [each] * (len(images) - 1) + [LAST_MS]
    images[0].save(out, append_images=images[1:], duration=durations, loop=0, quality=90, method=6)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    tyro.cli(main)
