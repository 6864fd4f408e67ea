"""How the precision is chosen; every time is made up, except that the convolution runs at all."""

import logging

import pytest
import torch

from workbench import precision
from workbench.precision import ROUNDS, choose_precision, convolution, fastest, relative_time, time_in_turns


class Clock:
    """A clock that advances by the next of some durations with every piece of work."""

    def __init__(self, *durations):
        self.now, self.left, self.calls = 100.0, list(durations), 0

    def __call__(self):
        return self.now

    def work(self):
        self.calls += 1
        self.now += self.left.pop(0)


@pytest.fixture
def times(monkeypatch):
    """Seconds of the rounds by precision and training that the convolution is said to take; how often it was timed.

    Of several measurements in a list each is used once.
    """
    taken, timed = {}, []

    def made_up(works, clock):
        assert torch.get_num_threads() == 1
        timed.append(works)
        rounds = [taken[work].pop(0) if isinstance(taken[work], list) else taken[work] for work in works]
        return [list(value) if isinstance(value, tuple) else [value] * ROUNDS for value in rounds]

    monkeypatch.setattr(precision, "convolution", lambda name, kind, training: (name, training))
    monkeypatch.setattr(precision, "time_in_turns", made_up)
    for cached in (relative_time, precision._warn):
        cached.cache_clear()
    yield taken, timed
    relative_time.cache_clear()


def test_timing_skips_the_first_round_and_takes_the_fastest_other():
    clock = Clock(0.5, *range(7, 7 - ROUNDS, -1))
    assert fastest(clock.work, clock=clock) == 8 - ROUNDS
    assert clock.calls == ROUNDS + 1


def test_work_is_timed_in_turns_and_slow_work_in_two_rounds():
    clock = Clock(9, 9, *[1, 2] * ROUNDS)
    assert time_in_turns([clock.work, clock.work], clock=clock) == [[1] * ROUNDS, [2] * ROUNDS]
    clock = Clock(9, 9, 1, 5, 1, 6)
    assert time_in_turns([clock.work, clock.work], clock=clock) == [[1, 1], [5, 6]]


@pytest.mark.parametrize(
    ("bf16", "chosen"), [(0.5, "bf16"), (1.6, "bf16"), (1.7, "fp32"), (2.0, "fp32"), (80.0, "fp32")]
)
def test_auto_takes_bf16_on_a_cpu_that_computes_it_faster(times, bf16, chosen):
    """fp32 takes 2 seconds, so 0.8 of it are 1.6."""
    times[0].update({("fp32", True): 2.0, ("bf16", True): bf16})
    choice = choose_precision("auto", "cpu", training=True)
    assert (choice.precision, choice.wanted, choice.relative_time) == (chosen, "auto", bf16 / 2)
    assert choose_precision("auto", torch.device("cpu"), training=True) == choice
    assert len(times[1]) == 1, "timed once a process and device"


@pytest.mark.parametrize(
    ("fp32", "bf16"),
    [
        (70.0, 1.0),  # fp32 was interrupted in every round: a ratio of 0.014
        ((1.0, 40.0, 40.0, 40.0, 40.0), 0.5),
        (1.0, (0.5, 40.0, 40.0, 40.0, 40.0)),
        ((1.0, 1.0, 1.0, 1.0, 1.0), (0.5, 1.1, 1.1, 1.1, 1.1)),  # one fast round of five
    ],
)
def test_implausible_times_are_measured_again_and_then_choose_fp32(times, fp32, bf16):
    times[0].update({("fp32", True): fp32, ("bf16", True): bf16})
    choice = choose_precision("auto", "cpu", training=True)
    assert (choice.precision, choice.relative_time, len(times[1])) == ("fp32", None, 2)
    assert "busy" in choice.reason
    assert choose_precision("bf16", "cpu", training=True).precision == "bf16", "an explicit precision is kept"


def test_plausible_times_of_the_second_measurement_count(times):
    times[0].update({("fp32", True): [70.0, 1.0], ("bf16", True): [1.0, 0.5]})
    choice = choose_precision("auto", "cpu", training=True)
    assert (choice.precision, choice.relative_time, len(times[1])) == ("bf16", 0.5, 2)


def test_training_and_inference_are_timed_apart(times):
    times[0].update({("fp32", True): 1.0, ("bf16", True): 2.0, ("fp32", False): 1.0, ("bf16", False): 0.5})
    chosen = [choose_precision("auto", "cpu", training=training).precision for training in (True, False)]
    assert chosen == ["fp32", "bf16"]


def test_a_slow_requested_precision_is_kept_with_a_warning(times, caplog):
    times[0].update({("fp32", False): 1.0, ("bf16", False): 12.0, ("fp16", False): 1.1})
    with caplog.at_level(logging.WARNING):
        assert choose_precision("fp16", "cpu").precision == "fp16"
        assert choose_precision("fp32", "cpu").precision == "fp32"
        assert not caplog.records
        assert choose_precision("bf16", "cpu").precision == "bf16"
        choose_precision("bf16", "cpu")
    assert ["12 times as long" in record.getMessage() for record in caplog.records] == [True], "once a process"


def test_requested_fp32_is_not_timed(times):
    assert choose_precision("fp32", "cpu", training=True).relative_time is None
    assert not times[1]


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize(
    ("device", "where"), [("cuda", "torch.cuda.is_bf16_supported"), ("mps", "torch.backends.mps.is_macos_or_newer")]
)
def test_precision_is_not_timed_on_gpus(monkeypatch, device, where, supported):
    monkeypatch.setattr(where, lambda *args, **settings: supported)
    assert choose_precision("auto", device).precision == ("bf16" if supported else "fp32")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_the_convolution_runs_and_draws_no_random_numbers(name, training):
    before = torch.get_rng_state()
    convolution(name, "cpu", training)()
    assert torch.equal(torch.get_rng_state(), before)
