"""Timestamps are repaired one by one: a wrong one moves its own frame and no other."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from workbench.data.video.timestamps import as_ticks, repair_timestamps, resample


def repaired(ticks, step=40):
    found = list(repair_timestamps(enumerate(ticks), step=step))
    assert [number for number, _ in found] == list(range(len(ticks)))
    return [tick for _, tick in found]


def true_times(seed):
    """Times of a video with jitter, drift and gaps, at least 20 ticks apart."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(20, 60, 200)
    steps[rng.integers(0, 200, 5)] += 3000
    return (np.cumsum(steps) + rng.integers(-500, 500)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_ascending_times_are_kept(seed):
    assert repaired(true_times(seed)) == true_times(seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", ["missing", "doubled", "back", "ahead"])
def test_a_wrong_timestamp_moves_its_own_frame_only(seed, fault):
    times, wrong = true_times(seed), true_times(seed)
    for number in range(10, 190, 23):
        wrong[number] = {
            "missing": None,
            "doubled": times[number - 1],
            "back": times[number - 1] - 10_000,
            "ahead": times[number] + 200_000,
        }[fault]
    found = repaired(wrong)
    moved = [number for number, (one, other) in enumerate(zip(found, times, strict=True)) if one != other]
    assert set(moved) <= set(range(10, 190, 23))
    assert all(after > before for before, after in itertools.pairwise(found))
    if fault in ("doubled", "back"):
        assert all(found[number] == times[number - 1] + 1 for number in range(10, 190, 23))
    else:  # evenly between the neighbors
        assert all(found[n] == times[n - 1] + (times[n + 1] - times[n - 1]) // 2 for n in range(10, 190, 23))


def test_a_run_of_missing_timestamps_is_spread_evenly():
    assert repaired([0, None, None, None, 400]) == [0, 100, 200, 300, 400]
    assert repaired([None, None, 80]) == [0, 40, 80]
    assert repaired([0, None, None]) == [0, 40, 80]
    assert repaired([None, None]) == [0, 40]


def test_restarted_timestamps_continue_by_the_frame_rate():
    first, second = list(range(0, 4000, 40)), list(range(0, 2000, 40))
    assert repaired(first + second)[:-1] == list(range(0, 6000, 40))[:-1]
    assert repaired([0] * 4) == [0, 40, 80, 81]  # the last one may be a single double
    assert repaired([0, 40, 80, 240, 160, 200, 240, 280]) == [0, 40, 80, 120, 160, 200, 240, 280]
    assert repaired([200, 40, 80, 120]) == [0, 40, 80, 120]
    assert repaired([0, 40, 80, 600_000, 600_040, 200, 240, 280]) == [0, 40, 80, 120, 160, 200, 240, 280]
    assert repaired([0, 40, 80, 3080, 3120]) == [0, 40, 80, 3080, 3120]  # a pause is no fault


def test_only_one_frame_is_read_ahead():
    read = []

    def frames():
        for number in range(100):
            read.append(number)
            yield number, 40 * number

    stream = repair_timestamps(frames(), step=40)
    assert next(stream) == (0, 0)
    assert len(read) == 2


def test_resampling_repeats_and_drops_frames():
    starts = (("a", 0), ("b", 10), ("c", 13), ("d", 60))
    frames = [(name, Fraction(start, 100), Fraction(5, 100)) for name, start in starts]
    found = list(resample(frames, Fraction(10)))
    assert [name for name, _, _ in found] == list("acccccd")  # b and c share a slot, c is held
    assert [start for _, start, _ in found] == [Fraction(n, 10) for n in range(7)]
    assert all(duration == Fraction(1, 10) for _, _, duration in found)


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(30_000, 1001), Fraction(60)])
def test_resampling_moves_no_frame_by_more_than_half_a_slot(fps):
    starts = [Fraction(int(tick), 1000) for tick in true_times(3)]
    starts = [start - starts[0] for start in starts]
    frames = [(start, start, Fraction(1, 25)) for start in starts]
    shown: dict[Fraction, Fraction] = {}
    for name, start, _ in resample(frames, fps):
        shown.setdefault(name, start)
    assert all(abs(start - name) <= 1 / (2 * fps) for name, start in shown.items())


def test_a_constant_rate_is_not_changed():
    frames = [(number, Fraction(number, 25), Fraction(1, 25)) for number in range(50)]
    assert list(resample(frames, Fraction(25))) == frames
    assert list(resample([], Fraction(25))) == []


def test_times_in_ticks():
    assert as_ticks(Fraction(1001, 30_000), Fraction(1, 90_000)) == 3003
