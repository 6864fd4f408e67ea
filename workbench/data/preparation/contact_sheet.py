"""Contact sheet of a training set: one frame of each septuplet on one image."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.data.preparation.manifest import Chunk, Manifest, Split
from workbench.data.preparation.shots import SEPTUPLET

COLORS: dict[Split, str] = {"train": "#3b6fb6", "validation": "#d9822b"}
COLUMNS, WIDTH, BAR, TEXT, GAP = 8, 176, 5, 15, 6
MAX_CELLS = 240
"""Most septuplets on a sheet; of more septuplets, evenly spaced ones are shown."""


def write_contact_sheet(folder: Path, manifest: Manifest) -> Path:
    """Write ``contact_sheet.png`` with the center frame of each septuplet, its name and the color of its split.

    Returns:
        The path of the image.
    """
    every: list[tuple[Split, Chunk, int]] = [
        (source.split, chunk, number)
        for source in manifest.sources
        for chunk in source.chunks
        for number in range(chunk.septuplets)
    ]
    step = max(len(every) / MAX_CELLS, 1)
    shown = [every[int(index * step)] for index in range(min(len(every), MAX_CELLS))]
    cells = [
        _cell(_center_frame(folder, chunk, number, manifest), chunk, number, split) for split, chunk, number in shown
    ]
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    title = f"{len(shown)} of {len(every)} septuplets" if len(shown) < len(every) else f"{len(every)} septuplets"
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, sum(heights) + TEXT + 3 * GAP), "white")
    draw, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(12), GAP
    labels = [(title, "black"), *((f"{split} {manifest.septuplets(split)}", COLORS[split]) for split in COLORS)]
    for text, color in labels:
        draw.text((x, GAP), text, fill=color, font=font)
        x += int(draw.textlength(text, font)) + 3 * GAP
    top = TEXT + 2 * GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (GAP + column * (WIDTH + GAP), top))
        top += height
    path = folder / "contact_sheet.png"
    sheet.save(path)
    return path


def _cell(frame: np.ndarray, chunk: Chunk, number: int, split: Split) -> Image.Image:
    image = Image.fromarray(frame)
    height = max(round(WIDTH * image.height / image.width), 1)
    cell = Image.new("RGB", (WIDTH, height + BAR + TEXT), "white")
    cell.paste(image.resize((WIDTH, height), Image.Resampling.BOX), (0, 0))
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, height, WIDTH, height + BAR - 1), fill=COLORS[split])
    name = f"{chunk.name} +{number * SEPTUPLET}" if chunk.septuplets > 1 else chunk.name
    draw.text((0, height + BAR), name, fill="black", font=ImageFont.load_default(10))
    return cell


def _center_frame(folder: Path, chunk: Chunk, number: int, manifest: Manifest) -> np.ndarray:
    """Read the center frame of a septuplet from disk."""
    stored_as, middle = manifest.settings.format, SEPTUPLET // 2
    if stored_as == "arrays":
        return np.load(folder / chunk.high, mmap_mode="r", allow_pickle=False)[number * SEPTUPLET + middle]
    if stored_as == "folders":
        with Image.open(folder / chunk.high / f"im{middle + 1}.png") as image:
            return np.asarray(image.convert("RGB"))
    with tarfile.open(folder / chunk.high, "r:") as tar:
        file = tar.extractfile([member for member in tar.getmembers() if member.name.endswith(".high.npy")][number])
        assert file is not None
        return np.load(io.BytesIO(file.read()), allow_pickle=False)[middle]
