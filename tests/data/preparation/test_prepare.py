"""Preparation: every frame of the footage is known, so every frame of the set is; killed at any moment, it goes on."""

import errno
import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.footage import HEIGHT, SHOTS, WIDTH, pan, save, write_clip, write_shots
from workbench.cli import main
from workbench.data.datasets.clip_set import VideoFile
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import degrade, downscale_bi
from workbench.data.preparation import prepare as preparation
from workbench.data.preparation.manifest import MANIFEST, WORK, PrepareSettings, inside, read_manifest
from workbench.data.preparation.prepare import prepare
from workbench.data.preparation.sources import Tile, splits, tiles
from workbench.data.sampling.arrays import GrowingArray, open_arrays
from workbench.data.sampling.shards import open_shards, read_sample, read_samples
from workbench.errors import BusyError, ConfigError, DataError, UnknownNameError, VideoError

RAW = PrepareSettings(downscale="1", validation=("cliff",))
FORMS = ("arrays", "folders", "shards")


def small(form, **changes):
    """Settings for tiny frames: whole ones for arrays, one tile of 32x24 in the middle otherwise."""
    crop = {} if form == "arrays" else {"tile_size": "48x40"}
    return PrepareSettings(**{"format": form, "downscale": "1", "validation": ("cliff",), **crop, **changes})


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    return write_shots(tmp_path_factory.mktemp("footage") / "shots")


@pytest.fixture(scope="module")
def whole(shots, tmp_path_factory):
    """Form to a folder that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    for form in FORMS:
        prepare([shots], root / form, small(form))
    return root


# -- what comes of it -----------------------------------------------------------------------------------------------


def test_arrays_hold_the_frames_of_each_stretch(whole):
    pairs = open_arrays(whole / "arrays")
    wanted = [SHOTS["alley"][:14], SHOTS["beach"][:7], SHOTS["beach"][9:23]]
    assert len(pairs) == 3
    for pair, frames in zip(pairs, wanted, strict=True):
        high = np.stack(frames)[:, :, :60]  # 64 columns are no multiple of 12
        assert np.array_equal(pair.high, high)
        assert np.array_equal(pair.low, degrade(high, "bi", 4))
    held_out = open_arrays(whole / "arrays", "validation")
    assert np.array_equal(held_out[0].high, np.stack(SHOTS["cliff"][:7])[:, :, :60])


def test_folders_are_a_set_of_septuplets(whole):
    found = open_set("septuplets", whole / "folders", low="low", split="train")
    assert found.degradation == "bi"
    assert [clip.name for clip in found] == ["00001/0001", "00001/0002", "00002/0001", "00002/0002", "00002/0003"]
    starts = [("alley", 0), ("alley", 7), ("beach", 0), ("beach", 9), ("beach", 16)]
    for clip, (name, first) in zip(found, starts, strict=True):
        high = np.stack(SHOTS[name][first : first + 7])[:, 4:44, 8:56]
        assert np.array_equal(clip.high(), high)
        assert np.array_equal(clip.low(), degrade(high, "bi", 4))
    held_out = open_set("septuplets", whole / "folders", split="test")
    assert [clip.name for clip in held_out] == ["00003/0001"]


def test_shards_hold_the_same_septuplets(whole):
    shards = open_shards(whole / "shards")
    assert [shard.path.name for shard in shards] == ["train-alley-000.tar", "train-beach-000.tar"]
    found = {sample["__key__"]: read_sample(sample) for shard in shards for sample in read_samples(shard.path)}
    assert list(found) == [
        "alley-0000000-0", "alley-0000007-0", "beach-0000000-0", "beach-0000009-0", "beach-0000016-0"
    ]  # fmt: skip
    high = np.stack(SHOTS["beach"][9:16])[:, 4:44, 8:56]
    assert np.array_equal(found["beach-0000009-0"].high, high)
    assert np.array_equal(found["beach-0000009-0"].low, degrade(high, "bi", 4))


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_accounts_for_every_frame_and_file(whole, form):
    manifest = read_manifest(whole / form)
    beach = next(source for source in manifest.sources if source.name == "beach")
    assert dict(beach.counts) == {
        "frames": 24, "cuts": 1, "gaps": 0, "black": 0, "repeated": 0, "still": 0, "rest": 3, "still_tiles": 0
    }  # fmt: skip
    assert (beach.septuplets, beach.size, beach.split) == (3, (WIDTH, HEIGHT), "train")
    assert (manifest.septuplets("train"), manifest.septuplets("validation")) == (5, 1)
    named = set(manifest.files) | {path for source in manifest.sources for path in source.files}
    assert named == content(whole / form).keys() - {MANIFEST}
    assert str(whole) not in (whole / form / MANIFEST).read_text()


def test_shrinking_is_that_of_the_bi_protocol(shots, tmp_path):
    prepare([shots / "alley"], tmp_path / "set", PrepareSettings(validation_share=0))
    (pair,) = open_arrays(tmp_path / "set")
    wanted = downscale_bi(np.stack(SHOTS["alley"][:14]), 2)[:, :24, :24]
    assert pair.high.shape == (14, 24, 24, 3)
    assert np.abs(pair.high.astype(int) - wanted).max() <= 1  # float32 here, doubles there
    assert (pair.high != wanted).mean() < 1e-3


def test_a_video_and_a_folder_of_its_frames_are_worth_the_same(tmp_path):
    clip = write_clip(tmp_path / "take.mp4", pan(15))
    save(tmp_path / "frames", VideoFile(clip).stream())
    for path, out in ((clip, "one"), (tmp_path / "frames", "two")):
        prepare([path], tmp_path / out, PrepareSettings(downscale="1", validation_share=0))
    (one,), (two,) = open_arrays(tmp_path / "one"), open_arrays(tmp_path / "two")
    assert np.array_equal(one.high, two.high)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_taken_across_missing_frame_numbers(tmp_path, form, caplog):
    """20 frames of one shot without 9 to 11; they hardly move, so that no cut is found there: 9 and 8 are left."""
    frames = pan(20, step=1)
    folder = save(tmp_path / "shot", frames)
    for number in (9, 10, 11):
        (folder / f"{number:04d}.png").unlink()
    manifest = prepare([folder], tmp_path / "set", small(form, validation=(), validation_share=0))
    (source,) = manifest.sources
    assert (source.gaps, source.counts["gaps"], source.counts["cuts"]) == ("missing frames 9 to 11 (3)", 1, 0)
    assert source.counts["frames"] == 17
    assert "shot: missing frames 9 to 11 (3)" in caplog.text
    assert read_manifest(tmp_path / "set") == manifest
    assert [chunk.first for chunk in source.chunks] == ([0] if form == "shards" else [0, 9])
    if form == "arrays":
        for pair, first in zip(open_arrays(tmp_path / "set"), (0, 12), strict=True):
            assert np.array_equal(pair.high, np.stack(frames[first : first + 7])[:, :, :60])
    if form == "shards":
        (shard,) = open_shards(tmp_path / "set")
        assert [sample["__key__"] for sample in read_samples(shard.path)] == ["shot-0000000-0", "shot-0000009-0"]


def test_a_set_made_before_gaps_were_seen_is_made_again(tmp_path):
    folder = save(tmp_path / "shot", pan(20, step=1))
    (folder / "0009.png").unlink()
    settings = PrepareSettings(downscale="1", validation_share=0)
    prepare([folder], tmp_path / "set", settings)
    path = tmp_path / "set" / MANIFEST
    said = json.loads(path.read_text())
    del said["sources"][0]["gaps"]
    path.write_text(json.dumps(said))
    assert read_manifest(tmp_path / "set").sources[0].gaps == ""
    assert prepare([folder], tmp_path / "set", settings).sources[0].gaps == "missing frame 9"


def test_a_constant_stride_is_a_lower_frame_rate(tmp_path):
    folder = save(tmp_path / "shot", pan(15))
    for number in range(1, 15, 2):
        (folder / f"{number:04d}.png").unlink()
    (source,) = prepare([folder], tmp_path / "set", PrepareSettings(downscale="1", validation_share=0)).sources
    assert (source.gaps, source.septuplets) == ("", 1)


def test_a_transparent_image_is_refused_before_the_work(tmp_path):
    folder = save(tmp_path / "shot", pan(9))
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)).save(folder / "0008.png")
    with pytest.raises(VideoError, match=r"0008\.png: 100.0% of it is transparent"):
        prepare([folder], tmp_path / "set", PrepareSettings(downscale="1", validation_share=0))
    assert not (tmp_path / "set").exists()


def test_tiles_that_stand_still_are_left_out(tmp_path):
    """The left half of the image never moves."""
    still = pan(1, seed=7)[0][:, :32]
    save(tmp_path / "half", [np.concatenate([still, frame[:, 32:]], axis=1) for frame in pan(15)])
    settings = PrepareSettings(format="shards", downscale="1", tile_size="32x48", validation_share=0)
    manifest = prepare([tmp_path / "half"], tmp_path / "set", settings)
    assert manifest.sources[0].counts["still_tiles"] == 2
    (shard,) = open_shards(tmp_path / "set")
    assert [sample["__key__"] for sample in read_samples(shard.path)] == ["half-0000000-1", "half-0000007-1"]


def test_overlapping_septuplets(shots, tmp_path):
    manifest = prepare([shots], tmp_path / "set", small("shards", stride=3))
    assert [source.septuplets for source in manifest.sources] == [3, 1 + 3, 1]  # of 14; of 7 and 14; of 7 frames


def test_the_contact_sheet_shows_every_septuplet_in_the_colour_of_its_split(whole):
    for form in FORMS:
        with Image.open(whole / form / "contact_sheet.png") as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        bars = {
            split: (pixels == np.array(colour)).all(-1).sum() // (176 * 5)
            for split, colour in (("train", (59, 111, 182)), ("validation", (217, 130, 43)))
        }
        assert bars == {"train": 5, "validation": 1}
    middle = np.asarray(Image.fromarray(np.ascontiguousarray(SHOTS["alley"][3][4:44, 8:56])).resize((176, 147), 4))
    assert np.array_equal(pixels[27 : 27 + 147, 6 : 6 + 176], middle)


# -- done is done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_second_run_changes_nothing(whole, shots, form):
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (whole / form).rglob("*") if path.is_file()
    }
    stages = []
    manifest = prepare([shots], whole / form, small(form), observe=lambda progress: stages.append(progress.stage))
    assert manifest == read_manifest(whole / form)
    assert set(stages) == {"inspecting"}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert not (whole / form / WORK).exists()


class _At:
    """Kills its process at the n-th word of progress."""

    def __init__(self, number):
        self.left = number

    def __call__(self, progress):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("form", FORMS)
def test_killed_at_any_moment_and_started_again_it_ends_equal(whole, shots, tmp_path, form):
    """3 looks, 16 + 24 + 8 frames, 1 word at the end; each time the same folder goes on a little."""
    fork = multiprocessing.get_context("fork")
    for moment in (3, 12, 3 + 20, 3 + 24 + 4, 3 + 8):
        worker = fork.Process(
            target=prepare, args=([shots], tmp_path / "set", small(form)), kwargs={"observe": _At(moment)}
        )
        worker.start()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        with pytest.raises(DataError, match="incomplete; run the same `workbench prepare` again"):
            read_manifest(tmp_path / "set")
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == content(whole / form)


def test_what_is_done_is_not_done_again(shots, tmp_path):
    def stop(progress):
        if progress.source == "beach" and progress.frames > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([shots], tmp_path / "set", RAW, observe=stop)
    assert {path.name for path in (tmp_path / "set").rglob("*.npy")} == {"alley-000.npy", "alley.npy"}
    seen = []
    prepare([shots], tmp_path / "set", RAW, observe=seen.append)
    read = [progress for progress in seen if progress.stage == "preparing"]
    assert {progress.source for progress in read} == {"beach", "cliff"}
    assert {progress.expected for progress in read} == {24 + 8}
    assert [progress.frames for progress in read] == list(range(24 + 8))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_damaged_is_made_again(whole, shots, tmp_path, form):
    shutil.copytree(whole / form, tmp_path / "set")
    broken = next(
        path for path in sorted((tmp_path / "set").rglob("*"))
        if path.as_posix().endswith("sequences/00002/0002/im3.png")
        or ("beach" in path.name and path.parent.name != "motion")
    )  # fmt: skip
    raw = bytearray(broken.read_bytes())
    raw[-300] ^= 1
    broken.write_bytes(raw)
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == content(whole / form)


@pytest.mark.parametrize("form", FORMS)
def test_footage_comes_and_goes(whole, shots, tmp_path, form):
    prepare([shots / "beach", shots / "cliff"], tmp_path / "set", small(form))
    (tmp_path / "set" / "notes.txt").write_text("mine")
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == {**content(whole / form), "notes.txt": b"mine"}
    two = prepare([shots / "alley", shots / "cliff"], tmp_path / "set", small(form))
    assert set(content(tmp_path / "set")) == {
        MANIFEST, "notes.txt", *two.files, *(path for source in two.sources for path in source.files)
    }  # fmt: skip


# -- splits and tiles -----------------------------------------------------------------------------------------------


def test_a_source_keeps_its_split_when_others_come():
    names = [f"clip{number}" for number in range(200)]
    settings = PrepareSettings(validation_share=0.25)
    all_of_them = splits(names, settings)
    assert splits(names[:150], settings) == {name: all_of_them[name] for name in names[:150]}
    assert 30 <= list(all_of_them.values()).count("validation") <= 70  # 50 expected, standard deviation 6
    assert list(splits(["a", "b", "c"], PrepareSettings(validation_share=1e-9)).values()).count("validation") == 1
    assert splits(["a"], PrepareSettings()) == {"a": "train"}
    assert set(splits(names, PrepareSettings(validation_share=0)).values()) == {"train"}


def test_splits_that_cannot_be():
    with pytest.raises(UnknownNameError, match="no source 'clif'; did you mean 'cliff'"):
        splits(["cliff", "alley"], PrepareSettings(validation=("clif",)))
    with pytest.raises(DataError, match="got all held out"):
        splits(["cliff"], PrepareSettings(validation=("cliff",)))


def test_tiles_by_hand():
    assert tiles(30, 50, (20, 10)) == [
        Tile(top, left, 10, 20) for top in (0, 10, 20) for left in (5, 25)
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="30x20 is smaller than 32x8"):
        tiles(20, 30, (32, 8))


@pytest.mark.parametrize(
    ("height", "width", "shrink"), [(480, 640, 1), (540, 960, 2), (720, 1280, 2), (1080, 1920, 3), (200, 200, 1)]
)
def test_shrink_auto_leaves_the_size_of_vimeo(tmp_path, height, width, shrink):
    save(tmp_path / "clip", [np.zeros((height, width, 3), np.uint8)] * 2)
    settings = PrepareSettings(downscale="auto", validation_share=0)
    (found,) = preparation.find_sources([tmp_path / "clip"], tmp_path / "set", settings, lambda *_: None)
    assert (found.downscale, found.frames, found.size) == (shrink, 2, (width, height))


# -- what cannot be prepared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"format": "lmdb"}, "format: want one of arrays, folders, shards, got 'lmdb'"),
        ({"downscale": "4"}, "downscale: want one of auto, 1, 2, 3"),
        ({"scale": 5}, "scale: want 2, 3 or 4, got 5"),
        ({"degradation": "bd_tecogan", "scale": 2}, "no rule for x2"),
        ({"stride": 3}, "stride: want 1 or more, and 7 for arrays"),
        ({"tile_size": "448"}, "tile_size: want WIDTHxHEIGHT, for example 448x256, or whole; got '448'"),
        ({"tile_size": "448x254"}, "tile_size: .*got 448x254; take 448x252"),
        ({"validation_share": 1}, "validation_share: want 0 or more and less than 1"),
    ],
)
def test_settings_that_cannot_work(settings, pattern):
    with pytest.raises(ConfigError, match=pattern):
        PrepareSettings(**settings)


def test_vimeos_size_is_cut_to_what_three_divides():
    assert PrepareSettings(format="folders").tile_shape == (448, 256)
    assert PrepareSettings(format="folders", scale=3).tile_shape == (447, 255)
    assert PrepareSettings().tile_shape is None


def test_footage_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing.mp4: no such file or folder"):
        prepare([tmp_path / "nothing.mp4"], tmp_path / "set", RAW)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: want images or video files"):
        prepare([tmp_path / "empty"], tmp_path / "set", RAW)
    with pytest.raises(DataError, match="footage: want video files"):
        prepare([], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_image_of_another_size_and_a_broken_one_are_named(tmp_path, when):
    number = {"first": 0, "later": 9}[when]
    save(tmp_path / "mixed" / "clip", pan(16))
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(tmp_path / "mixed" / "clip" / "0009.png")
    save(tmp_path / "broken" / "clip", pan(16))
    path = tmp_path / "broken" / "clip" / f"{number:04d}.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VideoError, match=r"0009.png: 66x48, but the images before it are 64x48"):
        prepare([tmp_path / "mixed"], tmp_path / "set", PrepareSettings(downscale="1"))
    with pytest.raises(VideoError, match=f"{number:04d}.png"):
        prepare([tmp_path / "broken"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert not (tmp_path / "set").exists()


def test_a_damaged_video_is_refused_or_its_good_frames_are_kept(tmp_path):
    clip = write_clip(tmp_path / "take.mkv", pan(40))
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.7)])
    settings = PrepareSettings(downscale="1", validation_share=0)
    with pytest.raises(VideoError, match=r"take.mkv: damaged or incomplete"):
        prepare([clip], tmp_path / "set", settings)
    assert not (tmp_path / "set").exists()
    manifest = prepare([clip], tmp_path / "set", settings, on_damage="keep")
    assert "damaged or incomplete" in manifest.sources[0].damage
    assert str(tmp_path) not in manifest.sources[0].damage
    assert 7 <= len(open_arrays(tmp_path / "set")[0].high) < 40


def test_frames_that_are_too_small_are_named_with_a_way_out(shots, tmp_path):
    with pytest.raises(ConfigError, match=r"alley: 64x48, .*32x24 is smaller than 448x256; .*--downscale auto"):
        prepare([shots], tmp_path / "set", PrepareSettings(format="folders"))
    with pytest.raises(ConfigError, match=r"32x24 is smaller than 64x12"):
        prepare([shots], tmp_path / "set", PrepareSettings(tile_size="64x12"))


def test_nothing_usable(tmp_path):
    save(tmp_path / "black", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 9)
    with pytest.raises(DataError, match="of 9 frames 9 are black"):
        prepare([tmp_path / "black"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert not (tmp_path / "set").exists()


def test_two_sources_of_one_name(shots, tmp_path):
    save(tmp_path / "alley", pan(8))
    with pytest.raises(DataError, match="would both be called alley; rename one"):
        prepare([shots, tmp_path / "alley"], tmp_path / "set", RAW)
    save(tmp_path / ("a" * 80), pan(8))
    with pytest.raises(DataError, match="is too long a name; rename it to 64 letters"):
        prepare([tmp_path / ("a" * 80)], tmp_path / "set", PrepareSettings(downscale="1"))


def test_names_that_files_cannot_have(tmp_path):
    save(tmp_path / "day 1: \N{SNOWMAN} (v1.2)", pan(8))
    manifest = prepare([tmp_path / "day 1: \N{SNOWMAN} (v1.2)"], tmp_path / "set", PrepareSettings(downscale="1"))
    assert manifest.sources[0].name == "day_1_v1_2_"


def test_a_folder_of_something_else_is_left_alone(shots, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="contains files of another origin"):
        prepare([shots], tmp_path / "set", RAW)
    assert content(tmp_path / "set") == {"thesis.txt": b"mine"}
    with pytest.raises(DataError, match=r"thesis.txt: want a folder to write to, got a file"):
        prepare([shots], tmp_path / "set" / "thesis.txt", RAW)
    with pytest.raises(DataError, match="outside of the footage"):
        prepare([shots], shots / "set", RAW)


def test_other_settings_never_overwrite_a_set(whole, shots):
    before = content(whole / "arrays")
    with pytest.raises(DataError, match=r"prepared with other settings \(scale 4, now 2\); choose another folder"):
        prepare([shots], whole / "arrays", small("arrays", scale=2))
    assert content(whole / "arrays") == before


def test_one_at_a_time(shots, tmp_path):
    (tmp_path / "set" / WORK).mkdir(parents=True)
    with FileLock(tmp_path / "set" / WORK / "lock"), pytest.raises(BusyError, match="another job"):
        prepare([shots], tmp_path / "set", RAW)


def test_a_disk_that_is_too_small_is_found_out_first(shots, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(DataError, match="of free space"):
        prepare([shots], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("after", [0, 3])
def test_a_disk_that_fills_up_leaves_whole_sources_only(whole, shots, tmp_path, monkeypatch, after):
    left, add = [2 * after], GrowingArray.add

    def full(self, frames):
        left[0] -= 1
        if left[0] < 0:
            with self.path.open("ab") as file:
                file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(GrowingArray, "add", full)
        with pytest.raises(
            DataError, match=r"cannot be written \(No space left on device\); free space .* run the same"
        ):
            prepare([shots], tmp_path / "set", small("arrays"))
    if after:
        assert {path.name for path in (tmp_path / "set").rglob("*.npy")} == {"alley-000.npy", "alley.npy"}
    else:
        assert not (tmp_path / "set").exists()
    prepare([shots], tmp_path / "set", small("arrays"))
    assert content(tmp_path / "set") == content(whole / "arrays")


def test_a_place_that_cannot_be_written(shots, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(DataError, match=r"set: cannot be written \(Read-only file system\); .*choose another folder"):
        prepare([shots], tmp_path / "set", RAW)
    assert not (tmp_path / "set").exists()


# -- hostile manifests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "high/../../x.npy", "c:\\x.npy", "..\\x", ""])
def test_paths_that_lead_out_of_the_folder(path):
    with pytest.raises(DataError, match="leads out of the folder"):
        inside(path)


def test_a_manifest_is_checked_before_it_is_believed(whole, tmp_path):
    said = json.loads((whole / "arrays" / MANIFEST).read_text())

    def refused(change, pattern):
        other = json.loads(json.dumps(said))
        change(other)
        (tmp_path / MANIFEST).write_text(json.dumps(other))
        with pytest.raises(DataError, match=pattern):
            read_manifest(tmp_path)

    refused(lambda m: m["sources"][0]["chunks"][0].update(high="../../secret.npy"), "leads out of the folder")
    refused(lambda m: m["sources"][0]["files"].update({"/x": [1, "0"]}), "leads out of the folder")
    refused(lambda m: m["sources"][0].update(split="test"), "split: want train or validation, got .test.")
    refused(lambda m: m.update(format=3), "want format 1 or 2, got 3")
    refused(lambda m: m.pop("sources"), "cannot be read")
    refused(lambda m: m["settings"].update(scale=9), "scale: want 2, 3 or 4")
    (tmp_path / MANIFEST).write_text("[1, 2")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"not a prepared folder: it has no manifest.json"):
        read_manifest(tmp_path)


# -- manifests of format 1 ------------------------------------------------------------------------------------------


def as_format_1(saved):
    """Return a manifest with the names of format 1."""
    old = json.loads(json.dumps(saved)) | {"format": 1}
    for new, name in (("format", "form"), ("downscale", "shrink"), ("tile_size", "crop")):
        old["settings"][name] = old["settings"].pop(new)
    for source in old["sources"]:
        source["shrink"], source["pieces"] = source.pop("downscale"), source.pop("chunks")
    return old


@pytest.mark.parametrize("form", FORMS)
def test_a_manifest_of_format_1_is_read(whole, tmp_path, form):
    saved = json.loads((whole / form / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(as_format_1(saved)))
    assert read_manifest(tmp_path) == read_manifest(whole / form)


def test_a_folder_of_format_1_is_continued(shots, whole, tmp_path):
    shutil.copytree(whole / "arrays", tmp_path / "set")
    saved = json.loads((tmp_path / "set" / MANIFEST).read_text())
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(as_format_1(saved)))
    assert prepare([shots], tmp_path / "set", small("arrays")) == read_manifest(whole / "arrays")


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command(shots, tmp_path, capsys):
    command = ["prepare", str(shots), "--out", str(tmp_path / "set"), "--downscale", "1", "--validation", "cliff"]
    assert main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "5 septuplets to train on, 1 held out" in said.out
    assert "contact_sheet.png" in said.err
    assert main([*command, "--threads", "1", "--scale", "2"]) == 2
    assert "prepared with other settings" in capsys.readouterr().err
