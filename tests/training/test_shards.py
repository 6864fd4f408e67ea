"""Trainings that read shards."""

import json
import logging
from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.footage import prepare_shards
from tests.training.interruptions import assert_resumed_equals_uninterrupted
from workbench.config import Network
from workbench.errors import DataError
from workbench.runs import request_stop
from workbench.training.data import open_crops
from workbench.training.worker import prepare_run, work


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return prepare_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def config(small, shards):
    """Plain, from shards, two clips a step."""
    return replace(
        small, teacher=Network(), steps=9, snapshot_every=9, save_every=3,
        data=replace(small.data, clips=(str(shards),), batch_size=2),
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(config, tmp_path, workers):
    config = replace(config, data=replace(config.data, num_workers=workers))
    assert_resumed_equals_uninterrupted(config, tmp_path, 4)


def test_a_resume_with_other_workers_logs_a_warning(config, tmp_path, caplog):
    run = prepare_run(tmp_path / "run", config)
    work(run, lambda done, _steps: request_stop(run) if done.number == 4 else None)
    path = run.folder / "run.json"
    record = json.loads(path.read_text())
    record["config"]["data"]["num_workers"] = 1
    path.write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING):
        assert work(run) == "finished"
    assert "it had 0 workers until step 4 and has 1 now: shards are dealt out to them" in caplog.text


def test_two_processes_share_the_batch(config, monkeypatch):
    """Each reads files of its own, and takes half of the crops."""
    sampler = open_crops(replace(config.data, batch_size=4), 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    halves = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        halves.append(list(islice(sampler.after(0, 5, share=slice(rank, None, 2)), 5)))
    assert all(low.shape == (2, 3, 3, 8, 8) for half in halves for low, _ in half)
    assert not any(torch.equal(one[0], other[0]) for one, other in zip(*halves, strict=True))


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"crop_size": 9}, r"want 9 .*data\.crop_size.*width 8"),
        ({"num_frames": 8}, r"want 8 .*got 7; .*data\.num_frames"),
        ({"num_fixed_crops": 4}, "contains shards, which are read from one end .* --format arrays"),
        ({"scale": 2}, "want low resolution bi x2, got bi x4"),
        ({"degradation": "bd_duf"}, "want low resolution bd_duf x4, got bi x4"),
    ],
)
def test_settings_that_do_not_fit_shards_raise(config, change, pattern):
    with pytest.raises(DataError, match=pattern):
        open_crops(replace(config.data, **change), 0)


def test_shards_mixed_with_clips_raise(config, small):
    with pytest.raises(DataError, match=r"shards and .*waves"):
        open_crops(replace(config.data, clips=config.data.clips + small.data.clips), 0)


def test_a_missing_file_raises_before_the_run(config, shards, tmp_path):
    gone = sorted(shards.glob("**/*.tar"))[0]
    held = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(DataError, match=f"{gone.name}: is missing"):
            prepare_run(tmp_path / "run", config)
    finally:
        gone.write_bytes(held)
    assert not (tmp_path / "run").exists()
