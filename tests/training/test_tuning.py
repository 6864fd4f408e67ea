"""Measured settings of a training, and their file in the user's cache folder."""

import json
import logging
import subprocess
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
    return tmp_path / "cache" / "measurements-2.json"


@pytest.fixture
def config():
    return replace(PRESETS["smoke"](), device="cpu", steps=100_000)


@pytest.fixture
def measure(monkeypatch):
    """Replace the process that measures; returns the configs that it was given."""
    given = []
    monkeypatch.setattr(
        tuning, "run_measurement", lambda module, config, *args, timeout: given.append(config) or vars(MEASURED)
    )
    return given


@pytest.fixture
def timed(monkeypatch):
    """Replace the steps, the clock and the load of the machine.

    The returned function measures with the given seconds per step by memory format and number of threads: a number, or
    one for each step, of which the last repeats. The clock advances by each step; ``counts`` are compared with two
    threads.
    """

    def run(config, seconds, *, limit=60.0, run_share=0.1, counts=(), problem=""):
        clock, threads = SimpleNamespace(now=0.0, steps=0), [2]
        left = {key: iter(value if isinstance(value, list) else [value]) for key, value in seconds.items()}
        last = {}

        def training(config):
            while True:
                key = config.memory_format, threads[0]
                last[key] = next(left[key], last.get(key))
                clock.now, clock.steps = clock.now + last[key], clock.steps + 1
                yield SimpleNamespace(seconds=last[key])

        monkeypatch.setattr(tuning, "_steps", training)
        monkeypatch.setattr(tuning, "configure_torch", lambda threads: None)
        monkeypatch.setattr(tuning.torch, "get_num_threads", lambda: 2)
        monkeypatch.setattr(tuning.torch, "set_num_threads", lambda number: threads.__setitem__(0, number))
        monkeypatch.setattr(tuning, "_thread_counts", lambda config, threads: counts)
        monkeypatch.setattr(tuning, "time", SimpleNamespace(time=lambda: clock.now))
        monkeypatch.setattr(measurements, "load_problem", lambda *times, on_cpu: problem)
        return tuning.measure(config, tuning.TimeLimit(0.0, limit, run_share)), clock

    return run


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


FIRST, OTHER, ONE_THREAD = ("channels_last", 2), ("contiguous", 2), ("channels_last", 1)


def test_candidates_are_timed_in_turns_and_the_fastest_step_counts(config, timed):
    seconds = {FIRST: [1, 1, 0.5, 4, 0.6, 0.5, 0.5], OTHER: [1, 0.4, 0.4, 0.4, 0.4, 9]}
    measured, _ = timed(config, seconds)
    assert measured.seconds == {"channels last, 2 threads": 0.5, "contiguous, 2 threads": 0.4}
    assert (measured.memory_format, measured.threads, measured.factor) == ("contiguous", 2, 1.25)
    assert measured.reason.endswith("a step takes 0.4 s, 1.25 times as fast as with channels last, 2 threads")
    assert measured.kept


def test_one_fast_step_on_a_machine_that_becomes_idle_does_not_decide(config, timed):
    """Medians of blocks would choose the one that was timed last."""
    measured, _ = timed(config, {FIRST: [5, 5, 5, 5, 1, 1, 1], OTHER: [5, 5, 5, 1, 1, 1]})
    assert measured.memory_format == "channels_last"
    assert "times as fast" not in measured.reason


@pytest.mark.parametrize("slow", [OTHER, ONE_THREAD])
def test_a_candidate_that_is_four_times_slower_is_timed_twice(config, timed, slow):
    seconds = {FIRST: 0.1, OTHER: 0.1, ONE_THREAD: 0.1} | {slow: 0.5}
    measured, clock = timed(config, seconds, counts=(1,))
    assert measured.seconds[tuning.label(*slow)] == pytest.approx(0.5)
    assert clock.steps == 1 + 4 * tuning.ROUNDS - (tuning.ROUNDS - 2)
    assert measured.kept


@pytest.mark.parametrize(
    ("contiguous", "chosen"), [(0.96, "channels_last"), (0.9, "contiguous"), (1.2, "channels_last")]
)
def test_a_gain_below_five_percent_does_not_count(config, timed, contiguous, chosen):
    measured, _ = timed(config, {FIRST: 1.0, OTHER: contiguous}, limit=300)
    assert measured.memory_format == chosen
    assert measured.factor == pytest.approx(1.0 if chosen == "channels_last" else 1 / contiguous)
    assert ("times as fast as with channels last, 2 threads" in measured.reason) == (chosen == "contiguous")


def test_a_smaller_number_of_threads_is_chosen_if_it_is_faster(config, timed):
    measured, _ = timed(config, {FIRST: 1.0, OTHER: 1.0, ONE_THREAD: 0.8}, limit=300, counts=(1,))
    assert (measured.memory_format, measured.threads, measured.kept) == ("channels_last", 1, True)
    assert measured.factor == pytest.approx(1.25)


def test_a_step_of_a_minute_ends_the_measurement(config, timed):
    problem = "other processes used 1.2 of 2 cores"
    measured, clock = timed(config, {FIRST: 66.9, OTHER: 1.0}, limit=300, problem=problem)
    assert (measured.memory_format, measured.seconds, clock.steps) == ("channels_last", {}, 1)
    assert "not measured: a step takes 66.9 s" in measured.reason
    assert f"{problem}: fewer threads" in measured.reason


@pytest.mark.parametrize("change", [{"steps": 20}, {"stop_after_seconds": 30.0}])
def test_a_run_shorter_than_ten_measurements_is_not_measured(config, timed, change):
    measured, clock = timed(replace(config, **change), {FIRST: 1.0, OTHER: 0.5})
    assert (measured.memory_format, measured.seconds, clock.steps) == ("channels_last", {}, 1)
    assert measured.reason.endswith(tuning.SHORT_RUN)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.0, 3.0, 7.9])
@pytest.mark.parametrize("steps", [100, 1000, 100_000])
def test_a_measurement_takes_at_most_its_limit_and_a_tenth_of_the_run(config, timed, seconds, steps):
    times = {FIRST: seconds, OTHER: seconds, ONE_THREAD: seconds}
    measured, clock = timed(replace(config, steps=steps), times, counts=(1,))
    assert clock.now <= max(min(60, 0.1 * steps * seconds), seconds)
    assert bool(measured.seconds) == (seconds < 7)


@pytest.mark.parametrize("change", [{"steps": 2}, {"stop_after_seconds": 30.0}])
def test_a_short_run_starts_no_measurement(cache, config, measure, change):
    said = []
    settled, choice = settle_tuning(replace(config, **change), announce=said.append)
    assert (settled.memory_format, choice.seconds, measure, said) == ("channels_last", {}, [], [])
    assert choice.reason.endswith(tuning.SHORT_RUN)


def test_a_measurement_is_announced_with_its_time_limit(cache, config, measure):
    said = []
    settle_tuning(config, announce=said.append)
    settle_tuning(config, announce=said.append)  # from the cache
    assert len(said) == 1
    assert f"at most {tuning.MAX_SECONDS:.0f} s" in said[0]
    assert "--no-tune" in said[0]


def test_a_process_that_exceeds_the_limit_leaves_the_defaults(cache, config, monkeypatch):
    def hang(module, config, *args, timeout):
        raise subprocess.TimeoutExpired(module, timeout)

    monkeypatch.setattr(tuning, "run_measurement", hang)
    settled, choice = settle_tuning(config)
    assert (settled.memory_format, choice.seconds, cache.exists()) == ("channels_last", {}, False)
    assert "not measured" in choice.reason


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        ({FIRST: 0.5, OTHER: 0.4}, "other processes used 1.2 of 2 cores"),
        ({FIRST: [0.5, 0.5, 30, 0.5, 30, 30], OTHER: 0.4}, ""),
        ({FIRST: 1.1, OTHER: 0.3}, ""),
    ],
)
def test_a_measurement_on_a_busy_machine_has_no_ratio_and_is_not_kept(config, timed, seconds, problem):
    measured, _ = timed(config, seconds, problem=problem, limit=300)
    assert not measured.kept
    assert problem in measured.reason
    assert "times as fast" not in measured.reason


def test_a_result_that_is_not_kept_is_measured_again(cache, config, monkeypatch):
    given = []
    busy = vars(replace(MEASURED, kept=False))
    monkeypatch.setattr(tuning, "run_measurement", lambda *args, timeout: given.append(args) or busy)
    assert settle_tuning(config)[0].memory_format == settle_tuning(config)[0].memory_format == "contiguous"
    assert (len(given), cache.exists()) == (2, False)


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
    assert (settle_tuning(config, measure=False)[1] == measured) == measured.kept  # another process may use the machine


def test_a_training_that_would_fail_is_refused(cache, config):
    broken = replace(config, data=replace(config.data, clips=("no_such_clip",)))
    with pytest.raises(ConfigError, match="no_such_clip"):
        tuning.tune(broken)
