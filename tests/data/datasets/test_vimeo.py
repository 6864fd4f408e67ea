import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests import footage
from tests.specimens import moving_clip
from workbench.data.datasets.registry import open_set
from workbench.data.datasets.vimeo import LEFT_OUT, STEMS, VIMEO90K, ExpectedLists
from workbench.data.degradation.families import degrade
from workbench.data.degradation.identify import make_info, write_info
from workbench.errors import ConfigError, DataError, UnknownNameError

HIGH = moving_clip(7, 32, 56)
TRAIN = ("00001/0001", "00001/0002", "00002/0001", "00002/0003")
TEST = ("00001/0266", "00001/0268", "00003/0001")
SMALL = ExpectedLists(
    title="Vimeo-90K",
    clips={"train": 4, "test": 3},
    groups={"slow": 1, "medium": 1, "fast": 0},
    size=(56, 32),
    left_out=("00003/0001",),
)


save = partial(footage.save, names="im{}.png", first=1)


@pytest.fixture
def official(tmp_path):
    """Write the layout of the authors and the low resolution of BasicSR."""
    root = tmp_path / "vimeo_septuplet"
    for name in TRAIN + TEST:
        save(root / "sequences" / name, HIGH)
        save(tmp_path / "vimeo_septuplet_matlabLRx4" / "sequences" / name, degrade(HIGH, "bi", 4))
    (root / "sep_trainlist.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "sep_testlist.txt").write_text("\r\n".join(TEST) + "\r\n\r\n")
    return root


def open_small(folder, **options):
    return open_set("vimeo90k", folder, whole=SMALL, **options)


def test_the_splits_have_the_published_sizes():
    assert sum(VIMEO90K.clips.values()) == 72436
    assert sum(VIMEO90K.groups.values()) + len(LEFT_OUT) == VIMEO90K.clips["test"]
    assert STEMS == ("im1", "im2", "im3", "im4", "im5", "im6", "im7")


def test_the_lists_define_the_split(official):
    for split, names in (("train", TRAIN), ("test", TEST)):
        found = open_small(official, split=split)
        assert tuple(clip.name for clip in found) == names
        assert found.name == f"Vimeo-90K {split}"
        assert {(clip.frames, clip.size, clip.targets, clip.group) for clip in found} == {(7, (56, 32), (3,), "")}
    clip = open_small(official, split="test")["00003/0001"]
    assert np.array_equal(clip.high(3, 4), HIGH[3:4])
    assert np.array_equal(np.stack(list(clip.stream())), HIGH)


def test_the_middle_or_every_frame_is_a_target(official):
    assert open_small(official, split="train", targets="all").clips[0].targets == (0, 1, 2, 3, 4, 5, 6)
    with pytest.raises(ConfigError, match=r"targets: .*got 'im4'"):
        open_small(official, split="train", targets="im4")


def test_layout_and_low_resolution_of_basicsr(official):
    found = open_small(official, split="test", low="vimeo_septuplet_matlabLRx4")
    assert found.degradation == "bi"
    assert np.array_equal(found["00001/0268"].low(), degrade(HIGH, "bi", 4))
    (official / "sep_testlist.txt").unlink()
    meta = "".join(f"{name} 7 (256,448,3)\n" for name in TEST)
    (official / "meta_info_Vimeo90K_test_GT.txt").write_text(meta)
    assert tuple(clip.name for clip in open_small(official, split="test")) == TEST


def test_layout_of_mmagic(official, tmp_path):
    root = tmp_path / "vimeo90k"
    shutil.copytree(official / "sequences", root / "GT")
    for name in TRAIN:
        save(root / "BDx4" / name, degrade(HIGH, "bd_basicvsr", 4))
    (root / "meta_info_Vimeo90K_train_GT.txt").write_text("".join(f"{name} 7 (256,448,3)\n" for name in TRAIN))
    found = open_small(root, split="train", low="BDx4")
    assert found.degradation == "bd_basicvsr"
    assert np.array_equal(found["00002/0003"].high(), HIGH)


def test_metadata_above_the_sequences_is_used(official, tmp_path):
    other = tmp_path / "low"
    (tmp_path / "vimeo_septuplet_matlabLRx4").rename(other)
    write_info(other, make_info("bd_duf", 4))
    with pytest.raises(DataError, match=r"bd_duf .* bi "):
        open_small(official, split="test", low="low")
    write_info(other, make_info("bi", 4))
    assert open_small(official, split="test", low="low").degradation == "bi"


def test_groups_are_read_from_lists_in_the_folder(official):
    (official / "meta_info_Vimeo90K_test_slow_GT.txt").write_text("00001/0266 7 (256,448,3)\n")
    (official / "medium_testset.txt").write_text("00001/0268\n")
    found = open_small(official, split="test")
    assert [clip.group for clip in found] == ["slow", "medium", ""]  # the last is left out of every group
    slow = open_small(official, split="test", groups=["slow"])
    assert (slow.name, [clip.name for clip in slow]) == ("Vimeo-90K test (slow)", ["00001/0266"])
    assert len(open_small(official, split="test", groups=["medium", "slow"])) == 2


def test_missing_lists_of_groups_raise(official):
    with pytest.raises(DataError, match=r"meta_info_Vimeo90K_test_medium_GT\.txt or medium_testset\.txt"):
        open_small(official, split="test", groups=["medium"])
    with pytest.raises(UnknownNameError, match=r"'slwo'.*'slow'"):
        open_small(official, split="test", groups=["slwo"])
    with pytest.raises(ConfigError, match=r"groups: .*train"):
        open_small(official, split="train", groups=["slow"])


@pytest.mark.parametrize("stranger", ["00003/0001", "00001/0001"])
def test_a_group_with_clips_of_another_group_raises(official, stranger):
    (official / "slow_testset.txt").write_text(f"{stranger}\n")
    with pytest.raises(DataError, match=f"slow .*{stranger}"):
        open_small(official, split="test")


def test_a_clip_in_two_groups_raises(official):
    (official / "slow_testset.txt").write_text("00001/0266\n")
    (official / "medium_testset.txt").write_text("00001/0266\n")
    with pytest.raises(DataError, match=r"medium .*00001/0266"):
        open_small(official, split="test")


@pytest.mark.parametrize("split", [None, "val"])
def test_a_split_is_required(official, split):
    with pytest.raises(ConfigError, match=r"split: .*got (None|'val')"):
        open_small(official, split=split)


def test_missing_short_and_malformed_lists_raise(official):
    path = official / "sep_testlist.txt"
    path.write_text("00001/0266\n00001/0268\n")
    with pytest.raises(DataError, match=r"sep_testlist\.txt: want 3 clips, got 2"):
        open_small(official, split="test")
    path.write_text("00001/0266\n00001/0268\n00001/0266\n")
    with pytest.raises(DataError, match="names 00001/0266 twice"):
        open_small(official, split="test")
    for line in ("../../../etc/passwd", "00001/0266/im4.png", "00001/0266 5 (256,448,3)", "version https://git-lfs"):
        path.write_text(f"00001/0266\n{line}\n")
        with pytest.raises(DataError, match=r"sep_testlist\.txt: line 2 .*00001/0001"):
            open_small(official, split="test")
    path.unlink()
    with pytest.raises(DataError, match=r"sep_testlist\.txt or meta_info_Vimeo90K_test_GT\.txt"):
        open_small(official, split="test")
    path.write_text("\n".join(TEST))
    with pytest.raises(DataError, match="want 7824 clips, got 3"):
        open_set("vimeo90k", official, split="test")


def test_missing_clips_of_the_list_are_named(official, tmp_path):
    shutil.rmtree(tmp_path / "vimeo_septuplet_matlabLRx4" / "sequences" / "00002")
    with pytest.raises(DataError, match=r"LRx4/sequences: 2 of 4 .*00002/0001, 00002/0003"):
        open_small(official, split="train", low="vimeo_septuplet_matlabLRx4")
    shutil.rmtree(official / "sequences" / "00001" / "0002")
    with pytest.raises(DataError, match=r"1 of 4 .*00001/0002"):
        open_small(official, split="train")


def test_faults_of_a_clip_raise_when_it_is_read(official, tmp_path):
    (official / "sequences" / "00001" / "0268" / "im5.png").unlink()
    Image.new("RGB", (56, 30)).save(official / "sequences" / "00003" / "0001" / "im4.png")
    (tmp_path / "vimeo_septuplet_matlabLRx4" / "sequences" / "00001" / "0268" / "im7.png").unlink()
    found = open_small(official, split="test")
    with pytest.raises(DataError, match=r"00001/0268: im5 .*im1 to im7"):
        found["00001/0268"].high()
    with pytest.raises(DataError, match=r"00003/0001: frame 3: want 56x32,.* got 56x30"):
        found["00003/0001"].high(3, 4)


def test_clips_with_im4_alone_raise(official):
    for number in (1, 2, 3, 5, 6, 7):
        (official / "sequences" / "00001" / "0266" / f"im{number}.png").unlink()
    with pytest.raises(DataError, match="im1, im2, im3, im5, im6, im7"):
        open_small(official, split="test")


def test_low_resolution_in_place_of_the_high_raises(official):
    with pytest.raises(DataError, match="448x256, got 56x32"):
        open_set("vimeo90k", official, split="test", whole=ExpectedLists(clips=SMALL.clips, groups={}, size=(448, 256)))


def test_own_septuplets_are_a_dataset(official):
    found = open_set("septuplets", official, split="train", targets="all")
    assert (found.name, len(found), found.clips[0].size) == ("vimeo_septuplet train", 4, (56, 32))
    (official / "sep_trainlist.txt").write_text("\n")
    with pytest.raises(DataError, match=r"sep_trainlist\.txt"):
        open_set("septuplets", official, split="train")
