"""Paired comparisons: intervals over seeds and over clips, p-values, detectable differences, Holm's correction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import nctdtrinc
from scipy.stats import t as student_t

from workbench.errors import ConfigError

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 10_000
"""Resamples of a bootstrap."""


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds.

    Attributes:
        mean: mean of the differences.
        deviation: standard deviation of the differences.
        seeds: number of pairs.
    """

    mean: float
    deviation: float
    seeds: int

    @property
    def half(self) -> float:
        r"""Half the width of the 95 % interval, :math:`t_{0.975,\, n-1} \, s_d / \sqrt n`."""
        return t_quantile(self.seeds) * self.deviation / math.sqrt(self.seeds)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half

    @property
    def measurable(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the paired t-test."""
        if not self.deviation:
            return 0.0 if self.mean else 1.0
        return float(2 * student_t.sf(abs(self.mean) * math.sqrt(self.seeds) / self.deviation, self.seeds - 1))


@cache
def t_quantile(seeds: float) -> float:
    """Return the two-sided 95 % quantile of Student's t for a number of seeds."""
    return float(student_t.ppf((1 + CONFIDENCE) / 2, seeds - 1))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    r"""Return the mean of paired differences with its 95 % interval by Student's t.

    .. math:: \bar d \pm t_{0.975,\, n-1} \, s_d / \sqrt n

    Args:
        first: one number per seed.
        second: numbers of the other variant for the same seeds, in the same order.

    Raises:
        ConfigError: fewer than two pairs, or unequal counts.

    Example:
        >>> found = paired([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
        >>> round(found.mean, 4), round(found.half, 4), round(found.p_value, 4)
        (1.3333, 1.4342, 0.0572)
    """
    if len(first) != len(second) or len(first) < 2:
        raise ConfigError(f"seeds: got {len(first)} and {len(second)} numbers, expected two or more pairs")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return Difference(statistics.fmean(differences), statistics.stdev(differences), len(differences))


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    r"""Return the 95 % prediction interval of one more seed.

    .. math:: \bar x \pm t_{0.975,\, n-1} \, s \sqrt{1 + 1/n}

    Raises:
        ConfigError: fewer than two values.

    Example:
        >>> low, high = prediction_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-2.968, 6.968)
    """
    if len(values) < 2:
        raise ConfigError(f"seeds: got {len(values)}, expected two or more for a prediction interval")
    half = t_quantile(len(values)) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def pooled_deviation(differences: Iterable[Difference]) -> float:
    """Return the standard deviation of paired differences, pooled over comparisons by their degrees of freedom.

    Example:
        >>> pooled_deviation([Difference(0.1, 3.0, 2), Difference(0.2, 1.0, 4)])
        1.7320508075688772
    """
    given = list(differences)
    return math.sqrt(sum((d.seeds - 1) * d.deviation**2 for d in given) / sum(d.seeds - 1 for d in given))


def detectable_difference(deviation: float, seeds: float, *, power: float = POWER) -> float:
    r"""Return the true difference that a two-sided 5 % paired t-test detects with a probability of ``power``.

    The test statistic follows a noncentral t distribution with :math:`n - 1` degrees of freedom and noncentrality
    :math:`\delta \sqrt n / s_d`. Significance in the wrong direction does not count as detection.

    Args:
        deviation: standard deviation of the paired differences.
        seeds: number of pairs.
        power: probability of detection.

    Raises:
        ConfigError: fewer than two seeds.

    Example:
        >>> round(detectable_difference(0.02, 5), 4)
        0.0336
    """
    if seeds < 2:
        raise ConfigError(f"seeds: got {seeds}, expected two or more")
    return float(nctdtrinc(seeds - 1, 1 - power, t_quantile(seeds))) * deviation / math.sqrt(seeds)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted by Holm's step-down method for a family of comparisons.

    Example:
        >>> holm({"a": 0.02, "b": 0.01, "c": 0.5})
        {'b': 0.03, 'a': 0.04, 'c': 0.5}
    """
    adjusted, largest = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min((len(p_values) - rank) * p_value, 1.0))
        adjusted[name] = largest
    return adjusted


def bootstrap_means(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    r"""Return the means of scores over resampled seeds and resampled clips: a two-way bootstrap.

    Seeds and clips are each drawn with replacement, independently of each other:

    .. math:: m_r = \sum_{s, c} \frac{n_{rs}}{S} \frac{n_{rc}}{C} \, x_{sc}

    with :math:`n_{rs}`, :math:`n_{rc}` the numbers of times that seed s and clip c are drawn. All tables of one shape
    have the same resamples, so that ratios of their means are paired.

    Args:
        values: a table ``(seeds, clips)``, or several, ``(..., seeds, clips)``.
        resamples: number of resamples.
        seed: seed of the resamples.

    Returns:
        ``(..., resamples)``.
    """
    rng = np.random.default_rng(seed)
    seeds, clips = (rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in values.shape[-2:])
    return np.einsum("rs,...sc,rc->...r", seeds, values, clips, optimize=True)


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled statistics.

    Example:
        >>> low, high = percentile_interval(np.arange(1001.0))
        >>> round(low, 3), round(high, 3)
        (25.0, 975.0)
    """
    low, high = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)
