import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests import footage
from workbench.data.datasets import clips
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.samples import sample
from workbench.errors import ConfigError, DataError, UnknownNameError, VideoError


@pytest.fixture
def clip(tmp_path):
    """Ten frames of 12x8 pixels; the value of a pixel tells where it is."""
    frames = np.zeros((10, 8, 12, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(10)[:, None, None], np.arange(8)[:, None]
    frames[..., 2] = np.arange(12)
    save(tmp_path / "clip", frames)
    return frames


save = partial(footage.save, names="{}.png")


@pytest.mark.parametrize(
    ("crop", "part"),
    [
        ("", np.s_[:]),
        ("[]", np.s_[:]),
        ("[:]", np.s_[:]),
        ("[2:5]", np.s_[2:5]),
        ("[-3:]", np.s_[-3:]),
        ("[:-4]", np.s_[:-4]),
        ("[8:99]", np.s_[8:99]),
        ("[:, 1:4]", np.s_[:, 1:4]),
        ("[, , 3:]", np.s_[:, :, 3:]),
        (" [ 1 : 3 ,:, -4:-1 ] ", np.s_[1:3, :, -4:-1]),
        ("[-8:6, 2:, :5]", np.s_[-8:6, 2:, :5]),
    ],
)
def test_a_crop_in_brackets_equals_slicing(tmp_path, clip, crop, part):
    assert np.array_equal(load_clip(f"{tmp_path}/clip{crop}").frames, clip[part])


@pytest.mark.parametrize("crop", ["[5]", "[0:8:2]", "[a:b]", "[0:1,0:1,0:1,0:1]", "[0..4]", "[1.5:2]"])
def test_the_error_for_an_invalid_crop_has_a_valid_example(tmp_path, clip, crop):
    with pytest.raises(ConfigError, match=r"'bigbuckbunny\[0:96, :, 352:640\]'"):
        load_clip(f"{tmp_path}/clip{crop}")


@pytest.mark.parametrize("crop", ["[10:]", "[3:3]", "[5:2]", "[:, 8:]", "[:, :, 20:30]", "[-2:1]"])
def test_the_error_for_an_empty_crop_has_the_size_of_the_clip(tmp_path, clip, crop):
    with pytest.raises(DataError, match="10 frames of 12x8"):
        load_clip(f"{tmp_path}/clip{crop}")


def test_the_error_states_a_lower_bound_if_only_a_part_was_read(tmp_path, clip):
    with pytest.raises(DataError, match="4 frames of 12x8"):
        load_clip(f"{tmp_path}/clip[0:4, 9:]")


def test_a_file_name_may_contain_brackets(tmp_path, clip):
    shutil.copytree(tmp_path / "clip", tmp_path / "shot[1]")
    assert len(load_clip(f"{tmp_path}/shot[1]").frames) == 10
    assert np.array_equal(load_clip(f"{tmp_path}/shot[1][2:4]").frames, clip[2:4])
    with pytest.raises(ConfigError, match="want a file"):
        load_clip(f"{tmp_path}/clip[0:3")


def test_samples_are_loaded_by_name():
    assert np.array_equal(load_clip("carphone[3:9, :, 8:40]").frames, sample("carphone").frames[3:9, :, 8:40])
    assert np.array_equal(load_clip("carphone[-2:]").frames, sample("carphone").frames[-2:])
    assert load_clip("carphone[110:500]").frames.shape == (10, 72, 88, 3)
    with pytest.raises(DataError, match=r"carphone .*120 frames of 88x72"):
        load_clip("carphone[200:300]")


def test_a_sample_has_priority_over_a_folder_of_its_name(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree("clip", "carphone")
    assert load_clip("carphone[0:1]").width == 88
    assert load_clip("./carphone[0:1]").width == 12


def test_unknown_names_raise(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'bikse'.*'bikes'"):
        load_clip("bikse[0:4]")
    with pytest.raises(VideoError, match="no such file"):
        load_clip(f"{tmp_path}/holiday.mp4[0:4]")


def test_the_example_in_error_messages_is_valid():
    assert clips._parse_crop("0:96, :, 352:640", "")[2] == slice(352, 640)
    assert "[0:96, :, 352:640]" in clips.CROP_EXAMPLE


def test_a_gap_in_a_folder_of_frames_is_named(tmp_path, caplog):
    for number in (0, 1, 5, 6):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    assert len(load_clip(str(tmp_path))) == 4
    assert f"{tmp_path}: missing frames 2 to 4 (3)" in caplog.text
