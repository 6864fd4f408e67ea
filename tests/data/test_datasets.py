import shutil

import numpy as np
import pytest
from PIL import Image

from workbench.data import datasets
from workbench.data.datasets import VID4_FRAMES, VID4_SIZES, clip_folders, load_clip, vid4
from workbench.data.samples import sample
from workbench.errors import ConfigError, DataError, UnknownNameError, VideoError


@pytest.fixture
def clip(tmp_path):
    """Ten frames of 12x8 pixels; the value of a pixel tells where it is."""
    frames = np.zeros((10, 8, 12, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(10)[:, None, None], np.arange(8)[:, None]
    frames[..., 2] = np.arange(12)
    save(tmp_path / "clip", frames)
    return frames


def save(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


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
def test_a_crop_is_numpys(tmp_path, clip, crop, part):
    assert np.array_equal(load_clip(f"{tmp_path}/clip{crop}").frames, clip[part])


@pytest.mark.parametrize("crop", ["[5]", "[0:8:2]", "[a:b]", "[0:1,0:1,0:1,0:1]", "[0..4]", "[1.5:2]"])
def test_a_crop_that_cannot_be_read_shows_one_that_can(tmp_path, clip, crop):
    with pytest.raises(ConfigError, match=r"for example 'bigbuckbunny\[0:96, :, 352:640\]'"):
        load_clip(f"{tmp_path}/clip{crop}")


@pytest.mark.parametrize("crop", ["[10:]", "[3:3]", "[5:2]", "[:, 8:]", "[:, :, 20:30]", "[-2:1]"])
def test_a_crop_that_leaves_nothing_says_how_large_the_clip_is(tmp_path, clip, crop):
    with pytest.raises(DataError, match=r"nothing is left; .*clip has 10 frames of 12x8"):
        load_clip(f"{tmp_path}/clip{crop}")


def test_the_size_is_not_overstated_where_only_a_part_was_read(tmp_path, clip):
    with pytest.raises(DataError, match="has at least 4 frames of 12x8"):
        load_clip(f"{tmp_path}/clip[0:4, 9:]")


def test_brackets_in_a_name(tmp_path, clip):
    shutil.copytree(tmp_path / "clip", tmp_path / "shot[1]")
    assert len(load_clip(f"{tmp_path}/shot[1]").frames) == 10
    assert np.array_equal(load_clip(f"{tmp_path}/shot[1][2:4]").frames, clip[2:4])
    with pytest.raises(ConfigError, match="not a clip with a crop"):
        load_clip(f"{tmp_path}/clip[0:3")


def test_samples_by_name():
    assert np.array_equal(load_clip("carphone[3:9, :, 8:40]").frames, sample("carphone").frames[3:9, :, 8:40])
    assert np.array_equal(load_clip("carphone[-2:]").frames, sample("carphone").frames[-2:])
    assert load_clip("carphone[110:500]").frames.shape == (10, 72, 88, 3)
    with pytest.raises(DataError, match="carphone has 120 frames of 88x72"):
        load_clip("carphone[200:300]")


def test_a_sample_wins_over_a_folder_of_its_name(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree("clip", "carphone")
    assert load_clip("carphone[0:1]").width == 88
    assert load_clip("./carphone[0:1]").width == 12


def test_names_of_nothing(tmp_path):
    with pytest.raises(UnknownNameError, match="no sample clip, file or folder 'bikse'; did you mean 'bikes'"):
        load_clip("bikse[0:4]")
    with pytest.raises(VideoError, match="no such file"):
        load_clip(f"{tmp_path}/holiday.mp4[0:4]")


# Folders of folders


def test_both_layouts_in_natural_order(tmp_path, clip):
    for name in ("clip_2", "clip_10", "clip_1"):
        save(tmp_path / "plain" / name, clip[:1])
        save(tmp_path / "set" / "GT" / name, clip[:1])
    (tmp_path / "set" / "BIx4").mkdir()
    (tmp_path / "plain" / ".cache").mkdir()
    (tmp_path / "plain" / "readme.txt").touch()
    for folder, root in ((tmp_path / "plain", tmp_path / "plain"), (tmp_path / "set", tmp_path / "set" / "GT")):
        assert clip_folders(folder) == {name: root / name for name in ("clip_1", "clip_2", "clip_10")}
        assert list(clip_folders(folder)) == ["clip_1", "clip_2", "clip_10"]


def test_folders_that_are_not_a_set(tmp_path, clip):
    with pytest.raises(DataError, match="no such folder; want a folder of folders"):
        clip_folders(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds pictures itself: give the folder above"):
        clip_folders(tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in empty"):
        clip_folders(tmp_path)


@pytest.fixture(scope="module")
def whole_vid4(tmp_path_factory):
    """A stand-in: the right names, counts and sizes, all black."""
    root = tmp_path_factory.mktemp("vid4")
    for name, count in VID4_FRAMES.items():
        (root / "GT" / name).mkdir(parents=True)
        Image.new("RGB", VID4_SIZES[name]).save(root / "GT" / name / "000.png")
        for number in range(1, count):
            (root / "GT" / name / f"{number:03d}.png").hardlink_to(root / "GT" / name / "000.png")
    return root


def test_a_whole_vid4(whole_vid4):
    assert list(vid4(whole_vid4)) == ["calendar", "city", "foliage", "walk"]
    assert sum(VID4_FRAMES.values()) == 171


def test_a_shortened_vid4_is_refused_and_all_faults_are_named(whole_vid4, tmp_path):
    shutil.copytree(whole_vid4, tmp_path / "set")
    root = tmp_path / "set" / "GT"
    for number in range(31, 41):
        (root / "calendar" / f"{number:03d}.png").unlink()
    shutil.rmtree(root / "city")
    (root / "foliage" / "007.png").unlink()
    Image.new("RGB", (720, 486)).save(root / "foliage" / "007.png")
    (root / "walk").rename(root / "wlak")
    with pytest.raises(DataError) as error:
        vid4(tmp_path / "set")
    for fault in (
        "calendar has 31 of 41 frames",
        "city is missing",
        "foliage/007.png is 720x486, not 720x480",
        "walk is missing",
        "wlak is not a clip of Vid4",
        "calendar 41, city 34, foliage 49, walk 47",
    ):
        assert fault in str(error.value)


def test_the_example_in_the_messages_can_be_read():
    assert datasets._parse_crop("0:96, :, 352:640", "")[2] == slice(352, 640)
    assert "[0:96, :, 352:640]" in datasets.CROP_EXAMPLE
