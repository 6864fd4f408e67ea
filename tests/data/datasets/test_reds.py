import shutil
from functools import partial

import numpy as np
import pytest

from tests import footage
from tests.specimens import moving_clip
from workbench.data.datasets.reds import OFFICIAL4, PARTS, REDS4, TRAINING, VALIDATION, ExpectedShape
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import degrade
from workbench.errors import DataError, UnknownNameError

HIGH = moving_clip(3, 36, 64)
LOW = degrade(HIGH, "bi", 4)
SMALL = ExpectedShape(frames=3, size=(64, 36))


save = partial(footage.save, names="{:08d}.png")


def fill(root, numbers, high, low):
    for number in numbers:
        for kind, frames in ((high, HIGH), (low, LOW)):
            place = root / kind / f"{number:03d}"
            place.parent.mkdir(parents=True, exist_ok=True)
            if (root / kind / "stored").is_dir():
                place.symlink_to(root / kind / "stored")
            else:
                save(root / kind / "stored", frames)
                place.symlink_to(root / kind / "stored")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The numbering of the authors: 240 training and 30 validation clips, all alike."""
    root = tmp_path_factory.mktemp("REDS")
    fill(root, range(240), "train_sharp", "train_sharp_bicubic/X4")
    fill(root, range(30), "val_sharp", "val_sharp_bicubic/X4")
    return root


@pytest.fixture(scope="module")
def regrouped(tmp_path_factory):
    """BasicSR's numbering: the validation clips are 240 to 269 among the others."""
    root = tmp_path_factory.mktemp("REDS")
    fill(root, range(270), "train_sharp", "train_sharp_bicubic/X4")
    return root


def names(clips):
    return [clip.name for clip in clips]


def test_the_splits_have_the_published_sizes():
    assert (len(TRAINING), len(VALIDATION)) == (240, 30)
    assert {name: len(part) for name, part in PARTS.items()} == {"train": 240, "without_reds4": 236, "regrouped": 266}
    assert all(number in TRAINING for number in REDS4)
    assert all(number in VALIDATION for number in OFFICIAL4)
    assert (ExpectedShape().frames, ExpectedShape().size) == (100, (1280, 720))


def test_both_numberings_give_the_same_clips(official, regrouped):
    for root in (official, regrouped):
        assert names(open_set("reds4", root, whole=SMALL)) == ["000", "011", "015", "020"]
        assert names(open_set("reds_val", root, whole=SMALL)) == [str(number) for number in range(240, 270)]
        assert names(open_set("reds_val", root, part="official4", whole=SMALL)) == ["240", "241", "246", "257"]
        without = names(open_set("reds", root, part="without_reds4", whole=SMALL))
        assert len(without) == 236
        assert not {"000", "011", "015", "020"} & set(without)
        assert names(open_set("reds", root, part="regrouped", whole=SMALL))[-1] == "269"
    assert names(open_set("reds_val", official / "val_sharp", whole=SMALL))[0] == "240"


def test_validation_clip_240_is_000_of_its_folder(official, tmp_path):
    root = tmp_path / "REDS"
    shutil.copytree(official, root, symlinks=True)
    (root / "val_sharp" / "006").unlink()
    save(root / "val_sharp" / "006", HIGH[::-1])
    found = open_set("reds_val", root, whole=SMALL)
    assert np.array_equal(found["246"].high(), HIGH[::-1])
    assert np.array_equal(found["247"].high(), HIGH)


@pytest.mark.parametrize("numbering", ["official", "regrouped"])
@pytest.mark.parametrize(
    ("kind", "options", "count"),
    [("reds4", {}, 4), ("reds_val", {}, 30), ("reds", {}, 240), ("reds", {"part": "regrouped"}, 266)],
)
def test_low_resolution_of_the_dataset_is_used(request, numbering, kind, options, count):
    found = open_set(kind, request.getfixturevalue(numbering), low="X4", whole=SMALL, **options)
    assert (len(found), found.degradation) == (count, "bi")
    assert np.array_equal(found.clips[-1].low(1), LOW[1:])


def test_low_resolution_is_opened_by_path(official):
    assert open_set("reds4", official, low="train_sharp_bicubic/X4", whole=SMALL).degradation == "bi"
    assert open_set("reds_val", official, low="val_sharp_bicubic/X4", whole=SMALL).degradation == "bi"
    with pytest.raises(DataError, match=r"train_sharp_bicubic/BDx4.*val_sharp_bicubic/BDx4"):
        open_set("reds", official, part="regrouped", low="BDx4", whole=SMALL)
    with pytest.raises(DataError, match="want a folder BDx4 in it"):
        open_set("reds4", official, low="BDx4", whole=SMALL)


def test_reds4_in_the_layout_of_mmagic(tmp_path):
    for number in REDS4:
        save(tmp_path / "GT" / f"{number:03d}", HIGH)
        save(tmp_path / "sharp_bicubic" / f"{number:03d}", LOW)
    found = open_set("reds4", tmp_path, low="sharp_bicubic", whole=SMALL)
    assert (names(found), found.degradation) == (["000", "011", "015", "020"], "bi")


def test_an_incomplete_set_raises_with_the_names(official, tmp_path):
    root = tmp_path / "REDS"
    shutil.copytree(official, root, symlinks=True)
    (root / "train_sharp" / "011").unlink()
    for number, frames in ((15, HIGH[:2]), (20, HIGH[:, :32])):
        (root / "train_sharp" / f"{number:03d}").unlink()
        save(root / "train_sharp" / f"{number:03d}", frames)
    with pytest.raises(DataError) as error:
        open_set("reds4", root, whole=SMALL)
    assert "not the whole REDS4: 011 is missing, 015 has 2 of 3 frames, 020 is 64x32, not 64x36" in str(error.value)
    assert "train_sharp/000 to 239, and val_sharp/000 to 029 or train_sharp/240 to 269" in str(error.value)
    with pytest.raises(DataError, match="REDS train: 011"):
        open_set("reds", root, whole=SMALL)


def test_folders_without_reds_raise(tmp_path):
    with pytest.raises(DataError, match=r"no such folder.*train_sharp"):
        open_set("reds4", tmp_path / "nothing")
    with pytest.raises(DataError, match=r"000 .*007 .*232.*240 clips of 100 frames"):
        open_set("reds", tmp_path)


def test_unknown_parts_raise(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'trian'.*'train'"):
        open_set("reds", tmp_path, part="trian")
    with pytest.raises(UnknownNameError, match="'official5'"):
        open_set("reds_val", tmp_path, part="official5")
