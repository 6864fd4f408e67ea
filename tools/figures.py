"""Put the stored scores into the texts that quote them: ``python tools/figures.py``; ``--check`` only compares.

Scores lie in ``docs/experiment/``; the commands that made them are in ``docs/experiment.md``. README, that page and the
cards of the shipped weights have a place for each table between two comment lines, and hold no other figure of them.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import tyro
from matplotlib.figure import Figure

from workbench.evaluation.neighbors import NEIGHBORS, signed_db
from workbench.evaluation.scores import METRICS, read_scores
from workbench.experiment.report import page, table
from workbench.experiment.results import Results
from workbench.experiment.rows import PLAIN, ROWS
from workbench.views.colours import METHODS

ROOT = Path(__file__).resolve().parents[1]
SCORES = ROOT / "docs" / "experiment"
SHARES = ROOT / "workbench" / "pretrained" / "temporal_share.json"
"""Temporal share of what ships; the studio reads it, too."""
LABELS = {
    "bicubic": "bicubic",
    "plain": "plain student, `vespcn_s`",
    "distilled": "distilled student, `vespcn_s`",
    "teacher": "teacher, `edvr_s`",
}
SHOWN = ("psnr_y_db", "ssim_y", "t_diff", "tof", "warping_error")
CARDS = {
    "edvr_s": "teacher",
    "vespcn_plain": "plain",
    "vespcn_distilled": "distilled",
    **{f"demo_{role}": f"demo_{role}" for role in ("teacher", "plain", "distilled")},
    "basicvsr_s": "",
}
"""Card -> what its network is called in the scores; empty where its temporal share alone is stored."""
SETS = {"shipped_vid4": "Vid4, BI x4", "shipped_held_out": "held-out frames of the sample, BI x4"}
DEMO_SETS = {"demo_held_out": "held-out frames of the sample, BI x4"}


def shipped(name: str) -> dict[str, dict[str, Any]]:
    """Scores of the shipped set by method, as ``workbench evaluate --table --format json`` wrote them."""
    path = SCORES / f"{name}.json"
    if not path.is_file():
        raise SystemExit(f"{path.relative_to(ROOT)}: no such scores yet; docs/experiment.md says what makes them")
    held = json.loads(path.read_text(encoding="utf-8"))
    return {method["method"]: method for method in held["methods"]}


def shipped_table(name: str) -> str:
    """The shipped set on one set of clips."""
    found = shipped(name)
    metrics = [metric for metric in SHOWN if all(metric in one["mean"] for one in found.values())]
    heads = [
        METRICS[metric].title + (f" [{METRICS[metric].unit}]" if METRICS[metric].unit else "") for metric in metrics
    ]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for method, label in LABELS.items():
        cells = [f"{found[method]['mean'][metric]:.{METRICS[metric].digits}f}" for metric in metrics]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def share_table(*names: str) -> str:
    """Return the temporal share of some shipped networks on Vid4; a dash where it was not measured."""
    measured = {one["network"]: one["temporal_share"] for one in read_scores(SHARES)}
    lines = [f"| gain over bicubic [dB] | {' | '.join(NEIGHBORS)} | true - copies |"]
    lines.append(f"| --- |{' ---: |' * (len(NEIGHBORS) + 1)}")
    for name in names:
        share = measured.get(name)
        gains = [*(share["gain_db"][kind] for kind in NEIGHBORS), share["true_minus_copies_db"]] if share else []
        cells = map(signed_db, gains or [math.nan] * (len(NEIGHBORS) + 1))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def card_lines(name: str) -> str:
    """What a card says of its network's scores, and its temporal share."""
    method = CARDS[name]
    lines = ["| | PSNR-Y / SSIM-Y | bicubic |", "| --- | --- | --- |"] if method else []
    sets = (DEMO_SETS if method.startswith("demo_") else SETS) if method else {}
    for data, title in sets.items():
        ours, floor = (shipped(data)[one]["mean"] for one in (method, "bicubic"))
        told = [f"{one['psnr_y_db']:.2f} dB / {one['ssim_y']:.4f}" for one in (ours, floor)]
        lines.append(f"| {title} | {told[0]} | {told[1]} |")
    lines += ["", "Temporal share on Vid4, with these neighbor frames (`docs/networks.md`):", "", share_table(name)]
    return "\n".join(lines).lstrip("\n")


def results(name: str) -> Results:
    """Stored scores of rows over seeds."""
    return Results.read(SCORES / f"{name}.json")


def pulls_table(name: str) -> str:
    """How hard each way to teach pulls, see ``tools/pulls.py``."""
    held = json.loads((SCORES / f"{name}.json").read_text(encoding="utf-8"))
    lines = ["| | term | pull, to the truth's | cosine to it | term, steps 51-150 | last 100 | n |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for row, terms in held.items():
        for term, one in terms.items():
            numbers = f"{one['share']:.3f} | {one['cosine']:+.2f} | {one['early']:.3g} | {one['late']:.3g} | {one['n']}"
            lines.append(f"| {ROWS[row].label} | {term} | {numbers} |")
    return "\n".join(lines)


def forest() -> Figure:
    """Every row against the plain student with the same seed: each seed a dot, the mean with its interval beside."""
    panels = [("results", "vid4"), ("ablation", "validation")]
    held = {panel: results(panel[0]) for panel in panels}
    rows = {p: [r for r in ROWS if r != PLAIN and one.against(r, PLAIN, p[1], "psnr_y_db")] for p, one in held.items()}
    figure, axes = plt.subplots(
        len(panels), figsize=(8, 1.6 + 0.24 * sum(map(len, rows.values()))), layout="constrained", sharex=True,
        height_ratios=[len(names) + 1 for names in rows.values()],
    )  # fmt: skip
    for axis, (panel, names) in zip(axes, rows.items(), strict=True):
        one, data = held[panel], panel[1]
        plain = one.values(PLAIN, data, "psnr_y_db")
        for place, name in enumerate(names):
            found, values = one.against(name, PLAIN, data, "psnr_y_db"), one.values(name, data, "psnr_y_db")
            seeds = [values[seed] - plain[seed] for seed in values.keys() & plain.keys()]
            colour = METHODS["distilled" if found.measurable and found.mean > 0 else "bicubic"]
            colour = METHODS["plain"] if found.measurable and found.mean < 0 else colour
            axis.plot(seeds, [place + 0.25] * len(seeds), "o", color=colour, markersize=2.5, alpha=0.7)
            axis.errorbar(found.mean, place, xerr=found.half, fmt="o", color=colour, capsize=3, markersize=5)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(yticks=range(len(names)), yticklabels=[ROWS[name].label for name in names])
        axis.set(ylim=(len(names) - 0.4, -0.6), title=f"{one.conditions['steps']:,} steps, {data}")
        axis.grid(alpha=0.2, axis="x")
    axes[-1].set_xlabel("PSNR-Y against the plain student [dB]\norange: better, blue: worse, grey: cannot be told")
    plt.close(figure)
    return figure


BLOCKS: dict[str, Callable[[], str]] = {
    "shipped on vid4": lambda: shipped_table("shipped_vid4"),
    "shipped on held_out": lambda: shipped_table("shipped_held_out"),
    "experiment on vid4": lambda: table(results("results"), "vid4"),
    "experiment": lambda: page(results("results")),
    "pulls": lambda: pulls_table("pulls"),
    "ablation": lambda: page(results("ablation")),
    "pulls of the ablation": lambda: pulls_table("ablation_pulls"),
    "temporal share": lambda: share_table(*CARDS),
    **{f"card of {name}": lambda name=name: card_lines(name) for name in CARDS},
}
"""Every table by the name that the comment lines in the texts call it by."""

PLACE = re.compile(r"<!-- figures: (?P<name>[\w ]+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def filled(text: str) -> str:
    """A text with all of its tables as the stored scores have them now."""

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in BLOCKS:
            raise SystemExit(f"no table {name!r}; there are {', '.join(BLOCKS)}")
        return f"<!-- figures: {name} -->\n\n{BLOCKS[name]()}\n\n<!-- end of figures -->"

    return PLACE.sub(put, text)


def texts() -> list[Path]:
    """Every page of ours that may hold such a place."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [*pages, *sorted((ROOT / "workbench" / "pretrained").glob("*.md"))]


def main(check: bool = False) -> None:
    """Write the tables into the texts, and draw them.

    Args:
        check: write nothing; exit status 1 where a text says something else than the scores do.
    """
    stale = []
    for path in texts():
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(after, encoding="utf-8")
    if not check:
        forest().savefig(SCORES / "forest.png", dpi=110, facecolor="white", metadata={"Software": None})
    if check and stale:
        sys.exit(f"not what the stored scores say: {', '.join(stale)}; run python tools/figures.py")


if __name__ == "__main__":
    tyro.cli(main)
