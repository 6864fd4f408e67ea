"""What came of the rows: scores of every seed, kept in one file, and what can be said of them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from workbench.errors import ConfigError, FolderError
from workbench.scenes import write_atomic

FORMAT = 1
CONFIDENCE = 0.95

Scores = dict[str, dict[str, dict[str, float]]]
"""Set -> clip, or ``mean`` -> metric -> number."""


@dataclass
class Results:
    """Scores by row and seed, and what they were made under.

    Attributes:
        conditions: data, teacher, student, steps: what all rows share. Other conditions are another experiment.
        scores: row -> seed -> :data:`Scores`.
        references: scores of bicubic and of the teacher.
    """

    conditions: dict[str, Any]
    scores: dict[str, dict[int, Scores]] = field(default_factory=dict)
    references: dict[str, Scores] = field(default_factory=dict)

    def values(self, row: str, data: str, metric: str, clip: str = "mean") -> dict[int, float]:
        """One number a seed; seeds that were not scored so are left out."""
        found = {seed: held.get(data, {}).get(clip, {}).get(metric) for seed, held in self.scores.get(row, {}).items()}
        return {seed: value for seed, value in sorted(found.items()) if value is not None}

    def against(self, row: str, other: str, data: str, metric: str) -> Difference | None:
        """A row against another, seed by seed; None where they do not share two seeds."""
        mine, theirs = self.values(row, data, metric), self.values(other, data, metric)
        shared = sorted(mine.keys() & theirs.keys())
        return paired([mine[seed] for seed in shared], [theirs[seed] for seed in shared]) if len(shared) > 1 else None

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        rows = {row: {str(seed): held for seed, held in sorted(seeds.items())} for row, seeds in self.scores.items()}
        record = {"format": FORMAT, "conditions": self.conditions, "references": self.references, "rows": rows}
        write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`write` wrote.

        Raises:
            FolderError: not such a file.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise FolderError(f"{path}: format {record['format']}, this is made for {FORMAT}")
            rows = {row: {int(seed): held for seed, held in seeds.items()} for row, seeds in record["rows"].items()}
            return cls(record["conditions"], rows, record["references"])
        except FileNotFoundError as error:
            raise FolderError(f"{path}: there is no such file; `workbench experiment` makes it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(f"{path}: not scores of an experiment ({error})") from error


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds.

    Attributes:
        mean: of the differences.
        half: half the width of the 95 % interval.
        seeds: how many pairs.
    """

    mean: float
    half: float
    seeds: int

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
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    r"""The difference of two series that were measured in pairs, with its 95 % interval by Student's t.

    .. math:: \bar d \pm t_{0.975,\, n-1} \, s_d / \sqrt n

    Args:
        first: one number a seed.
        second: those of the other, same seeds in the same order.

    Raises:
        ConfigError: fewer than two pairs, or unequal counts.

    Example:
        >>> found = paired([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
        >>> round(found.mean, 4), round(found.half, 4)
        (1.3333, 1.4342)
    """
    if len(first) != len(second) or len(first) < 2:
        raise ConfigError(f"a paired difference wants two or more pairs, got {len(first)} and {len(second)} numbers")
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    count = len(gaps)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return Difference(statistics.fmean(gaps), quantile * statistics.stdev(gaps) / math.sqrt(count), count)


def same_conditions(held: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to mix experiments.

    Raises:
        ConfigError: names what differs.
    """
    differ = [name for name in wanted if held.get(name) != wanted[name]]
    if differ:
        told = "; ".join(f"{name}: {held.get(name)!r}, wanted {wanted[name]!r}" for name in differ)
        raise ConfigError(f"{path}: scores of another experiment ({told}); name another folder")
