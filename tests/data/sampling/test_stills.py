"""Folders of still images: what is used, what is skipped and named, what is refused."""

import logging
import os
import warnings
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from workbench.data.sampling import stills as module
from workbench.data.sampling.stills import open_stills, read_still, still_files
from workbench.errors import DataError


def write(path, size=(60, 50), level=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels if level is None else np.full_like(pixels, level)).save(path)
    return path


def test_images_of_a_folder_and_below_in_natural_order(tmp_path):
    for name in ("b/image10.png", "b/image9.png", "a.jpg", ".hidden/c.png", "._d.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.relative_to(tmp_path).as_posix() for path in still_files(tmp_path)] == [
        "a.jpg", "b/image9.png", "b/image10.png"
    ]  # fmt: skip


def test_unusable_images_are_skipped_with_one_warning_each(tmp_path, caplog):
    write(tmp_path / "good.png")
    write(tmp_path / "small.png", (60, 39))
    (tmp_path / "text.png").write_text("no image")
    whole = write(tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    rgba = np.full((50, 60, 4), 200, np.uint8)
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    rgba[..., 3] = 255
    Image.fromarray(rgba).save(tmp_path / "opaque.png")
    Image.fromarray(np.full((50, 60), 1000, np.uint16)).save(tmp_path / "deep.png")
    with caplog.at_level(logging.WARNING):
        found = open_stills(tmp_path, min_side=40)
    assert [file.state.path.name for file in found.files] == ["good.png", "opaque.png"]
    (record,) = caplog.records
    for words in ("5 of 7", "small.png: 60x39, want 40", "text.png: not", "cut.png: ", "clear.png: ", "deep.png: more"):
        assert words in record.getMessage()


def test_many_skipped_images_are_counted(tmp_path, caplog):
    write(tmp_path / "good.png")
    for number in range(12):
        write(tmp_path / f"s{number}.png", (30, 30))
    with caplog.at_level(logging.WARNING):
        open_stills(tmp_path, min_side=40)
    assert "12 of 13" in caplog.text
    assert "s7.png" in caplog.text
    assert "s8.png" not in caplog.text
    assert "and 4 more" in caplog.text


@pytest.mark.parametrize("make", ["nothing", "file", "empty", "small"])
def test_a_folder_without_usable_images_raises(tmp_path, make):
    folder, pattern = tmp_path / "stills", "stills is no folder"
    if make == "file":
        folder.write_text("")
    elif make == "empty":
        folder.mkdir()
        (folder / "note.txt").write_text("")
        pattern = "no images in .*stills; want files ending in .png"
    elif make == "small":
        write(folder / "tiny.png", (30, 30))
        pattern = "none of 1 images in .*tiny.png: 30x30, want 40"
    with pytest.raises(DataError, match=f"data.stills: .*{pattern}"):
        open_stills(folder, min_side=40)


@pytest.mark.posix
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_a_folder_without_read_permission_raises(tmp_path):
    write(tmp_path / "closed" / "a.png")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(DataError, match=r"data\.stills: .*closed"):
            open_stills(tmp_path, min_side=40)
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_large_images_are_downsampled(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1200)
    write(tmp_path / "large.png", (80, 60), level=77)
    (file,) = open_stills(tmp_path, min_side=30).files
    assert file.size == (40, 30)
    image = read_still(file)
    assert image.shape == (30, 40, 3)
    assert (image == 77).all()
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 0


def test_a_changed_or_missing_file_raises(tmp_path):
    path = write(tmp_path / "one.png")
    (file,) = open_stills(tmp_path, min_side=40).files
    read_still.cache_clear()
    write(path, (70, 50))
    with pytest.raises(DataError, match=r"one\.png: was changed"):
        read_still(file)
    path.unlink()
    with pytest.raises(DataError, match=r"one\.png"):
        read_still(file)


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Twelve images of one gray level each, of which three are in use at a time."""
    monkeypatch.setattr(module, "MAX_DECODED", 3)
    monkeypatch.setattr(module, "STEPS_PER_VISIT", 6)
    for number in range(12):
        write(tmp_path / f"{number:02d}.png", level=20 * number)
    return tmp_path


def in_use(stills, step, seed=0):
    draws = [stills.draw(np.random.default_rng(number), seed=seed, step=step) for number in range(40)]
    return {int(image[0, 0, 0]) // 20 for image in draws}


def test_images_of_a_large_folder_rotate(many):
    """A few at a time, one changes every second step, all come; the same whenever asked."""
    stills = open_stills(many, min_side=40)
    steps = [in_use(stills, step) for step in range(200)]
    assert all(1 <= len(seen) <= 3 for seen in steps)
    assert all(len(later - seen) <= 1 for seen, later in pairwise(steps))
    assert set.union(*steps) == set(range(12))
    assert [in_use(stills, step) for step in (150, 3)] == [steps[150], steps[3]]
    assert [in_use(stills, step, seed=1) for step in range(200)] != steps


def test_a_damaged_image_of_a_large_folder_is_skipped(many, caplog):
    good = open_stills(many, min_side=40)
    steps = [in_use(good, step) for step in range(100)]
    for name in ("03.png", "05.png"):
        content = (many / name).read_bytes()
        (many / name).write_bytes(content[:-20])
    with caplog.at_level(logging.WARNING):
        stills = open_stills(many, min_side=40)
        seen = [in_use(stills, step) for step in range(100)]
    assert set.union(*seen) == set(range(12)) - {3, 5}
    assert [record.getMessage().count("03.png") for record in caplog.records].count(1) == 1
    assert all(now - then <= set(range(12)) for now, then in zip(seen, steps, strict=True))


def test_a_large_folder_of_damaged_images_raises(many):
    for path in many.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    stills = open_stills(many, min_side=40)
    with pytest.raises(DataError, match="of 12 images"):
        stills.draw(np.random.default_rng(0), seed=0, step=1)


def test_larger_images_are_drawn_more_often(tmp_path):
    """Sixteen times the area, four times as often."""
    write(tmp_path / "small.png", (50, 50), level=0)
    write(tmp_path / "large.png", (200, 200), level=250)
    stills = open_stills(tmp_path, min_side=40)
    rng = np.random.default_rng(0)
    large = sum(stills.draw(rng, seed=0, step=1).shape[0] == 200 for _ in range(1000))
    assert 740 < large < 860


def test_a_decompression_bomb_is_skipped(tmp_path, monkeypatch):
    write(tmp_path / "good.png", (50, 50))
    write(tmp_path / "bomb.png", (300, 300))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert [file.state.path.name for file in open_stills(tmp_path, min_side=40).files] == ["good.png"]
