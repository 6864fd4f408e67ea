"""One frame of each septuplet on one picture: what a training set looks like."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.data.preparation.manifest import Manifest, Piece, Split
from workbench.data.preparation.shots import SEPTUPLET

COLOURS: dict[Split, str] = {"train": "#3b6fb6", "validation": "#d9822b"}
COLUMNS, WIDTH, BAR, TEXT, GAP = 8, 176, 5, 15, 6
MOST = 240
"""Septuplets on a sheet; of more, so many are shown at even distances."""


def write_contact_sheet(folder: Path, manifest: Manifest) -> Path:
    """Write ``contact_sheet.png`` from what lies in the folder; returns its path.

    The middle frame of each septuplet, with its name and the colour of its split.
    """
    every: list[tuple[Split, Piece, int]] = [
        (source.split, piece, number)
        for source in manifest.sources
        for piece in source.pieces
        for number in range(piece.septuplets)
    ]
    step = max(len(every) / MOST, 1)
    shown = [every[int(index * step)] for index in range(min(len(every), MOST))]
    cells = [_cell(_middle(folder, piece, number, manifest), piece, number, split) for split, piece, number in shown]
    rows = [cells[first : first + COLUMNS] for first in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    title = f"{len(shown)} of {len(every)} septuplets" if len(shown) < len(every) else f"{len(every)} septuplets"
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, sum(heights) + TEXT + 3 * GAP), "white")
    draw, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(12), GAP
    words = [(title, "black"), *((f"{split} {manifest.septuplets(split)}", COLOURS[split]) for split in COLOURS)]
    for text, colour in words:
        draw.text((x, GAP), text, fill=colour, font=font)
        x += int(draw.textlength(text, font)) + 3 * GAP
    top = TEXT + 2 * GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (GAP + column * (WIDTH + GAP), top))
        top += height
    path = folder / "contact_sheet.png"
    sheet.save(path)
    return path


def _cell(frame: np.ndarray, piece: Piece, number: int, split: Split) -> Image.Image:
    picture = Image.fromarray(frame)
    height = max(round(WIDTH * picture.height / picture.width), 1)
    cell = Image.new("RGB", (WIDTH, height + BAR + TEXT), "white")
    cell.paste(picture.resize((WIDTH, height), Image.Resampling.BOX), (0, 0))
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, height, WIDTH, height + BAR - 1), fill=COLOURS[split])
    name = f"{piece.name} +{number * SEPTUPLET}" if piece.septuplets > 1 else piece.name
    draw.text((0, height + BAR), name, fill="black", font=ImageFont.load_default(10))
    return cell


def _middle(folder: Path, piece: Piece, number: int, manifest: Manifest) -> np.ndarray:
    """The middle frame of a septuplet, as it lies on disk."""
    form, middle = manifest.settings.form, SEPTUPLET // 2
    if form == "arrays":
        return np.load(folder / piece.high, mmap_mode="r", allow_pickle=False)[number * SEPTUPLET + middle]
    if form == "folders":
        with Image.open(folder / piece.high / f"im{middle + 1}.png") as picture:
            return np.asarray(picture.convert("RGB"))
    with tarfile.open(folder / piece.high, "r:") as tar:
        file = tar.extractfile([member for member in tar.getmembers() if member.name.endswith(".high.npy")][number])
        assert file is not None
        return np.load(io.BytesIO(file.read()), allow_pickle=False)[middle]
