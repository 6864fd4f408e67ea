"""Tables of an experiment in Markdown, with paired intervals, detectable differences and adjusted p-values."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from workbench.config import Network
from workbench.evaluation.tables import markdown_rows
from workbench.experiment.comparisons import (
    CONFIDENCE,
    POWER,
    RESAMPLES,
    Difference,
    bootstrap_means,
    detectable_difference,
    holm,
    percentile_interval,
    pooled_deviation,
    prediction_interval,
)
from workbench.experiment.results import MEAN, NEIGHBORS, QUARTILES, PartScores, Results
from workbench.experiment.variants import PLAIN, find_variant, in_table_order, shared_config
from workbench.metrics import METRICS
from workbench.metrics.gap_closed import gap_closed
from workbench.settings import differences

PSNR = "psnr_y_db"
TEMPORAL = ("tof", "t_diff", "warping_error")
HEADINGS = {
    "label": "", PSNR: "PSNR-Y [dB]", "seeds": "against plain [dB], 95 % over seeds", "clips": "over clips and seeds",
    "n": "n", "gap": "gap closed", "verdict": "", "ssim_y": "SSIM-Y",
    **{name: METRICS[name].heading for name in TEMPORAL}, "share": "temporal share [dB]",
}  # fmt: skip
"""Columns of :func:`table`, with their headings; empty ones are left out."""
MIN_LEAD = 1e-6
"""Smallest lead of the teacher for a gap closed, in dB."""
ROUNDING_DB = 0.002
"""Largest difference of two trainings of one seed by rounding, which grows with the steps."""
STATED = {"data.clips", "teacher.name", "teacher.weights", "student.flow_weights", "data.batch_size", "data.num_frames",
          "data.crop_size", "data.augmentations_per_crop"}  # fmt: skip
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


Families = Mapping[str, Collection[str]]
"""Title of a family of planned comparisons with plain -> its variants."""


def table(
    results: Results, data: str, *, families: Families | None = None, pairs: Collection[tuple[str, str]] = ()
) -> str:
    """Return the scores of all variants on one set, and the differences that the seeds can detect.

    Args:
        results: the scores.
        data: name of the set.
        families: variants whose differences from plain are tested together, with p-values adjusted by Holm's method.
        pairs: pairs of variants to compare with each other.
    """
    names = [name for name in in_table_order(results.scores) if results.values(name, data, PSNR)]
    bicubic, teacher = (_cells(name, results.reference(name, data)) for name in ("bicubic", "teacher"))
    differences = {name: results.against(name, PLAIN, data, PSNR) for name in names if name != PLAIN}
    rows = [bicubic]
    for name in names:
        seeds, difference = results.scores[name], differences.get(name)
        row = _cells(find_variant(name).label, [seeds[seed][data] for seed in sorted(seeds) if data in seeds[seed]])
        row |= {
            "verdict": "" if name == PLAIN else verdict(difference),
            "n": str(len(results.values(name, data, PSNR))),
        }
        if difference:
            row |= {"seeds": _interval(difference), **_over_clips(results, name, data)}
            row["gap"] = _gap_closed(results, name, data) + row.get("gap", "")
        rows.append(row)
    rows = [row for row in (*rows, teacher) if row]
    shown = [name for name in HEADINGS if name == "label" or any(row.get(name) for row in rows)]
    lines = [markdown_rows([HEADINGS[name] for name in shown], [[row.get(name, "") for name in shown] for row in rows])]
    measured = {name: difference for name, difference in differences.items() if difference}
    if measured:
        lines += ["", _detectable(list(measured.values()))]
    for title, family in (families or {}).items():
        if family:
            lines += ["", _adjusted(title, {name: differences.get(name) for name in family})]
    for first, second in pairs:
        if found := results.against(first, second, data, PSNR):
            clips = _over_clips(results, first, data, second).get("clips")
            lines += [
                "",
                f"{find_variant(first).label}, against {find_variant(second).label}: {_interval(found)} dB over "
                f"{found.seeds} seeds{f', {clips} over clips and seeds' if clips else ''}: {verdict(found)}.",
            ]
    return "\n".join(lines)


def _cells(label: str, scores: Sequence[PartScores]) -> dict[str, str]:
    """Return the label and the scores of a method as cells of :func:`table`; none without scores."""
    digits = {PSNR: 2, "ssim_y": 4} | {metric: METRICS[metric].digits for metric in TEMPORAL}
    cells = {}
    for metric, places in digits.items():
        cells[metric] = _spread([one[MEAN][metric] for one in scores if metric in one.get(MEAN, {})], places)
    gains = [one[NEIGHBORS] for one in scores if {"true", "copies"} <= one.get(NEIGHBORS, {}).keys()]
    cells["share"] = _spread([gain["true"] - gain["copies"] for gain in gains], 3)
    return {"label": label, **cells} if scores else {}


def _interval(found: Difference) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _over_clips(results: Results, name: str, data: str, other: str = PLAIN) -> dict[str, str]:
    """Return the bootstrap intervals of the difference from another variant and of the gap closed.

    There are none for a single clip. The gap closed has no interval where the teacher does not lead in every resample.
    """
    found = results.over_clips(name, other, data, PSNR)
    if found is None:
        return {}
    gain, lead = bootstrap_means(np.stack(found))
    low, high = percentile_interval(gain)
    cells = {"clips": f"[{low:+.3f}, {high:+.3f}]"}
    if (lead > MIN_LEAD).all():
        low, high = percentile_interval(100 * gain / lead)
        cells["gap"] = f" [{low:.0f}, {high:.0f}]"
    return cells


def _gap_closed(results: Results, name: str, data: str) -> str:
    plain, ours = results.values(PLAIN, data, PSNR), results.values(name, data, PSNR)
    common = sorted(ours.keys() & plain.keys())
    before, after = (statistics.fmean(one[seed] for seed in common) for one in (plain, ours))
    teacher = results.references.get("teacher", {}).get(data, {}).get(MEAN, {}).get(PSNR)
    percent = gap_closed(before, after, teacher, min_lead=MIN_LEAD)
    return "" if percent is None else f"{round(percent)}%"


def by_motion(results: Results, data: str) -> str:
    """Return the differences from plain by quartile of the frames' motion; empty where they were not measured.

    Intervals are Student's, paired, over seeds. The teacher is compared with the mean of the plain students.
    """
    motion = results.references.get("motion", {}).get(data, {}).get(QUARTILES, {})
    if not motion:
        return ""
    rows = []
    for name in in_table_order(results.scores):
        found = [results.against(name, PLAIN, data, part, QUARTILES) for part in motion]
        if name != PLAIN and any(found):
            rows.append([find_variant(name).label, *(_interval(one) if one else "" for one in found)])
    teacher = results.references.get("teacher", {}).get(data, {}).get(QUARTILES, {})
    plain = {part: list(results.values(PLAIN, data, part, QUARTILES).values()) for part in motion}
    if teacher and all(plain.values()):
        rows.append(["teacher", *(f"{teacher[part] - statistics.fmean(plain[part]):+.3f}" for part in motion)])
    return markdown_rows(["", *(f"{part}: {pixels:.2f} px" for part, pixels in motion.items())], rows) if rows else ""


def by_neighbors(results: Results, data: str) -> str:
    """Return the differences from plain with copies as neighbors, and of the temporal share; empty without any."""
    rows = []
    for name in in_table_order(results.scores):
        alone, share = results.against(name, PLAIN, data, "copies", NEIGHBORS), results.share_against(name, PLAIN, data)
        if name != PLAIN and alone and share:
            rows.append([find_variant(name).label, _interval(alone), _interval(share), str(share.seeds)])
    return markdown_rows(["", "with copies", "temporal share", "n"], rows) if rows else ""


def _detectable(differences: Sequence[Difference]) -> str:
    deviation = pooled_deviation(differences)
    counts = sorted({difference.seeds for difference in differences})
    amounts = ", ".join(f"{detectable_difference(deviation, seeds):.3f} dB with {seeds} seeds" for seeds in counts)
    test = f"{100 * POWER:.0f} % power, two-sided {100 * (1 - CONFIDENCE):.0f} %, paired t-test"
    return (
        f"Detectable difference ({test}): {amounts}, for the observed standard deviation of a difference, "
        f"{deviation:.3f} dB, pooled over the variants."
    )


def _adjusted(title: str, differences: dict[str, Difference | None]) -> str:
    adjusted = holm({name: found.p_value if found else 1.0 for name, found in differences.items()})
    parts = []
    for name, found in differences.items():
        passed = found is None or adjusted[name] < 1 - CONFIDENCE
        word = verdict(found) if passed else "no measurable gain"
        parts.append(f"{find_variant(name).label}: " + (f"p = {adjusted[name]:.2g}, {word}" if found else word))
    counted = (
        f"{title} comparison with plain"
        if len(parts) == 1
        else f"{title} comparisons with plain, p-values adjusted by Holm's method"
    )
    return f"{counted}: {'; '.join(parts)}."


def per_clip(results: Results, data: str) -> str:
    """Return PSNR-Y and SSIM-Y on every clip of a set, as means over seeds.

    Variants with a single seed are left out, unless all have one.
    """
    clips, rows = [*results.clips(data), MEAN], []
    counts = {name: len(results.values(name, data, PSNR)) for name in in_table_order(results.scores)}
    several = [name for name, count in counts.items() if count > 1]
    for name in ["bicubic", *(several or counts), "teacher"]:
        seeds = results.scores.get(name)
        scores = [one.get(data, {}) for one in seeds.values()] if seeds else results.reference(name, data)
        cells = []
        for clip in clips:
            pairs = [(one[clip][PSNR], one[clip]["ssim_y"]) for one in scores if clip in one]
            cells.append("{:.2f} / {:.4f}".format(*map(statistics.fmean, zip(*pairs, strict=True))) if pairs else "")
        if any(cells):
            rows.append([find_variant(name).label if seeds else name, *cells])
    return markdown_rows(["", *clips], rows)


def page(results: Results, *, families: Families | None = None, pairs: Collection[tuple[str, str]] = ()) -> str:
    """Return all tables, with the settings before them; see :func:`table`."""
    settings = results.settings
    steps, crops = settings["steps"], settings["data.num_fixed_crops"]
    parts = [
        f"Teacher `{settings['teacher.name']}` (sha256 {settings['teacher.weights'][:12]}), student "
        f"`{settings['student.name']}`: {steps:,} steps with {settings['data.batch_size']} clips of "
        f"{settings['data.num_frames']} frames, crop size {settings['data.crop_size']}, from {crops:,} fixed crops in "
        f"{settings['data.augmentations_per_crop']} augmentations each. In parentheses: gradient-norm "
        "ratio of a loss, that of its gradient norm to the reconstruction's. A difference compares runs with the "
        "same seed; its interval is Student's, paired, over seeds: it is about these clips. Where it contains zero, "
        "there is no measurable gain. Intervals over clips and seeds, also that of the gap closed, are bootstraps "
        f"({RESAMPLES:,} resamples of both, with replacement): they are about other clips of this kind, and too narrow "
        "for few clips (in simulations 84 % instead of 95 % coverage for four, 92 % for eight)."
    ]
    usual = shared_config(data="", teacher=Network(), student=settings["student.name"], steps=steps, crops=crops)
    others = {name: new for name, (_, new) in differences(usual.to_dict(), settings).items() if name not in STATED}
    if others:
        parts.append(f"Changed for all variants: {', '.join(f'{name} {value}' for name, value in others.items())}.")
    for name in results.sets:
        parts += [f"### {name}", table(results, name, families=families, pairs=pairs)]
        if results.clips(name):
            parts += ["PSNR-Y [dB] / SSIM-Y of each clip, means over seeds:", per_clip(results, name)]
        if text := by_neighbors(results, name):
            parts += [
                "Difference from plain [dB] in two parts, 95 % over seeds, sampled frames: with copies of the frame in "
                "place of its neighbors, and the temporal share (with true neighbors minus with copies):",
                text,
            ]
        if text := by_motion(results, name):
            parts += [
                "PSNR-Y against plain [dB] by motion of the frames, 95 % over seeds. Columns: quartiles of the frames "
                "by mean optical flow (DIS, in low-resolution pixels a frame), and its mean:",
                text,
            ]
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
