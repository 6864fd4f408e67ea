"""Frames of prepared sets, compared with the known frames of their sources; the contact sheet; the command."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.preparation.prepared import FORMS, small
from tests.footage import SHOTS, pan, save, write_clip
from workbench.cli import main
from workbench.data.datasets.clip_set import VideoFile
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import degrade
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings, read_manifest
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.arrays import open_arrays
from workbench.data.sampling.shards import open_shards, read_sample, read_samples


def test_arrays_contain_the_frames_of_each_chunk(whole):
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


def test_shards_contain_the_same_septuplets(whole):
    shards = open_shards(whole / "shards")
    assert [shard.path.name for shard in shards] == ["train-alley-000.tar", "train-beach-000.tar"]
    found = {sample["__key__"]: read_sample(sample) for shard in shards for sample in read_samples(shard.path)}
    assert list(found) == [
        "alley-0000000-0", "alley-0000007-0", "beach-0000000-0", "beach-0000009-0", "beach-0000016-0"
    ]  # fmt: skip
    high = np.stack(SHOTS["beach"][9:16])[:, 4:44, 8:56]
    assert np.array_equal(found["beach-0000009-0"].high, high)
    assert np.array_equal(found["beach-0000009-0"].low, degrade(high, "bi", 4))


def test_downscaling_is_that_of_the_bi_protocol(shots, tmp_path):
    prepare([shots / "alley"], tmp_path / "set", PrepareSettings(validation_share=0))
    (pair,) = open_arrays(tmp_path / "set")
    wanted = degrade(np.stack(SHOTS["alley"][:14]), "bi", 2)[:, :24, :24]
    assert pair.high.shape == (14, 24, 24, 3)
    assert np.abs(pair.high.astype(int) - wanted).max() <= 1  # float32 here, doubles there
    assert (pair.high != wanted).mean() < 1e-3


def test_a_video_and_a_folder_of_its_frames_give_equal_sets(tmp_path):
    clip = write_clip(tmp_path / "take.mp4", pan(15))
    save(tmp_path / "frames", VideoFile(clip).stream())
    for path, out in ((clip, "one"), (tmp_path / "frames", "two")):
        prepare([path], tmp_path / out, PrepareSettings(downscale="1", validation_share=0))
    (one,), (two,) = open_arrays(tmp_path / "one"), open_arrays(tmp_path / "two")
    assert np.array_equal(one.high, two.high)


@pytest.mark.parametrize("form", FORMS)
def test_no_chunk_crosses_missing_frame_numbers(tmp_path, form, caplog):
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


def test_a_set_of_a_version_without_gaps_is_prepared_again(tmp_path):
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


def test_still_tiles_are_skipped(tmp_path):
    """The left half of the image never moves."""
    still = pan(1, seed=7)[0][:, :32]
    save(tmp_path / "half", [np.concatenate([still, frame[:, 32:]], axis=1) for frame in pan(15)])
    settings = PrepareSettings(format="shards", downscale="1", tile_size="32x48", validation_share=0)
    manifest = prepare([tmp_path / "half"], tmp_path / "set", settings)
    assert manifest.sources[0].counts["still_tiles"] == 2
    (shard,) = open_shards(tmp_path / "set")
    assert [sample["__key__"] for sample in read_samples(shard.path)] == ["half-0000000-1", "half-0000007-1"]


def test_a_stride_below_7_gives_overlapping_septuplets(shots, tmp_path):
    manifest = prepare([shots], tmp_path / "set", small("shards", stride=3))
    assert [source.septuplets for source in manifest.sources] == [3, 1 + 3, 1]  # of 14; of 7 and 14; of 7 frames


def test_the_contact_sheet_shows_every_septuplet_in_the_color_of_its_split(whole):
    for form in FORMS:
        with Image.open(whole / form / "contact_sheet.png") as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        bars = {
            split: (pixels == np.array(color)).all(-1).sum() // (176 * 5)
            for split, color in (("train", (59, 111, 182)), ("validation", (217, 130, 43)))
        }
        assert bars == {"train": 5, "validation": 1}
    middle = np.asarray(Image.fromarray(np.ascontiguousarray(SHOTS["alley"][3][4:44, 8:56])).resize((176, 147), 4))
    assert np.array_equal(pixels[27 : 27 + 147, 6 : 6 + 176], middle)


def test_the_command(shots, tmp_path, capsys):
    command = ["prepare", str(shots), "--out", str(tmp_path / "set"), "--downscale", "1", "--validation", "cliff"]
    assert main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "5 septuplets to train on, 1 held out" in said.out
    assert "contact_sheet.png" in said.err
    assert main([*command, "--threads", "1", "--scale", "2"]) == 2
    assert "prepared with other settings" in capsys.readouterr().err


def test_the_command_with_one_source_reports_that_nothing_is_held_out(tmp_path, capsys):
    save(tmp_path / "alley", SHOTS["alley"])
    command = ["prepare", str(tmp_path / "alley"), "--out", str(tmp_path / "set"), "--downscale", "1"]
    assert main([*command, "--threads", "1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "nothing is held out (one source" in said
    assert "--data.validation-clip" in said
