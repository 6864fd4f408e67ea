"""Trainings on clips from still images."""

import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from tests.footage import prepare_shards
from tests.training.interruptions import assert_resumed_equals_uninterrupted, losses
from workbench.cli import main
from workbench.config import Data, Network, RunConfig
from workbench.data.sampling.pool import PoolSettings, prepare_pool
from workbench.errors import ConfigError, DataError
from workbench.runs import Run, request_stop
from workbench.training.accelerator import make_accelerator
from workbench.training.data import open_data, open_motion
from workbench.training.estimate import estimate
from workbench.training.loop import Batch
from workbench.training.trainer import Trainer
from workbench.training.worker import prepare_run, work


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """Three images, just large enough for crops of 8."""
    folder = tmp_path_factory.mktemp("stills")
    y, x = np.mgrid[:200, :220].astype(float)
    for number in range(3):
        waves = [np.sin(x / (2 + number)) + np.cos(y / 3), np.sin((x + y) / 4), np.cos(x * y / 300)]
        Image.fromarray((np.stack(waves, -1) * 60 + 128).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def config(small, stills):
    """EDVR teaches VESPCN, one clip from stills and one of footage a step."""
    data = replace(small.data, stills=str(stills), stills_share=0.5, batch_size=2)
    return replace(small, steps=6, snapshot_every=6, data=data)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(config, tmp_path, workers):
    config = replace(config, data=replace(config.data, num_workers=workers))
    assert_resumed_equals_uninterrupted(config, tmp_path, 3)


def test_the_number_of_workers_does_not_matter(config, tmp_path):
    runs = [
        prepare_run(tmp_path / f"with{workers}", replace(config, data=replace(config.data, num_workers=workers)))
        for workers in (0, 1)
    ]
    assert [work(run) for run in runs] == ["finished"] * 2
    assert losses(runs[0]) == losses(runs[1])


def test_stills_alone_need_no_clips(config, tmp_path):
    data = replace(config.data, clips=(), stills_share=1.0)
    run = prepare_run(tmp_path / "alone", replace(config, steps=2, data=data))
    assert work(run) == "finished"
    assert run.record()["data"].keys() == {"data.stills", "data.validation_clip"}


def test_the_true_flow_reaches_the_training_step(config, monkeypatch):
    """In pieces too, on the device of the step, and only where it is known."""
    settings = replace(
        config,
        data=replace(config.data, batch_size=4),
        optimizer=replace(config.optimizer, gradient_accumulation_steps=2),
    )
    trainer = Trainer(settings, make_accelerator(device="cpu", gradient_accumulation_steps=2))
    first, second = islice(trainer._batches(0), 2)
    assert isinstance(first, Batch)
    assert first.flow is not None
    assert first.flow.to_next.shape == (2, 2, 2, 8, 8)
    assert first.flow.valid.tolist() == [True, True]
    assert second.flow is not None
    assert second.flow.valid.tolist() == [False, False]
    whole = trainer.sampler.at(1)
    assert torch.equal(torch.cat((first.low, second.low)), whole[0])
    arrived = []
    real = Batch.to
    monkeypatch.setattr(Batch, "to", lambda batch, device: arrived.append(real(batch, device)) or arrived[-1])
    next(trainer.steps(0))
    assert [batch.flow.valid.all().item() for batch in arrived] == [True, False]
    assert all(batch.flow.to_next.device == batch.low.device for batch in arrived)


def test_clips_alone_have_no_flow(small):
    trainer = Trainer(small, make_accelerator(device="cpu"))
    assert next(trainer._batches(0)).flow is None


def test_a_prepared_pool_is_used(config, stills, tmp_path):
    """Resumed exactly, its content recorded."""
    prepare_pool(stills, tmp_path / "pool", PoolSettings(sequences=4, crop_size=10, num_frames=3))
    config = replace(config, steps=4, data=replace(config.data, stills=str(tmp_path / "pool")))
    whole, run = (prepare_run(tmp_path / name, config) for name in ("whole", "run"))
    assert work(whole) == "finished"
    assert work(run, lambda step, _: request_stop(run) if step.number == 2 else None) == "stopped"
    assert work(run) == "finished"
    assert losses(run) == losses(whole)
    assert run.record()["data"]["data.stills"]["kind"] == "pool"


@pytest.fixture
def stopped(config, stills, tmp_path):
    """A run on stills of its own that stopped at step 2."""
    shutil.copytree(stills, tmp_path / "stills")
    data = replace(config.data, stills=str(tmp_path / "stills"))
    run = prepare_run(tmp_path / "runs" / "run", replace(config, steps=4, data=data))
    assert work(run, lambda step, _: request_stop(run) if step.number == 2 else None) == "stopped"
    return tmp_path


def resume(place, *args):
    return main(["train", "--resume", "run", "--runs", str(place / "runs"), *args])


def test_a_run_is_resumed_with_moved_stills(stopped):
    run = Run(stopped / "runs" / "run")
    assert run.record()["data"]["data.stills"]["files"] == 3
    (stopped / "stills").rename(stopped / "moved")
    assert resume(stopped) == 2
    assert resume(stopped, "--data.stills", str(stopped / "moved")) == 0
    assert run.status().state == "finished"
    assert run.config().data.stills == str(stopped / "moved")


@pytest.mark.parametrize("change", ["added", "changed"])
def test_other_stills_raise(stopped, change):
    path = stopped / "stills" / ("new.png" if change == "added" else "1.png")
    Image.fromarray(np.zeros((200, 220, 3), np.uint8)).save(path)
    run = Run(stopped / "runs" / "run")
    with pytest.raises(DataError, match=r"data\.stills: .*stills of 3 .*got stills of"):
        work(run)
    assert resume(stopped, "--other-data") == 0
    assert run.status().state == "finished"


def test_another_share_cannot_be_resumed(stopped, capsys):
    assert resume(stopped, "--data.stills-share", "0.25") == 2
    assert "data.stills_share" in capsys.readouterr().err


def test_a_folder_without_usable_images_raises_before_the_run(config, tmp_path):
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "empty" / "small.png")
    config = replace(config, data=replace(config.data, stills=str(tmp_path / "empty")))
    with pytest.raises(DataError, match=r"small\.png: 90x90, want 94"):
        prepare_run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_mixing_stills_with_shards_raises(config, tmp_path):
    data = replace(config.data, clips=(str(prepare_shards(tmp_path)),))
    with pytest.raises(DataError, match=r"data\.stills_share: .*shards.*--format arrays"):
        open_data(data, 0)
    assert open_data(replace(data, stills_share=0.0), 0).batch_size == 2
    assert open_data(replace(data, stills_share=1.0), 0).at(1)[2].valid.all()


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"data": {"stills_share": 1.5}}, r"data\.stills_share: want 0 to 1, got 1\.5"),
        ({"data": {"stills_share": -0.1}}, r"data\.stills_share: want 0 to 1"),
        ({"data": {"clips": ()}}, r"data\.clips: .*data\.stills"),
        ({"data": {"clips": (), "stills": "photos"}}, r"data\.clips: .*stills_share 1"),
        (
            {"data": {"stills": "photos", "num_fixed_crops": 4}, "teacher_cache_dir": "kept"},
            r"teacher_cache_dir: .*photos.*--teacher-cache-dir",
        ),
    ],
)
def test_invalid_settings_raise(settings, pattern):
    with pytest.raises(ConfigError, match=pattern):
        RunConfig(student=Network(name="vespcn"), **settings | {"data": Data(**settings["data"])})


def test_a_teacher_cache_is_allowed_without_stills():
    data = Data(stills="photos", stills_share=0.0, num_fixed_crops=4)
    assert not RunConfig(data=data, teacher_cache_dir="kept").data.uses_stills


def test_estimate_of_a_training_with_stills(config):
    settings = replace(config, optimizer=replace(config.optimizer, gradient_accumulation_steps=2))
    assert 0 < estimate(settings).seconds_per_step < 60


def test_the_slowest_speed_is_a_setting(config, tmp_path):
    def speeds(slowest):
        source = open_motion(replace(config.data, stills_min_speed=slowest), seed=0)
        flows = [source.clip(1, index).flow.to_next for index in range(12)]
        return [np.linalg.norm(flow, axis=1).max() for flow in flows]

    assert min(speeds(2.9)) > 2.5
    assert min(speeds(0.03)) < 1
    prepare_pool(config.data.stills, tmp_path / "pool", PoolSettings(sequences=2, crop_size=10, num_frames=3))
    with pytest.raises(DataError, match=r"stills_min_speed.*0\.03.*2\.9"):
        open_motion(replace(config.data, stills=str(tmp_path / "pool"), stills_min_speed=2.9), seed=0)
    with pytest.raises(ConfigError, match=r"stills_min_speed.*3.*4"):
        replace(config, data=replace(config.data, stills_min_speed=4.0))
