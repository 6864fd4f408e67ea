"""One row anew: does it land where the stored scores say?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.stats import t as student_t

from workbench.errors import ConfigError
from workbench.experiment.perform import conditions, perform
from workbench.experiment.results import CONFIDENCE, Results
from workbench.experiment.rows import base, find_row
from workbench.models.weights import load

NOISE_DB = 0.002
"""Two trainings of one seed differ by rounding, which grows with the steps; so much is allowed."""


@dataclass(frozen=True)
class Found:
    """What a comparison found: lines to print, and whether all lies where it should."""

    lines: list[str]
    inside: bool


def prediction(values: list[float]) -> tuple[float, float]:
    r"""Where one more seed is to be expected: the 95 % prediction interval of a few numbers.

    .. math:: \bar x \pm t_{0.975,\, n-1} \, s \sqrt{1 + 1/n}

    Example:
        >>> low, high = prediction([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-2.968, 6.968)
    """
    if len(values) < 2:
        raise ConfigError(f"an interval wants two or more seeds, got {len(values)}")
    count, middle = len(values), statistics.fmean(values)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half = quantile * statistics.stdev(values) * math.sqrt(1 + 1 / count)
    return middle - half, middle + half


def compare(
    row: str,
    seed: int,
    *,
    data: Path,
    teacher: str,
    vid4: Path | None,
    stored: Path,
    out: Path,
    threads: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> Found:
    """Train a row with a seed under the stored conditions, score it, and compare.

    Raises:
        FolderError: there are no stored results.
        ConfigError: they hold fewer than two seeds of that row.
    """
    results, chosen = Results.read(stored), find_row(row)
    held = results.conditions
    shared = base(
        data=str(data), teacher=held["teacher"]["name"], teacher_weights=teacher, student=held["student"],
        steps=held["steps"], cache=str(out / "cache"), crops=held["fixed"][0],
    )  # fmt: skip
    shared = replace(shared, threads=threads, teacher=replace(shared.teacher, skip=load(teacher).skip))
    lines = [
        f"note: {name} is another than that of the stored results"
        for name, value in conditions(shared).items()
        if held.get(name) != value
    ]
    mine = perform([chosen], [seed], shared, out, vid4=vid4, temporal=(), references=False, told=told)
    inside = True
    for name in mine.scores[row][seed]:
        theirs = results.values(row, name, "psnr_y_db")
        if not theirs:
            continue
        got = mine.values(row, name, "psnr_y_db")[seed]
        if seed in theirs:
            low, high, what = theirs[seed] - NOISE_DB, theirs[seed] + NOISE_DB, f"seed {seed}, to rounding"
        else:
            low, high = prediction(list(theirs.values()))
            what = f"95 % of further seeds, from {len(theirs)}"
        lands = low <= got <= high
        inside = inside and lands
        lines.append(
            f"{row}, {name}: PSNR-Y {got:.3f} dB, {'inside' if lands else 'OUTSIDE'} [{low:.3f}, {high:.3f}] ({what})"
        )
    return Found(lines, inside)
