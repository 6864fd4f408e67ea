import numpy as np
import pytest
from PIL import Image

from tests.footage import save
from tests.specimens import moving_clip
from workbench.data.datasets.folders import clip_folders, missing_folders
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import degrade
from workbench.data.degradation.identify import DegradationInfo, make_info, write_info
from workbench.errors import ConfigError, DataError, UnknownNameError, VideoError

HIGH = moving_clip(4, 50, 66)


def make(root, family="bd_duf", low="BDx4", scale=4, clips=("clip_2", "clip_10", "clip_1")):
    """Write a dataset ``GT/<clip>`` and its low resolution next to it."""
    for name in clips:
        save(root / "GT" / name, HIGH)
        save(root / low / name, degrade(HIGH, family, scale))
    return root


def test_every_layout_is_read_in_natural_order(tmp_path):
    for name in ("clip_2", "clip_10", "clip_1"):
        save(tmp_path / "plain" / name, HIGH[:1])
        save(tmp_path / "set" / "GT" / name, HIGH[:1])
        save(tmp_path / "nested" / name / "truth", HIGH[:1])
        save(tmp_path / "nested" / name / "input4", HIGH[:1])
    (tmp_path / "set" / "BIx4").mkdir()
    (tmp_path / "plain" / ".cache").mkdir()
    (tmp_path / "plain" / "readme.txt").touch()
    names = ["clip_1", "clip_2", "clip_10"]
    assert clip_folders(tmp_path / "plain") == {name: tmp_path / "plain" / name for name in names}
    assert clip_folders(tmp_path / "set") == {name: tmp_path / "set" / "GT" / name for name in names}
    assert clip_folders(tmp_path / "nested") == {name: tmp_path / "nested" / name / "truth" for name in names}
    for layout in ("plain", "set", "nested"):
        assert list(clip_folders(tmp_path / layout)) == names


def test_folders_that_are_no_dataset_raise(tmp_path):
    save(tmp_path / "clip", HIGH[:1])
    with pytest.raises(DataError, match="no such folder"):
        clip_folders(tmp_path / "nothing")
    with pytest.raises(DataError, match="contains images itself"):
        clip_folders(tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="got none in empty"):
        clip_folders(tmp_path)


def test_any_folder_of_folders_is_a_dataset(tmp_path):
    found = open_set("folders", make(tmp_path / "mine"), scale=4)
    assert (found.name, found.scale, found.degradation) == ("mine", 4, None)
    assert [clip.name for clip in found] == ["clip_1", "clip_2", "clip_10"]
    assert {(clip.frames, clip.size, tuple(clip.targets), clip.has_low) for clip in found} == {
        (4, (66, 50), (0, 1, 2, 3), False)
    }
    assert np.array_equal(found["clip_2"].high(1, 3), HIGH[1:3])


def test_every_clip_may_have_its_own_length_and_size(tmp_path):
    save(tmp_path / "a", HIGH)
    save(tmp_path / "b", HIGH[:2, :20])
    found = open_set("folders", tmp_path)
    assert [(clip.frames, clip.size) for clip in found] == [(4, (66, 50)), (2, (66, 20))]


def test_images_of_several_sizes_or_too_small_raise(tmp_path):
    save(tmp_path / "a", HIGH)
    Image.fromarray(HIGH[0, :40]).save(tmp_path / "a" / "0002.png")
    save(tmp_path / "b", HIGH[:, :3])
    with pytest.raises(DataError, match=r"a/0002\.png .*66x40.*66x50.*, b .*66x3.*scale 4"):
        open_set("folders", tmp_path)
    (tmp_path / "a" / "0002.png").write_bytes(b"")
    with pytest.raises(VideoError, match=r"0002\.png"):
        open_set("folders", tmp_path)


@pytest.mark.parametrize(("low", "family"), [("BIx4", "bi"), ("BDx4", "bd_basicvsr"), ("BDx4", "bd_duf"), ("LR", "bi")])
def test_the_degradation_is_identified_without_metadata(tmp_path, low, family):
    found = open_set("folders", make(tmp_path, family, low), low=low)
    assert found.degradation == family
    clip = found["clip_10"]
    assert clip.has_low
    assert np.array_equal(clip.low(1, 3), degrade(HIGH, family, 4)[1:3])
    assert np.array_equal(found.pair(clip, family)[0], degrade(HIGH, family, 4))


def test_low_resolution_inside_each_clip(tmp_path):
    for name in ("car05_001", "hk004_001"):
        save(tmp_path / name / "truth", HIGH)
        save(tmp_path / name / "input3", degrade(HIGH, "bi", 3))
    found = open_set("folders", tmp_path, scale=3, low="input3")
    assert found.degradation == "bi"
    assert np.array_equal(found["hk004_001"].low(), degrade(HIGH, "bi", 3))


def test_low_resolution_next_to_the_set_or_elsewhere(tmp_path):
    make(tmp_path / "set", low="../elsewhere/BDx4")
    (tmp_path / "elsewhere" / "BDx4").rename(tmp_path / "BDx4")
    for low in ("BDx4", str(tmp_path / "BDx4")):
        assert open_set("folders", tmp_path / "set", low=low).degradation == "bd_duf"


def test_a_folder_name_of_another_family_raises(tmp_path):
    make(tmp_path, "bd_duf", "BIx4")
    with pytest.raises(DataError, match=r"BIx4: .* bi .* bd_duf .*8 dB"):
        open_set("folders", tmp_path, low="BIx4")


def test_metadata_of_another_family_raises(tmp_path):
    make(tmp_path, "bd_duf", "BDx4")
    write_info(tmp_path / "BDx4", make_info("bd_basicvsr", 4))
    with pytest.raises(DataError, match=r"bd_basicvsr .* bd_duf"):
        open_set("folders", tmp_path, low="BDx4")


def test_metadata_decides_if_images_are_ambiguous_and_may_name_any_family(tmp_path):
    black = np.zeros_like(HIGH)
    save(tmp_path / "GT" / "night", black)
    save(tmp_path / "LR" / "night", degrade(black, "bi", 4))
    with pytest.raises(DataError, match=r"ambiguous.*degradation\.json"):
        open_set("folders", tmp_path, low="LR")
    write_info(tmp_path / "LR", make_info("bd_duf", 4))
    assert open_set("folders", tmp_path, low="LR").degradation == "bd_duf"
    save(tmp_path / "LR" / "night", degrade(HIGH[::-1].copy(), "bi", 4))
    write_info(tmp_path / "LR", DegradationInfo(family="camera", scale=4))
    found = open_set("folders", tmp_path, low="LR")
    assert found.degradation == "camera"
    with pytest.raises(DataError, match="bi, got camera"):
        found.check_degradation("bi")


def test_another_scale_than_that_of_name_or_metadata_raises(tmp_path):
    make(tmp_path, "bi", "BIx4")
    with pytest.raises(DataError, match=r"BIx4: .*x2, got x4"):
        open_set("folders", tmp_path, scale=2, low="BIx4")
    (tmp_path / "BIx4").rename(tmp_path / "small")
    with pytest.raises(DataError, match=r"small: .* x2: clip_1/0000\.png .*16x12.*33x"):
        open_set("folders", tmp_path, scale=2, low="small")
    make(tmp_path, "bi", "LR", scale=2)
    write_info(tmp_path / "LR", make_info("bi", 4))
    with pytest.raises(DataError, match=r"LR: .*x2, got x4"):
        open_set("folders", tmp_path, scale=2, low="LR")
    write_info(tmp_path / "LR", make_info("bd_tecogan", 2))
    with pytest.raises(ConfigError, match="want x4 for bd_tecogan"):
        open_set("folders", tmp_path, scale=2, low="LR")


def test_frames_and_clips_that_are_missing_are_named(tmp_path):
    make(tmp_path)
    (tmp_path / "BDx4" / "clip_1").rename(tmp_path / "BDx4" / "clip1")
    (tmp_path / "BDx4" / "clip_2" / "0001.png").unlink()
    Image.new("RGB", (17, 13)).save(tmp_path / "BDx4" / "clip_10" / "0003.png")
    with pytest.raises(
        DataError, match=r"BDx4: .* x4: clip_1 .*clip_2: 0001 .*clip_10/0003\.png .*17x13.*16x12 .*66x50"
    ):
        open_set("folders", tmp_path, low="BDx4")
    with pytest.raises(DataError, match=r"BIx4.* got BDx4, GT"):
        open_set("folders", tmp_path, low="BIx4")


def test_frames_that_do_not_correspond_raise(tmp_path):
    """One frame is lost in high, another in low resolution: the counts agree."""
    make(tmp_path, clips=["a"])
    (tmp_path / "GT" / "a" / "0001.png").unlink()
    (tmp_path / "BDx4" / "a" / "0002.png").unlink()
    with pytest.raises(DataError, match=r"a: .*0002.* 0001"):
        open_set("folders", tmp_path, low="BDx4")


def test_frames_of_other_names_are_matched_in_order(tmp_path):
    save(tmp_path / "GT" / "a", HIGH, names="im{}.png")
    save(tmp_path / "BIx4" / "a", degrade(HIGH, "bi", 4), names="{:04d}x4.png")
    assert open_set("folders", tmp_path, low="BIx4").degradation == "bi"


def test_low_resolution_of_other_frames_raises(tmp_path):
    make(tmp_path, clips=["a"])
    save(tmp_path / "BDx4" / "a", degrade(HIGH[::-1].copy(), "bd_duf", 4))
    with pytest.raises(DataError, match="no family"):
        open_set("folders", tmp_path, low="BDx4")


def test_another_first_number_is_accepted_if_the_content_agrees(tmp_path):
    save(tmp_path / "GT" / "a", HIGH)
    low = degrade(HIGH, "bi", 4)
    for number, frame in enumerate(low, 1):
        (tmp_path / "BIx4" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "BIx4" / "a" / f"{number}.png")
    assert open_set("folders", tmp_path, low="BIx4").degradation == "bi"


def test_a_gap_in_the_frame_numbers_is_named(tmp_path, caplog):
    save(tmp_path / "a", HIGH)
    save(tmp_path / "b", HIGH)
    (tmp_path / "b" / "0002.png").unlink()
    assert [clip.frames for clip in open_set("folders", tmp_path)] == [4, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'b'}: missing frame 2; the frames before and after are treated as neighbors"
    ]


@pytest.mark.parametrize("other", ["0001.jpg", "001.png"])
def test_two_images_of_one_frame_raise(tmp_path, other):
    save(tmp_path / "a", HIGH)
    Image.fromarray(HIGH[1]).save(tmp_path / "a" / other)
    with pytest.raises(VideoError, match=r"0001\.png and 001\.png|0001\.jpg and 0001\.png"):
        open_set("folders", tmp_path)


def test_unknown_kinds_and_scales_raise(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'vid44'.*'vid4'"):
        open_set("vid44", tmp_path)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 8"):
        open_set("folders", tmp_path, scale=8)


def test_missing_folders_raise(tmp_path):
    for name in ("00001/0001", "00001/0003"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "00003").touch()
    names = ["00001/0001", "00001/0002", "00001/0003", "00002/0001", "00003/0001"]
    assert missing_folders(names, tmp_path) == ["00001/0002", "00002/0001", "00003/0001"]
