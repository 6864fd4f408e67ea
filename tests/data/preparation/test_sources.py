"""Sources of a set: splits, tiles, sizes, names; sources that cannot be prepared."""

import errno
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.data.preparation.prepared import RAW, content
from tests.footage import HEIGHT, WIDTH, pan, save, write_clip
from workbench.data.preparation import prepare as preparation
from workbench.data.preparation.manifest import PrepareSettings
from workbench.data.preparation.prepare import prepare
from workbench.data.preparation.sources import Tile, splits, tiles
from workbench.data.sampling.arrays import open_arrays
from workbench.errors import ConfigError, DataError, UnknownNameError, VideoError


def test_a_transparent_image_raises_before_anything_is_written(tmp_path):
    folder = save(tmp_path / "shot", pan(9))
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)).save(folder / "0008.png")
    with pytest.raises(VideoError, match=r"0008\.png: 100.0%"):
        prepare([folder], tmp_path / "set", PrepareSettings(downscale="1", validation_share=0))
    assert not (tmp_path / "set").exists()


def test_a_source_keeps_its_split_when_others_are_added():
    names = [f"clip{number}" for number in range(200)]
    settings = PrepareSettings(validation_share=0.25)
    all_of_them = splits(names, settings)
    assert splits(names[:150], settings) == {name: all_of_them[name] for name in names[:150]}
    assert 30 <= list(all_of_them.values()).count("validation") <= 70  # 50 expected, standard deviation 6
    assert list(splits(["a", "b", "c"], PrepareSettings(validation_share=1e-9)).values()).count("validation") == 1
    for names_of_few in (["a"], ["alley"]):  # the hash of alley falls into the share
        assert splits(names_of_few, PrepareSettings()) == dict.fromkeys(names_of_few, "train")
    assert sorted(splits(["a", "b"], PrepareSettings(validation_share=0.99)).values()) == ["train", "validation"]
    assert set(splits(names, PrepareSettings(validation_share=0)).values()) == {"train"}


def test_invalid_splits_raise():
    with pytest.raises(UnknownNameError, match=r"'clif'.*'cliff'"):
        splits(["cliff", "alley"], PrepareSettings(validation=("clif",)))
    with pytest.raises(DataError, match="got all held out"):
        splits(["cliff"], PrepareSettings(validation=("cliff",)))


def test_tiles_by_hand():
    assert tiles(30, 50, (20, 10)) == [
        Tile(top, left, 10, 20) for top in (0, 10, 20) for left in (5, 25)
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"30x20 .*32x8"):
        tiles(20, 30, (32, 8))


@pytest.mark.parametrize(
    ("height", "width", "shrink"), [(480, 640, 1), (540, 960, 2), (720, 1280, 2), (1080, 1920, 3), (200, 200, 1)]
)
def test_downscale_auto_leaves_at_least_the_size_of_vimeo(tmp_path, height, width, shrink):
    save(tmp_path / "clip", [np.zeros((height, width, 3), np.uint8)] * 2)
    settings = PrepareSettings(downscale="auto", validation_share=0)
    (found,) = preparation.find_sources([tmp_path / "clip"], tmp_path / "set", settings, lambda *_: None)
    assert (found.downscale, found.frames, found.size) == (shrink, 2, (width, height))


def test_missing_sources_raise(tmp_path):
    with pytest.raises(DataError, match=r"nothing.mp4: no such file"):
        prepare([tmp_path / "nothing.mp4"], tmp_path / "set", RAW)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: want images"):
        prepare([tmp_path / "empty"], tmp_path / "set", RAW)
    with pytest.raises(DataError, match="footage: want video files"):
        prepare([], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("when", ["first", "later"])
def test_an_image_of_another_size_and_a_broken_one_raise(tmp_path, when):
    number = {"first": 0, "later": 9}[when]
    save(tmp_path / "mixed" / "clip", pan(16))
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(tmp_path / "mixed" / "clip" / "0009.png")
    save(tmp_path / "broken" / "clip", pan(16))
    path = tmp_path / "broken" / "clip" / f"{number:04d}.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VideoError, match=r"0009.png: 66x48.* 64x48"):
        prepare([tmp_path / "mixed"], tmp_path / "set", PrepareSettings(downscale="1"))
    with pytest.raises(VideoError, match=f"{number:04d}.png"):
        prepare([tmp_path / "broken"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert not (tmp_path / "set").exists()


def test_a_damaged_video_raises_unless_its_good_frames_are_kept(tmp_path):
    clip = write_clip(tmp_path / "take.mkv", pan(40))
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.7)])
    settings = PrepareSettings(downscale="1", validation_share=0)
    with pytest.raises(VideoError, match=r"take.mkv: damaged"):
        prepare([clip], tmp_path / "set", settings)
    assert not (tmp_path / "set").exists()
    manifest = prepare([clip], tmp_path / "set", settings, on_damage="keep")
    assert "damaged or incomplete" in manifest.sources[0].damage
    assert str(tmp_path) not in manifest.sources[0].damage
    assert 7 <= len(open_arrays(tmp_path / "set")[0].high) < 40


def test_frames_that_are_too_small_raise_with_a_fix(shots, tmp_path):
    with pytest.raises(ConfigError, match=r"alley: 64x48, .*32x24.* 448x256.*--downscale"):
        prepare([shots], tmp_path / "set", PrepareSettings(format="folders"))
    with pytest.raises(ConfigError, match=r"32x24 .*64x12"):
        prepare([shots], tmp_path / "set", PrepareSettings(tile_size="64x12"))


def test_sources_without_usable_frames_raise(tmp_path):
    save(tmp_path / "black", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 9)
    with pytest.raises(DataError, match="of 9 frames 9 are black"):
        prepare([tmp_path / "black"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert not (tmp_path / "set").exists()


def test_two_sources_of_one_name_raise(shots, tmp_path):
    save(tmp_path / "alley", pan(8))
    with pytest.raises(DataError, match=r"both .*alley"):
        prepare([shots, tmp_path / "alley"], tmp_path / "set", RAW)
    save(tmp_path / ("a" * 80), pan(8))
    with pytest.raises(DataError, match=r"a{80}.* 64"):
        prepare([tmp_path / ("a" * 80)], tmp_path / "set", PrepareSettings(downscale="1"))


def test_invalid_file_names_are_replaced(tmp_path):
    save(tmp_path / "day 1: \N{SNOWMAN} (v1.2)", pan(8))
    manifest = prepare([tmp_path / "day 1: \N{SNOWMAN} (v1.2)"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert manifest.sources[0].name == "day_1_v1_2_"


def test_a_folder_with_other_contents_raises(shots, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"set: .*files"):
        prepare([shots], tmp_path / "set", RAW)
    assert content(tmp_path / "set") == {"thesis.txt": b"mine"}
    with pytest.raises(DataError, match=r"thesis.txt: .*got a file"):
        prepare([shots], tmp_path / "set" / "thesis.txt", RAW)
    with pytest.raises(DataError, match="outside of the footage"):
        prepare([shots], shots / "set", RAW)


def test_too_little_disk_space_raises_before_anything_is_written(shots, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(DataError, match="of free space"):
        prepare([shots], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()


def test_a_folder_without_write_permission_raises(shots, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(DataError, match=r"set: .*Read-only file system"):
        prepare([shots], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()
