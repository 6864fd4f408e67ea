"""Cached teacher outputs give the losses of the live teacher; a cache with another fingerprint is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.distillation_config import Distillation, OtherLosses
from workbench.errors import ConfigError, FolderError
from workbench.training.teacher_cache import TeacherCache
from workbench.training.worker import prepare_run, work


@pytest.fixture(scope="session")
def kept(small, tmp_path_factory):
    """The settings of a run with a complete cache, and the run."""
    home = tmp_path_factory.mktemp("kept")
    config = replace(
        small,
        steps=4,
        data=replace(small.data, num_fixed_crops=3, augmentations_per_crop=2, batch_size=2),
        distillation=Distillation(memory_channels=2, schedule="constant", losses=OtherLosses(output_l1=0.5)),
        teacher_cache_dir=str(home / "cache"),
    )
    run = prepare_run(home / "first", config)
    work(run)
    return config, run


def ran(config, folder):
    run = prepare_run(folder, config)
    work(run)
    return run.metrics()


def test_cached_and_live_losses_are_equal_within_rounding(kept, tmp_path):
    """Frames are rounded to 1/255 and clamped, maps and cells to eleven bits; at step 1 nothing else differs."""
    config, run = kept
    live = ran(replace(config, teacher_cache_dir="", steps=1), tmp_path / "live")[0]["terms"]
    ours = run.metrics()[0]["terms"]
    assert ours["reconstruction"] == live["reconstruction"]
    assert ours["output_l1"] == pytest.approx(live["output_l1"], abs=0.5 / 255)
    assert ours["spatial"] == pytest.approx(live["spatial"], rel=2e-3)
    assert ours["temporal"] == pytest.approx(live["temporal"], rel=2e-3)


def test_the_teacher_is_not_run_again(kept, tmp_path, monkeypatch):
    from workbench.models.edvr import EDVR

    config, run = kept
    asked = []
    real = EDVR.forward

    def note(self, clip, return_features=None):
        asked.append(clip.shape)
        return real(self, clip, return_features)

    monkeypatch.setattr(EDVR, "forward", note)
    again = ran(config, tmp_path / "again")
    assert [row["terms"] for row in again] == [row["terms"] for row in run.metrics()]
    assert all(shape[-1] != config.data.crop_size for shape in asked), "only the validation clip was shown to it"


def test_runs_of_other_seeds_share_a_cache(kept, tmp_path):
    """The seed decides which of the fixed crops come when, and not what they are."""
    config, run = kept
    cache = run.folder.parent / "cache"
    before = (cache / "cache.json").read_bytes()
    other = ran(replace(config, seed=7, teacher_cache_dir=str(cache)), tmp_path / "other")
    assert [row["terms"] for row in other] != [row["terms"] for row in run.metrics()]
    assert (cache / "cache.json").read_bytes() == before


def test_a_run_that_needs_less_reads_the_same_cache(kept, tmp_path):
    """Frames alone, or maps alone, from a cache of frames, maps and cells: the same as from a cache of their own."""
    config, _ = kept
    before = (Path(config.teacher_cache_dir) / "cache.json").read_bytes()
    for change in ({"spatial_weight": 0.0, "temporal_weight": 0.0}, {"temporal_weight": 0.0, "losses": OtherLosses()}):
        less = replace(config, distillation=replace(config.distillation, **change))
        weight = less.distillation.spatial_weight
        alone = replace(less, teacher_cache_dir=str(tmp_path / f"own{len(change)}{weight}"))
        own = ran(alone, tmp_path / f"own-run-{weight}")
        shared = ran(less, tmp_path / f"shared-run-{less.distillation.spatial_weight}")
        assert [row["terms"] for row in shared] == [row["terms"] for row in own]
    assert (Path(config.teacher_cache_dir) / "cache.json").read_bytes() == before


def test_an_incomplete_cache_of_more_outputs_raises(kept, tmp_path):
    config, run = kept
    cache = tmp_path / "cache"
    shutil.copytree(run.folder.parent / "cache", cache)
    record = json.loads((cache / "cache.json").read_text())
    (cache / "cache.json").write_text(json.dumps(record | {"done": 1}))
    less = replace(config, distillation=replace(config.distillation, temporal_weight=0.0), teacher_cache_dir=str(cache))
    with pytest.raises(ConfigError, match="incomplete teacher cache"):
        work(prepare_run(tmp_path / "run", less))


def test_cached_arrays_are_small_and_typed(kept):
    config, run = kept
    folder = run.folder.parent / "cache"
    frames, maps = np.load(folder / "frames.npy"), np.load(folder / "maps.npy")
    side = 4 * config.data.crop_size
    assert (frames.dtype, frames.shape) == (np.uint8, (6, config.data.num_frames, side, side, 3))
    assert (maps.dtype, maps.shape) == (np.float16, (6, config.data.num_frames, side, side))
    assert np.load(folder / "cells.npy").dtype == np.float16
    record = json.loads((folder / "cache.json").read_text())
    assert (record["done"], record["clips"]) == (6, 6)


def test_a_killed_job_is_completed(kept, tmp_path):
    config, run = kept
    folder = tmp_path / "cache"
    shutil.copytree(run.folder.parent / "cache", folder)
    record = json.loads((folder / "cache.json").read_text())
    wanted = record["fingerprint"]
    (folder / "cache.json").write_text(json.dumps(record | {"done": 2}))
    with pytest.raises(FolderError, match="cache"):
        TeacherCache(folder, wanted)
    frames = np.lib.format.open_memmap(folder / "frames.npy", mode="r+")
    whole = frames.copy()
    frames[2:] = 0
    frames.flush()
    ran(replace(config, teacher_cache_dir=str(folder)), tmp_path / "on")
    assert np.array_equal(np.load(folder / "frames.npy"), whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: replace(c, data=replace(c.data, fixed_crops_seed=1)), "fixed_seed"),
        (lambda c: replace(c, distillation=replace(c.distillation, memory_seed=1)), "memory"),
        (lambda c: replace(c, data=replace(c.data, crop_size=9)), "crop_size"),
        (lambda c: replace(c, data=replace(c.data, augmentations_per_crop=1)), "augmentations_per_crop"),
        (lambda c: replace(c, distillation=replace(c.distillation, attention_kind="sum_abs")), "attention_kind"),
        (lambda c: replace(c, distillation=replace(c.distillation, memory_channels=3)), "memory"),
        (lambda c: replace(c, precision="bf16"), "precision"),
    ],
    ids=["fixed seed", "memory seed", "crop size", "augmentations", "attention kind", "memory", "precision"],
)
def test_a_cache_with_another_fingerprint_raises(kept, tmp_path, change, named):
    config, _ = kept
    with pytest.raises(ConfigError, match=f"cache was .*{named}"):
        ran(change(config), tmp_path / "other")


def test_a_cache_of_format_1_is_read(kept, tmp_path):
    _, run = kept
    folder = tmp_path / "cache"
    shutil.copytree(run.folder.parent / "cache", folder)
    record = json.loads((folder / "cache.json").read_text())
    wanted = record["fingerprint"]
    old = {"feature_layer": "tap", "spatial_features": "maps of", "attention_kind": "mapping", "crop_size": "crop",
           "num_frames": "frames", "augmentations_per_crop": "views"}  # fmt: skip
    fingerprint = {old.get(name, name): value for name, value in wanted.items()} | {"format": 1}
    fingerprint["teacher"] = {name: wanted["teacher"][name] for name in ("name", "scale", "skip")}  # as recorded then
    (folder / "cache.json").write_text(json.dumps(record | {"fingerprint": fingerprint}))
    assert TeacherCache(folder, wanted).folder == folder


def test_a_cache_of_another_teacher_raises(kept, tmp_path):
    from workbench.models.weights import load, save

    config, _ = kept
    other = load(config.teacher.weights)
    next(other.parameters()).data.add_(1e-3)
    save(other, tmp_path / "other.safetensors")
    changed = replace(config, teacher=replace(config.teacher, weights=str(tmp_path / "other.safetensors")))
    with pytest.raises(ConfigError, match="teacher weights"):
        ran(changed, tmp_path / "run")


def test_a_cache_of_other_clips_raises(kept, tmp_path):
    config, _ = kept
    footage = config.data.clips[0].removesuffix("[0:6]")
    with pytest.raises(ConfigError, match="another one"):
        ran(replace(config, data=replace(config.data, clips=(f"{footage}[1:7]",))), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, data=replace(c.data, num_fixed_crops=0)), "only fixed crops"),
        (
            lambda c: replace(c, distillation=replace(c.distillation, memory_mode="trained")),
            "memory_mode frozen.*trained",
        ),
        (lambda c: replace(c, distillation=replace(c.distillation, losses=OtherLosses(fitnets=1.0))), "fitnets"),
    ],
    ids=["fresh crops", "trained memory", "whole features"],
)
def test_an_impossible_cache_raises_before_the_run(kept, change, message):
    with pytest.raises(ConfigError, match=message):
        change(kept[0])
