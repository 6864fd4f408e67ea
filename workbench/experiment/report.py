"""Tables of the experiment, in words that do not say more than the numbers do."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from workbench.evaluation.scores import METRICS
from workbench.experiment.results import Difference, Results
from workbench.experiment.rows import PLAIN, ROWS
from workbench.metrics.gap_closed import gap_closed

TEMPORAL = ("tof", "t_diff", "warping_error")


def verdict(difference: Difference | None, *, higher_is_better: bool = True) -> str:
    """What a paired difference says.

    Example:
        >>> verdict(Difference(0.03, 0.05, 5))
        'no measurable gain'
    """
    if difference is None:
        return "too few seeds"
    if not difference.measurable:
        return "no measurable gain"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def table(results: Results, data: str, rows: Sequence[str] = ()) -> str:
    """Rows on one set: mean and deviation over seeds, the paired difference to plain, and the share of the gap."""
    names = [name for name in rows or ROWS if results.values(name, data, "psnr_y_db")]
    temporal = [m for m in TEMPORAL if any(results.values(name, data, m) for name in names)]
    titles = [_title(metric) for metric in temporal]
    head = ["", "PSNR-Y [dB]", "against plain [dB], 95 % interval", "n", "gap closed", "", "SSIM-Y", *titles]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    bicubic, teacher = (
        results.references.get(name, {}).get(data, {}).get("mean", {}) for name in ("bicubic", "teacher")
    )
    plain = results.values(PLAIN, data, "psnr_y_db")
    if bicubic:
        lines.append(_reference("bicubic", bicubic, temporal))
    for name in names:
        values = results.values(name, data, "psnr_y_db")
        difference = results.against(name, PLAIN, data, "psnr_y_db") if name != PLAIN else None
        told = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]" if difference else ""
        share = ""
        if difference and teacher and plain:
            shared = sorted(values.keys() & plain.keys())
            mine, theirs = (statistics.fmean(held[seed] for seed in shared) for held in (values, plain))
            closed = gap_closed(theirs, mine, teacher["psnr_y_db"])
            share = "" if closed is None else f"{round(closed)}%"
        cells = [ROWS[name].label, _spread(list(values.values()), 2), told, str(len(values)), share]
        cells.append("" if name == PLAIN else verdict(difference))
        cells.append(_spread(list(results.values(name, data, "ssim_y").values()), 4))
        cells += [_spread(list(results.values(name, data, m).values()), METRICS[m].digits) for m in temporal]
        lines.append(_line(cells))
    if teacher:
        lines.append(_reference("teacher", teacher, temporal))
    return "\n".join(lines)


def per_clip(results: Results, data: str, rows: Sequence[str] = ()) -> str:
    """Clips by rows: PSNR-Y / SSIM-Y, means over seeds."""
    names = [name for name in rows or ROWS if results.values(name, data, "psnr_y_db")]
    first = next(iter(results.references.values()), {}).get(data, {})
    clips = [clip for clip in first if clip != "mean"]
    lines = [_line(["", *clips, "mean"]), _line(["---", *["---:"] * (len(clips) + 1)])]

    def cell(values: dict[str, float]) -> str:
        return f"{values['psnr_y_db']:.2f} / {values['ssim_y']:.4f}"

    def means(name: str, clip: str) -> dict[str, float]:
        return {
            metric: statistics.fmean(results.values(name, data, metric, clip).values())
            for metric in ("psnr_y_db", "ssim_y")
        }

    held = results.references
    if data in held.get("bicubic", {}):
        lines.append(_line(["bicubic", *(cell(held["bicubic"][data][clip]) for clip in (*clips, "mean"))]))
    lines += [_line([ROWS[name].label, *(cell(means(name, clip)) for clip in (*clips, "mean"))]) for name in names]
    if data in held.get("teacher", {}):
        lines.append(_line(["teacher", *(cell(held["teacher"][data][clip]) for clip in (*clips, "mean"))]))
    return "\n".join(lines)


def page(results: Results) -> str:
    """All tables, with the conditions above them and the rows that were not run below."""
    held = results.conditions
    teacher, student = held["teacher"], held["student"]
    parts = [
        f"`{teacher['name']}` (sha256 {teacher['sha256'][:12]}) teaches `{student}`: {held['steps']:,} steps of "
        f"{held['batch']} clips of {held['frames']} frames, crop {held['crop']}, from {held['fixed'][0]:,} fixed "
        f"crops in {held['fixed'][1]} views. A difference is that of runs with the same seed; its interval is "
        "Student's, paired, over seeds. Where it holds zero there is no measurable gain."
    ]
    sets = next(iter(results.references.values()), {})
    for name in sets:
        parts += [f"### {name}", table(results, name)]
        if len(sets[name]) > 1:
            parts += ["PSNR-Y [dB] / SSIM-Y of each clip, means over seeds:", per_clip(results, name)]
    missing = [row.label for name, row in ROWS.items() if not results.scores.get(name)]
    if missing:
        parts.append(f"Not run: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def _title(metric: str) -> str:
    held = METRICS[metric]
    return f"{held.title} [{held.unit}]" if held.unit else held.title


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    told = f"{statistics.fmean(values):.{digits}f}"
    return told + (f" ± {statistics.stdev(values):.{digits + (digits < 3)}f}" if len(values) > 1 else "")


def _reference(name: str, values: dict[str, float], temporal: Sequence[str]) -> str:
    cells = [name, f"{values['psnr_y_db']:.2f}", "", "", "", "", f"{values['ssim_y']:.4f}"]
    return _line([*cells, *(f"{values[m]:.{METRICS[m].digits}f}" if m in values else "" for m in temporal)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
