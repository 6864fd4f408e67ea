import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.footage import save
from tests.specimens import moving_clip
from tests.videos import write_video
from workbench.data.datasets.registry import SETS, SPMCS11, SPMCS30, UDM10, VID4, ExpectedSet, open_set
from workbench.data.datasets.samples import sample
from workbench.data.degradation.families import degrade
from workbench.errors import ConfigError, DataError, UnknownNameError, VideoError

HIGH = moving_clip(3, 40, 56)


def repeat(folder, frame, count):
    """Write equal frames as links to one file."""
    save(folder, [frame])
    for number in range(1, count):
        (folder / f"{number:04d}.png").hardlink_to(folder / "0000.png")


def test_published_datasets_have_the_published_counts():
    """Counts from the scripts of BasicSR, RBPN, RRN and mmagic."""
    assert sum(VID4.frames.values()) == 171
    assert VID4.frames.keys() == VID4.sizes.keys()
    assert len(UDM10.frames) == 10
    assert set(UDM10.frames.values()) == {32}
    assert len(SPMCS11.frames) == 11
    assert len(SPMCS30.frames) + SPMCS30.more == 30
    assert set(SPMCS11.frames.values()) | {SPMCS30.more_frames} == {31}


# Vid4


@pytest.fixture(scope="module")
def whole_vid4(tmp_path_factory):
    """A stand-in: the right names, counts and sizes, all black."""
    root = tmp_path_factory.mktemp("vid4")
    for name, count in VID4.frames.items():
        width, height = VID4.sizes[name]
        repeat(root / "GT" / name, np.zeros((height, width, 3), np.uint8), count)
    return root


def test_a_complete_vid4_opens(whole_vid4):
    found = open_set("vid4", whole_vid4)
    assert found.name == "Vid4"
    assert [clip.name for clip in found] == ["calendar", "city", "foliage", "walk"]
    assert {clip.name: clip.frames for clip in found} == VID4.frames
    assert {clip.name: clip.size for clip in found} == VID4.sizes
    assert {clip.low_size for clip in found} == {(180, 144), (176, 144), (180, 120)}


def test_an_incomplete_vid4_raises_with_all_faults(whole_vid4, tmp_path):
    shutil.copytree(whole_vid4, tmp_path / "set")
    root = tmp_path / "set" / "GT"
    for number in range(31, 41):
        (root / "calendar" / f"{number:04d}.png").unlink()
    shutil.rmtree(root / "city")
    repeat(tmp_path / "foliage", np.zeros((486, 720, 3), np.uint8), 49)
    shutil.rmtree(root / "foliage")
    (tmp_path / "foliage").rename(root / "foliage")
    (root / "walk").rename(root / "wlak")
    with pytest.raises(DataError) as error:
        open_set("vid4", tmp_path / "set")
    for fault in (
        "calendar has 31 of 41 frames",
        "city is missing",
        "foliage is 720x486, not 720x480",
        "walk is missing",
        "wlak is not a clip of Vid4",
        "calendar 41, city 34, foliage 49, walk 47 frames",
    ):
        assert fault in str(error.value)


def test_one_image_of_another_size_raises(whole_vid4, tmp_path):
    shutil.copytree(whole_vid4, tmp_path / "set")
    image = tmp_path / "set" / "GT" / "foliage" / "0007.png"
    image.unlink()
    Image.new("RGB", (720, 486)).save(image)
    with pytest.raises(DataError, match=r"foliage/0007\.png .*720x486.*720x480"):
        open_set("vid4", tmp_path / "set")


def test_the_original_vid4_opens(shared):
    found = open_set("vid4", shared / "data" / "vid4")
    assert sum(clip.frames for clip in found) == 171
    assert found["walk"].high(46).shape == (1, 480, 720, 3)


# A miniature of any of them

SMALL = ExpectedSet(title="Small", frames={"a": 3, "b": 2}, sizes={"a": (56, 40)})


def miniature(root, layout="{}"):
    for name, count in SMALL.frames.items():
        save(root / layout.format(name), HIGH[:count])
    return root


@pytest.mark.parametrize("kind", ["vid4", "udm10", "spmcs30", "spmcs11"])
@pytest.mark.parametrize("layout", ["{}", "GT/{}", "{}/truth"])
def test_every_dataset_opens_in_every_layout(tmp_path, kind, layout):
    found = open_set(kind, miniature(tmp_path, layout), whole=SMALL)
    assert [(clip.name, clip.frames, clip.size) for clip in found] == [("a", 3, (56, 40)), ("b", 2, (56, 40))]
    (tmp_path / layout.format("b") / "0001.png").unlink()
    with pytest.raises(DataError, match=r"Small: b .*1 of 2.* a 3, b 2"):
        open_set(kind, tmp_path, whole=SMALL)


def test_low_resolution_in_the_layout_of_mmagic(tmp_path):
    miniature(tmp_path, "GT/{}")
    for name, count in SMALL.frames.items():
        save(tmp_path / "BIx4" / name, degrade(HIGH[:count], "bi", 4))
        save(tmp_path / "BDx4" / name, degrade(HIGH[:count], "bd_basicvsr", 4))
    for low, family in (("BIx4", "bi"), ("BDx4", "bd_basicvsr")):
        found = open_set("udm10", tmp_path, low=low, whole=SMALL)
        assert found.degradation == family
        assert np.array_equal(found["b"].low(), degrade(HIGH[:2], family, 4))


def test_low_resolution_in_the_layout_of_spmcs(tmp_path):
    miniature(tmp_path, "{}/truth")
    for name, count in SMALL.frames.items():
        save(tmp_path / name / "input2", degrade(HIGH[:count], "bi", 2))
    found = open_set("spmcs11", tmp_path, scale=2, low="input2", whole=SMALL)
    assert found.degradation == "bi"
    assert np.array_equal(found["a"].low(), degrade(HIGH, "bi", 2))


def test_spmcs_11_may_be_part_of_the_30_clips_but_vid4_stands_alone(tmp_path):
    miniature(tmp_path)
    save(tmp_path / "c", HIGH)
    assert [clip.name for clip in open_set("spmcs11", tmp_path, whole=replace(SMALL, is_part=True))] == ["a", "b"]
    with pytest.raises(DataError, match="c is not a clip of Small"):
        open_set("vid4", tmp_path, whole=SMALL)


def test_clips_of_unknown_names_are_counted(tmp_path):
    whole = ExpectedSet(title="Small", frames=SMALL.frames, more=2, more_frames=3)
    miniature(tmp_path)
    save(tmp_path / "c", HIGH)
    with pytest.raises(DataError, match=r"3 of 4 .* a 3, b 2, 2 more 3"):
        open_set("spmcs30", tmp_path, whole=whole)
    save(tmp_path / "d", HIGH[:2])
    with pytest.raises(DataError, match="d has 2 of 3 frames"):
        open_set("spmcs30", tmp_path, whole=whole)
    save(tmp_path / "d", HIGH)
    assert len(open_set("spmcs30", tmp_path, whole=whole)) == 4


def test_datasets_of_the_published_counts_are_complete(tmp_path):
    """SPMCS-30 and UDM10 with all their clips and frames, tiny."""
    tiny = np.zeros((8, 8, 3), np.uint8)
    for name in [*SPMCS11.frames, *(f"other_{n}" for n in range(19))]:
        repeat(tmp_path / "spmcs" / name / "truth", tiny, 31)
    for name in UDM10.frames:
        repeat(tmp_path / "udm10" / "GT" / name, tiny, 32)
    assert len(open_set("spmcs30", tmp_path / "spmcs")) == 30
    assert [clip.name for clip in open_set("spmcs11", tmp_path / "spmcs")] == list(SPMCS11.frames)
    assert sum(clip.frames for clip in open_set("udm10", tmp_path / "udm10")) == 320
    shutil.rmtree(tmp_path / "udm10" / "GT" / "lake")
    with pytest.raises(DataError, match="UDM10: lake"):
        open_set("udm10", tmp_path / "udm10")


def test_a_folder_of_videos_is_a_dataset(tmp_path):
    for name in ("holiday 10.mp4", "holiday 2.mp4"):
        write_video(tmp_path / name, HIGH, 25)
    (tmp_path / "notes.txt").touch()
    found = open_set("videos", tmp_path, scale=2)
    assert [(clip.name, clip.frames, clip.size) for clip in found] == [
        ("holiday 2", 3, (56, 40)),
        ("holiday 10", 3, (56, 40)),
    ]
    low, high = found.pair(found["holiday 2"], "bd_duf", 1)
    assert high.shape == (2, 40, 56, 3)
    assert np.array_equal(low, degrade(high, "bd_duf", 2))


def test_folders_without_videos_raise(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_set("videos", tmp_path / "nothing")
    with pytest.raises(DataError, match=r"\.mp4"):
        open_set("videos", tmp_path)
    with pytest.raises(ConfigError, match="low: want none"):
        open_set("videos", tmp_path, low="BIx4")
    write_video(tmp_path / "a.mp4", HIGH, 25)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "a.m4v")
    with pytest.raises(DataError, match=r"a\.m4v and a\.mp4"):
        open_set("videos", tmp_path)
    (tmp_path / "a.m4v").write_bytes(b"not a video")
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(VideoError, match=r"a\.m4v"):
        open_set("videos", tmp_path)


def test_one_clip_is_opened_by_name():
    found = open_set("clip", "carphone[3:9, :, 8:40]")
    (clip,) = found
    assert (found.name, clip.frames, clip.size) == ("carphone[3:9, :, 8:40]", 6, (32, 72))
    assert np.array_equal(clip.high(1, 3), sample("carphone").frames[4:6, :, 8:40])
    with pytest.raises(UnknownNameError, match="did you mean 'bikes'"):
        open_set("clip", "bikse")
    with pytest.raises(ConfigError, match="low: want none"):
        open_set("clip", "bikes", low="BIx4")


def test_every_kind_of_dataset_is_listed():
    assert set(SETS) == {
        "clip", "folders", "videos", "septuplets", "vid4", "vimeo90k", "reds", "reds4", "reds_val", "spmcs30",
        "spmcs11", "udm10",
    }  # fmt: skip
