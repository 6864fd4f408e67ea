"""Trainings on crops of footage that moves."""

from dataclasses import replace

import pytest

from tests.footage import prepare_shards
from tests.training.interruptions import assert_resumed_equals_uninterrupted
from workbench.data.sampling.crops import CropSampler
from workbench.errors import ConfigError, DataError
from workbench.training.data import open_data
from workbench.training.worker import prepare_run, work


@pytest.fixture
def config(small):
    """Crops that move, one a step; the waves of the footage move everywhere, some more than others."""
    return replace(small, steps=6, data=replace(small.data, moving_share=0.5, moving_above=0.5))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(config, tmp_path, workers):
    config = replace(config, data=replace(config.data, num_workers=workers))
    assert_resumed_equals_uninterrupted(config, tmp_path, 3)


def test_settings_reach_the_sampler(config):
    sampler = open_data(config.data, 0)
    assert isinstance(sampler, CropSampler)
    assert (sampler.moving_share, sampler.moving_above) == (0.5, 0.5)


def test_moving_crops_of_shards_raise(config, tmp_path):
    data = replace(config.data, clips=(str(prepare_shards(tmp_path)),))
    with pytest.raises(DataError, match=r"data\.moving_share: .*got 0\.5.*arrays"):
        open_data(data, 0)
    assert open_data(replace(data, moving_share=0.0), 0).batch_size == 1


def test_a_teacher_cache_of_other_crops_raises(config, tmp_path):
    fixed = replace(config.data, num_fixed_crops=2, augmentations_per_crop=1)
    memory = replace(config.distillation, memory_mode="frozen")
    config = replace(config, steps=1, data=fixed, distillation=memory, teacher_cache_dir=str(tmp_path / "cache"))
    assert work(prepare_run(tmp_path / "one", config)) == "finished"
    other = replace(config, data=replace(fixed, moving_above=0.6))
    with pytest.raises(ConfigError, match=r"\[0\.5, 0\.5\], wanted \[0\.5, 0\.6\]"):
        work(prepare_run(tmp_path / "other", other))
    assert work(prepare_run(tmp_path / "again", config)) == "finished"
