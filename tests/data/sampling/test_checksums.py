"""Checksums of training data: equal for the same content wherever it is, different for any other."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.footage import SHOTS, pan, save, write_clip, write_shots
from workbench.data.datasets.samples import locate_sample
from workbench.data.preparation.manifest import PrepareSettings
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling import checksums
from workbench.data.sampling.checksums import DataChecksum, checksum_clip
from workbench.errors import DataError, VideoError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_clip(root / "pan.mkv", pan(4))
    write_shots(root / "frames")
    for form in ("arrays", "folders", "shards"):
        prepare(
            [root / "frames"],
            root / form,
            PrepareSettings(format=form, downscale="1", tile_size="48x48", validation=("cliff",)),
        )
    shutil.copytree(root / "folders", root / "vimeo90k", ignore=shutil.ignore_patterns("manifest.json", "motion"))
    return root


KINDS = {
    "video": "pan.mkv", "frames": "frames/alley", "arrays": "arrays", "folders": "folders", "shards": "shards",
    "vimeo90k": "vimeo90k",
}  # fmt: skip


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_checksums_depend_on_content_and_not_on_the_path(root, kind, tmp_path):
    source, moved = root / KINDS[kind], tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    (shutil.copytree if source.is_dir() else shutil.copy)(source, moved)
    before, now = checksum_clip(str(source)), checksum_clip(str(moved))
    assert (now.kind, now.clip, now.whole) == (kind, str(moved), True)
    assert now == before
    assert DataChecksum.from_dict(vars(before)) == before
    flip(moved if moved.is_file() else next(path for path in sorted(moved.rglob("*")) if is_frame_file(path)))
    assert checksum_clip(str(moved)) != before


def is_frame_file(path):
    return path.suffix in (".png", ".npy", ".tar") and path.name != "contact_sheet.png" and "low" not in path.parts


def test_checksums_ignore_the_held_out_split(root, tmp_path):
    shutil.copytree(root / "arrays", tmp_path / "set")
    before = checksum_clip(str(tmp_path / "set"))
    (held_out,) = (tmp_path / "set" / "high").glob("cliff*")
    flip(held_out)
    assert checksum_clip(str(tmp_path / "set")) == before


def test_checksums_depend_on_the_order_of_frames_and_not_on_their_names(tmp_path):
    frames = SHOTS["alley"][:4]
    first = checksum_clip(str(save(tmp_path / "a", frames)))
    for path in sorted((tmp_path / "a").iterdir()):
        path.rename(path.with_name(f"shot_{path.name}"))
    assert checksum_clip(str(tmp_path / "a")) == first
    assert checksum_clip(str(save(tmp_path / "b", frames[::-1]))) != first
    assert checksum_clip(str(save(tmp_path / "c", frames[:3]))) != first


def test_checksums_cover_the_selected_part(root):
    whole, part, spaced = (checksum_clip(f"{root / 'pan.mkv'}{crop}") for crop in ("", "[0:3, :, 8:]", "[0:3,:,8:]"))
    assert part == spaced
    assert part != whole


def test_a_sample_and_its_file_have_different_checksums(tmp_path):
    """A sample is shrunk when it is read, the file under its own name is not."""
    shutil.copy(locate_sample("bikes.mp4"), tmp_path / "bikes.mp4")
    sample, file = checksum_clip("bikes"), checksum_clip(str(tmp_path / "bikes.mp4"))
    assert (sample.kind, file.kind) == ("sample", "video")
    assert sample.sha256 == file.sha256
    assert sample != file


def test_a_large_file_is_sampled_from_its_first_to_its_last_byte(tmp_path, monkeypatch):
    """1000 bytes, 4 blocks of 10: they begin at 0, 330, 660 and 990."""
    for name, value in (("WHOLE_BYTES", 100), ("BLOCKS", 4), ("BLOCK_BYTES", 10)):
        monkeypatch.setattr(checksums, name, value)
    path = tmp_path / "large.mkv"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    before = checksum_clip(str(path))
    assert not before.whole
    for at, noticed in ((0, True), (9, True), (10, False), (329, False), (330, True), (669, True), (999, True)):
        flip(path, at)
        assert (checksum_clip(str(path)) == before) is not noticed, at
        flip(path, at)
    path.write_bytes(path.read_bytes() + b"x")
    assert checksum_clip(str(path)) != before


def test_blocks_are_inside_files_of_any_size(tmp_path, monkeypatch):
    """Files of 10, 0, 40 and 50 bytes, 3 blocks of 10: at 0 in the first, at 45 in the third, at 90 in the last."""
    for name, value in (("WHOLE_BYTES", 50), ("BLOCKS", 3), ("BLOCK_BYTES", 10)):
        monkeypatch.setattr(checksums, name, value)
    content = [np.random.default_rng(size).bytes(size) for size in (10, 0, 40, 50)]
    files = [tmp_path / str(number) for number in range(4)]
    for file, inside in zip(files, content, strict=True):
        file.write_bytes(inside)
    total, whole, before = checksums._digest(files, "")
    assert (total, whole) == (100, False)
    for file, at, noticed in ((0, 0, True), (2, 34, False), (2, 35, True), (3, 39, False), (3, 49, True)):
        flip(files[file], at)
        assert (checksums._digest(files, "")[2] != before) is noticed, (file, at)
        flip(files[file], at)


def test_many_files_are_sampled(tmp_path, monkeypatch):
    save(tmp_path / "many", SHOTS["alley"][:9])
    monkeypatch.setattr(checksums, "MANY_FILES", 3)
    before = checksum_clip(str(tmp_path / "many"))
    assert (before.files, before.whole) == (9, False)
    for number, noticed in ((0, True), (1, False), (4, True), (8, True)):
        path = tmp_path / "many" / f"{number:04d}.png"
        kept = path.read_bytes()
        flip(path)
        assert (checksum_clip(str(tmp_path / "many")) == before) is not noticed, number
        path.write_bytes(kept)


def test_missing_files_and_invalid_checksums(tmp_path):
    with pytest.raises(VideoError, match=r"nowhere\.mp4"):
        checksum_clip(str(tmp_path / "nowhere.mp4"))
    with pytest.raises(DataError, match="sha"):
        DataChecksum.from_dict({"sha": ""})


def test_checksums_do_not_depend_on_the_name_of_the_clip(root):
    checksum = checksum_clip(str(root / "pan.mkv"))
    assert replace(checksum, clip="other") == checksum
    assert replace(checksum, bytes=1) != checksum
