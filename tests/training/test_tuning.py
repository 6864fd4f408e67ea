"""Measured settings of a training, and their file in the user's cache folder."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from workbench import measurements
from workbench.errors import ConfigError
from workbench.presets import PRESETS
from workbench.training import tuning
from workbench.training.tuning import Tuning, settle_tuning
from workbench.training.worker import prepare_run

MEASURED = Tuning("contiguous", 3, {"contiguous, 3 threads": 0.5}, 2.0, "contiguous, 3 threads, by measurement")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and automatic measurement switched on."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_TUNE", "1")
    return tmp_path / "cache" / "measurements.json"


@pytest.fixture
def config():
    return replace(PRESETS["smoke"](), device="cpu")


@pytest.fixture
def measure(monkeypatch):
    """Replace the process that measures; returns the configs that it was given."""
    given = []
    monkeypatch.setattr(tuning, "run_measurement", lambda module, config: given.append(config) or vars(MEASURED))
    return given


def steps(seconds):
    """Return an endless training whose steps take the given times."""
    return (SimpleNamespace(seconds=value) for value in [*seconds, *[seconds[-1]] * 100])


def test_a_training_is_measured_once(cache, config, measure):
    first = settle_tuning(config)
    assert first == (replace(config, memory_format="contiguous"), MEASURED)
    assert settle_tuning(config) == first
    assert len(measure) == 1


@pytest.mark.parametrize("change", ["crop_size", "threads", "teacher"])
def test_other_sizes_threads_and_networks_are_measured_again(cache, config, measure, change):
    settle_tuning(config)
    other = {
        "crop_size": replace(config, data=replace(config.data, crop_size=24)),
        "threads": replace(config, threads=1),
        "teacher": replace(config, teacher=replace(config.teacher, name="edvr_s", weights="pretrained:edvr_s")),
    }[change]
    settle_tuning(other)
    assert measure == [config, other]


def test_another_machine_is_measured_again(cache, config, measure, monkeypatch):
    settle_tuning(config)
    here = measurements.machine()
    monkeypatch.setattr(measurements, "machine", lambda: here | {"cpu": "another processor"})
    settle_tuning(config)
    assert len(measure) == 2


def test_definite_settings_are_kept_without_a_measurement(cache, config, measure):
    settled, choice = settle_tuning(replace(config, memory_format="contiguous", threads=2))
    assert (settled.memory_format, choice.threads, choice.factor, measure) == ("contiguous", 2, 1.0, [])


def test_with_a_format_and_threads_of_openmp_nothing_is_measured(cache, config, measure, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert settle_tuning(replace(config, memory_format="contiguous"))[1].factor == 1.0
    assert measure == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    settle_tuning(replace(config, memory_format="contiguous"))
    assert len(measure) == 1


def test_without_a_measurement_the_format_is_channels_last(cache, config, measure, monkeypatch):
    assert settle_tuning(config, measure=False)[0].memory_format == "channels_last"
    monkeypatch.setenv("WORKBENCH_TUNE", "0")
    settled, choice = settle_tuning(config)
    assert (settled.memory_format, measure) == ("channels_last", [])
    assert "workbench tune" in choice.reason


def test_a_damaged_cache_is_reported_and_replaced(cache, config, measure, caplog):
    cache.parent.mkdir()
    cache.write_text("{not json")
    with caplog.at_level(logging.WARNING):
        settle_tuning(config)
    assert str(cache) in caplog.text
    assert len(json.loads(cache.read_text())["entries"]) == 1


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(cache, config, measure, caplog):
    cache.parent.write_text("a file where the folder would be")
    with caplog.at_level(logging.WARNING):
        assert settle_tuning(config)[1] == MEASURED
    assert "not kept" in caplog.text


def test_candidates_are_timed_in_turns_and_the_median_counts(monkeypatch):
    monkeypatch.setattr(tuning.torch, "set_num_threads", lambda number: None)
    pair = {"a": (steps([9, 1, 1, 8, 1, 1]), 1), "b": (steps([9, 2, 2, 2, 7, 2]), 1)}
    assert tuning._compare(pair) == {"a": 1, "b": 2}


def test_a_candidate_with_a_very_slow_first_step_is_given_up(monkeypatch):
    monkeypatch.setattr(tuning.torch, "set_num_threads", lambda number: None)
    slow = steps([50, 1])
    assert tuning._compare({"a": (steps([2, 1]), 1), "b": (slow, 2)}) == {"a": 1, "b": 50}
    assert next(slow).seconds == 1  # its second step was never computed


@pytest.mark.parametrize(
    ("contiguous", "chosen"), [(0.98, "channels_last"), (0.9, "contiguous"), (1.2, "channels_last")]
)
def test_a_gain_below_three_percent_does_not_count(config, monkeypatch, contiguous, chosen):
    monkeypatch.setattr(tuning.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(tuning, "configure_torch", lambda threads: None)
    times = {"channels_last": 1.0, "contiguous": contiguous}
    monkeypatch.setattr(tuning, "_steps", lambda config: steps([times[config.memory_format]]))
    measured = tuning.measure(config)
    assert measured.memory_format == chosen
    assert measured.factor == pytest.approx(1 / times[chosen])


def test_a_run_records_the_choice_and_a_resume_repeats_it(cache, config, measure, tmp_path):
    run = prepare_run(tmp_path / "run", config, measure=True)
    assert run.config().memory_format == "contiguous"
    assert run.record()["tuning"]["reason"] == MEASURED.reason


@pytest.mark.slow
def test_steps_of_a_real_training_are_timed(cache, config):
    measured = tuning.tune(config)
    assert measured.memory_format in tuning.FORMATS
    assert len(measured.seconds) == 2  # OMP_NUM_THREADS is set: the number of threads is not compared
    assert all(seconds > 0 for seconds in measured.seconds.values())
    assert settle_tuning(config, measure=False)[1] == measured


def test_a_training_that_would_fail_is_refused(cache, config):
    broken = replace(config, data=replace(config.data, clips=("no_such_clip",)))
    with pytest.raises(ConfigError, match="no_such_clip"):
        tuning.tune(broken)
