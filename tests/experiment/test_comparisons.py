"""Statistics against SciPy, against published values and by hand."""

import numpy as np
import pytest
from scipy import stats

from workbench.errors import ConfigError
from workbench.experiment.comparisons import (
    Difference,
    bootstrap_means,
    detectable_difference,
    holm,
    paired,
    percentile_interval,
    pooled_deviation,
    prediction_interval,
)


def test_interval_and_p_value_are_those_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 7))
    found, wanted = paired(list(first), list(second)), stats.ttest_rel(first, second)
    interval = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert found.seeds == 7


def test_an_interval_by_hand():
    """Differences .05, .06, .07: mean .06, deviation .01, and t of two degrees of freedom is 4.3027."""
    found = paired([1.05, 2.06, 3.07], [1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(0.06)
    assert found.half == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert found.measurable


@pytest.mark.parametrize(("mean", "p_value"), [(0.1, 0.0), (0.0, 1.0)])
def test_equal_differences_have_a_p_value(mean, p_value):
    assert Difference(mean, 0.0, 3).p_value == p_value


def test_fewer_than_two_seeds_raise():
    for call in (lambda: paired([1.0], [2.0]), lambda: prediction_interval([1.0]), lambda: detectable_difference(1, 1)):
        with pytest.raises(ConfigError, match="seeds: got 1"):
            call()
    with pytest.raises(ConfigError, match="seeds: got 2 and 3"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_one_more_seed_is_inside_the_prediction_interval_nineteen_times_of_twenty():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(4000, 6))
    inside = [low <= row[5] <= high for row in drawn for low, high in [prediction_interval(list(row[:5]))]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("pairs", "power", "effect"),
    [
        (33.3671, 0.8, 0.5),  # R: power.t.test(delta = 0.5, sd = 1, power = 0.8, type = "paired")
        (34, 0.8077775, 0.5),  # G*Power 3.1: two dependent means, dz 0.5, 34 pairs
    ],
)
def test_the_detectable_difference_is_the_published_one(pairs, power, effect):
    assert detectable_difference(1.0, pairs, power=power) == pytest.approx(effect, rel=1e-5)
    assert detectable_difference(0.02, pairs, power=power) == pytest.approx(0.02 * effect, rel=1e-5)


def test_a_detectable_difference_is_detected_four_times_of_five():
    rng, wanted = np.random.default_rng(1), detectable_difference(0.01, 5)
    drawn = rng.normal(wanted, 0.01, (4000, 5))
    assert np.mean([paired(list(row), [0.0] * 5).measurable for row in drawn]) == pytest.approx(0.8, abs=0.02)


def test_deviations_are_pooled_by_degrees_of_freedom():
    """By hand: (1 * 9 + 3 * 1) / (1 + 3) = 3."""
    assert pooled_deviation([Difference(0.1, 3.0, 2), Difference(0.2, 1.0, 4)]) == pytest.approx(3**0.5)


def test_holm_by_hand():
    """Sorted .005, .01, .03, .04, times 4, 3, 2, 1: .02, .03, .06 and .04, which is raised to the .06 before it."""
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}


def test_equal_differences_have_a_bootstrap_of_width_zero():
    resampled = bootstrap_means(np.full((5, 4), 0.07))
    assert percentile_interval(resampled) == pytest.approx((0.07, 0.07))


def test_without_an_effect_of_seeds_the_bootstrap_is_that_of_the_clips():
    clips = np.array([0.01, 0.05, -0.02, 0.11, 0.04, 0.08])
    low, high = percentile_interval(bootstrap_means(np.tile(clips, (8, 1))))
    wanted = stats.bootstrap((clips,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1))
    assert (low, high) == pytest.approx(tuple(wanted.confidence_interval), abs=0.002)
    low, high = percentile_interval(bootstrap_means(np.tile(clips[:, None], (1, 3))))
    assert (low, high) == pytest.approx(tuple(wanted.confidence_interval), abs=0.002)


def test_the_bootstrap_of_normal_effects_has_the_width_of_their_normal_interval():
    """Effects of 200 seeds and 100 clips: the variances of their means add up."""
    rng = np.random.default_rng(0)
    seeds, clips = rng.normal(0, 0.3, (200, 1)), rng.normal(0, 0.2, (1, 100))
    values = 1 + seeds + clips
    low, high = percentile_interval(bootstrap_means(values))
    half = 1.96 * (seeds.var() / 200 + clips.var() / 100) ** 0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_tables_of_one_shape_have_the_same_resamples():
    values = np.random.default_rng(2).normal(size=(3, 4))
    several = bootstrap_means(np.stack([values, 2 * values]))
    assert several.shape == (2, 10_000)
    assert several[1] / several[0] == pytest.approx(2.0)
    assert np.array_equal(bootstrap_means(values), bootstrap_means(values))
