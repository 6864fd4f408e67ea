"""Tables of an experiment in Markdown, with paired intervals, detectable differences and adjusted p-values."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from workbench.config import Network
from workbench.evaluation.tables import markdown_rows
from workbench.experiment.comparisons import (
    CONFIDENCE,
    POWER,
    Difference,
    detectable_difference,
    holm,
    pooled_deviation,
    prediction_interval,
)
from workbench.experiment.results import Results
from workbench.experiment.variants import GRID, PLAIN, find_variant, in_grid_order, shared_config
from workbench.metrics import METRICS
from workbench.metrics.gap_closed import gap_closed
from workbench.settings import differences

PSNR = "psnr_y_db"
TEMPORAL = ("tof", "t_diff", "warping_error")
ROUNDING_DB = 0.002
"""Largest difference of two trainings of one seed by rounding, which grows with the steps."""
STATED = {"data.clips", "teacher.name", "teacher.weights", "data.batch_size", "data.num_frames", "data.crop_size",
          "data.augmentations_per_crop"}  # fmt: skip
"""Settings that the first paragraph of a page states, or that tables cannot show."""


def verdict(difference: Difference | None, *, higher_is_better: bool = True) -> str:
    """Return the verdict on a paired difference.

    Example:
        >>> verdict(Difference(0.03, 0.04, 5))
        'no measurable gain'
    """
    if difference is None:
        return "too few seeds"
    if not difference.measurable:
        return "no measurable gain"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def table(results: Results, data: str, *, primary: Collection[str] = ()) -> str:
    """Return the scores of all variants on one set, and the differences that the seeds can detect.

    Args:
        results: the scores.
        data: name of the set.
        primary: variants whose differences from plain are a family of comparisons, with p-values adjusted by Holm's
            method.
    """
    names = [name for name in in_grid_order(results.scores) if results.values(name, data, PSNR)]
    temporal = [m for m in TEMPORAL if any(results.values(name, data, m) for name in names)]
    head = ["", "PSNR-Y [dB]", "against plain [dB], 95 % interval", "n", "gap closed", "", "SSIM-Y"]
    rows: list[list[str]] = []
    bicubic, teacher = (
        results.references.get(name, {}).get(data, {}).get("mean", {}) for name in ("bicubic", "teacher")
    )
    if bicubic:
        rows.append(_reference("bicubic", bicubic, temporal))
    plain = results.values(PLAIN, data, PSNR)
    differences = {name: results.against(name, PLAIN, data, PSNR) for name in names if name != PLAIN}
    for name in names:
        values, difference = results.values(name, data, PSNR), differences.get(name)
        interval = closed = ""
        if difference:
            interval = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
            common = sorted(values.keys() & plain.keys())
            before, after = (statistics.fmean(one[seed] for seed in common) for one in (plain, values))
            percent = gap_closed(before, after, teacher.get(PSNR))
            closed = "" if percent is None else f"{round(percent)}%"
        cells = [find_variant(name).label, _spread(list(values.values()), 2), interval, str(len(values)), closed]
        cells.append("" if name == PLAIN else verdict(difference))
        cells.append(_spread(list(results.values(name, data, "ssim_y").values()), 4))
        cells += [_spread(list(results.values(name, data, m).values()), METRICS[m].digits) for m in temporal]
        rows.append(cells)
    if teacher:
        rows.append(_reference("teacher", teacher, temporal))
    lines = [markdown_rows([*head, *(METRICS[m].heading for m in temporal)], rows)]
    measured = {name: difference for name, difference in differences.items() if difference}
    if measured:
        lines += ["", _detectable(list(measured.values()))]
    if primary:
        lines += ["", _primary({name: differences.get(name) for name in primary})]
    return "\n".join(lines)


def _detectable(differences: Sequence[Difference]) -> str:
    deviation = pooled_deviation(differences)
    counts = sorted({difference.seeds for difference in differences})
    amounts = ", ".join(f"{detectable_difference(deviation, seeds):.3f} dB with {seeds} seeds" for seeds in counts)
    test = f"{100 * POWER:.0f} % power, two-sided {100 * (1 - CONFIDENCE):.0f} %, paired t-test"
    return (
        f"Detectable difference ({test}): {amounts}, for the observed standard deviation of a difference, "
        f"{deviation:.3f} dB, pooled over the variants."
    )


def _primary(differences: dict[str, Difference | None]) -> str:
    adjusted = holm({name: found.p_value if found else 1.0 for name, found in differences.items()})
    parts = []
    for name, found in differences.items():
        passed = found is None or adjusted[name] < 1 - CONFIDENCE
        word = verdict(found) if passed else "no measurable gain"
        parts.append(f"{find_variant(name).label}: " + (f"p = {adjusted[name]:.2g}, {word}" if found else word))
    return f"Primary comparisons with plain, p-values adjusted by Holm's method: {'; '.join(parts)}."


def per_clip(results: Results, data: str) -> str:
    """Return PSNR-Y and SSIM-Y of every variant on every clip of a set, as means over seeds."""
    means: dict[str, dict[str, list[float]]] = {}
    scored = {name: {0: sets} for name, sets in results.references.items()}
    for name in ["bicubic", *in_grid_order(results.scores), "teacher"]:
        every = [sets[data] for sets in (scored | results.scores).get(name, {}).values() if data in sets]
        label = name if name in ("bicubic", "teacher") else find_variant(name).label
        for clip in every[0] if every else ():
            pairs = [(scores[clip][PSNR], scores[clip]["ssim_y"]) for scores in every]
            means.setdefault(label, {})[clip] = [statistics.fmean(values) for values in zip(*pairs, strict=True)]
    clips = list(next(iter(means.values())))
    rows = ([label, *("{:.2f} / {:.4f}".format(*row[clip]) for clip in clips)] for label, row in means.items())
    return markdown_rows(["", *clips], rows)


def page(results: Results, *, primary: Collection[str] = ()) -> str:
    """Return all tables, the settings before them, and the names of the grid's variants that are missing."""
    settings = results.settings
    steps, crops = settings["steps"], settings["data.num_fixed_crops"]
    parts = [
        f"Teacher `{settings['teacher.name']}` (sha256 {settings['teacher.weights'][:12]}), student "
        f"`{settings['student.name']}`: {steps:,} steps with {settings['data.batch_size']} clips of "
        f"{settings['data.num_frames']} frames, crop size {settings['data.crop_size']}, from {crops:,} fixed crops in "
        f"{settings['data.augmentations_per_crop']} augmentations each. A difference compares runs with the same seed; "
        "its interval is Student's, paired, over seeds. Where it contains zero, there is no measurable gain."
    ]
    usual = shared_config(data="", teacher=Network(), student=settings["student.name"], steps=steps, crops=crops)
    others = {name: new for name, (_, new) in differences(usual.to_dict(), settings).items() if name not in STATED}
    if others:
        parts.append(f"Changed for all variants: {', '.join(f'{name} {value}' for name, value in others.items())}.")
    for name in results.sets:
        parts += [f"### {name}", table(results, name, primary=primary)]
        if any(
            clip != "mean" for sets in results.scores.values() for one in sets.values() for clip in one.get(name, {})
        ):
            parts += ["PSNR-Y [dB] / SSIM-Y of each clip, means over seeds:", per_clip(results, name)]
    missing = [f"`{name}`" for name in GRID if name not in results.scores]
    parts += [f"Variants of the grid that were not trained: {', '.join(missing)}."] if missing else []
    return "\n\n".join(parts)


def reproduction(ours: Results, stored: Results) -> tuple[list[str], bool]:
    """Compare every score of an experiment with the stored scores of its variant.

    A seed that is stored must be met up to rounding; another one must lie in the 95 % prediction interval of the stored
    seeds.

    Returns:
        One line per setting that differs and per score, and whether all scores lie where they should.

    Raises:
        ConfigError: a variant of which the stored results contain one seed only, and another one.
    """
    differing = differences(stored.settings, ours.settings)
    lines = [f"note: {name}: got {new!r}, expected {old!r}" for name, (old, new) in differing.items()]
    all_inside = True
    for name, data in ((name, data) for name in ours.scores for data in ours.sets):
        expected = stored.values(name, data, PSNR)
        for seed, value in ours.values(name, data, PSNR).items() if expected else ():
            if seed in expected:
                low, high, basis = expected[seed] - ROUNDING_DB, expected[seed] + ROUNDING_DB, f"stored seed {seed}"
            else:
                low, high = prediction_interval(list(expected.values()))
                basis = f"95 % of further seeds, from {len(expected)}"
            inside = low <= value <= high
            all_inside = all_inside and inside
            lines.append(
                f"{name}, seed {seed}, {data}: PSNR-Y {value:.3f} dB, {'inside' if inside else 'OUTSIDE'} "
                f"[{low:.3f}, {high:.3f}] ({basis})"
            )
    return lines, all_inside


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean + (f" ± {statistics.stdev(values):.{digits + (digits < 3)}f}" if len(values) > 1 else "")


def _reference(name: str, values: dict[str, float], temporal: Sequence[str]) -> list[str]:
    cells = [name, f"{values[PSNR]:.2f}", "", "", "", "", f"{values['ssim_y']:.4f}"]
    return [*cells, *(f"{values[m]:.{METRICS[m].digits}f}" if m in values else "" for m in temporal)]
