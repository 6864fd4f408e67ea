"""Write the stored scores into the texts that quote them: ``python tools/figures.py``; ``--check`` only compares.

``docs/experiment/`` contains the scores, ``docs/experiment.md`` the commands that made them. The pages of the
documentation and the cards of the shipped weights have a place for each table between two comment lines. README has one
of the figures, and no table.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import tyro
from matplotlib.figure import Figure

from workbench.evaluation.neighbors import NEIGHBORS, signed_db
from workbench.evaluation.scores import read_scores
from workbench.evaluation.tables import markdown_rows
from workbench.experiment.report import by_neighbors, page, table
from workbench.experiment.results import Results
from workbench.experiment.runner import VALIDATION, VID4
from workbench.experiment.variants import PLAIN, find_variant, in_table_order
from workbench.metrics import METRICS
from workbench.views.colors import METHODS

ROOT = Path(__file__).resolve().parents[1]
SCORES = ROOT / "docs" / "experiment"
SHARES = ROOT / "workbench" / "pretrained" / "temporal_share.json"
"""Temporal share of the shipped networks; the studio reads it, too."""
SHOWN = ("psnr_y_db", "ssim_y", "t_diff", "tof", "warping_error")
CARDS = ("basicvsr_s", "vespcn_plain", "vespcn_std", "vespcn_output", "edvr_s")
"""Shipped networks with a card, in the order of their table."""
SETS = {"shipped_vid4": "Vid4, BI x4", "shipped_held_out": "held-out frames of the sample, BI x4"}


def shipped(name: str) -> dict[str, dict[str, Any]]:
    """Return the scores of the shipped networks by method, written by ``workbench evaluate --table --format json``."""
    path = SCORES / f"{name}.json"
    if not path.is_file():
        raise SystemExit(f"{path.relative_to(ROOT)}: no such file; docs/experiment.md has the commands that write it")
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {method["method"]: method for method in stored["methods"]}


def both_sets(name: str) -> str:
    """Return the tables of a further experiment: scores, and differences in two parts, on both sets."""
    parts, stored = [], results(name)
    for data in stored.sets:
        parts += [f"**{data}**", table(stored, data), "Difference from plain [dB] in two parts, 95 % over seeds:"]
        parts.append(by_neighbors(stored, data))
    return "\n\n".join(parts)


def shipped_table(name: str) -> str:
    """Return the table of the shipped networks on one set of clips."""
    found = shipped(name)
    metrics = [metric for metric in SHOWN if all(metric in one["mean"] for one in found.values())]
    rows = (
        [
            method if method == "bicubic" else f"`{method}`",
            *(f"{one['mean'][metric]:.{METRICS[metric].digits}f}" for metric in metrics),
        ]
        for method, one in found.items()
    )
    return markdown_rows(["", *(METRICS[metric].heading for metric in metrics)], rows)


def share_table(*names: str) -> str:
    """Return the temporal share of some shipped networks on Vid4; a dash where it was not measured."""
    measured = {one["network"]: one["temporal_share"] for one in read_scores(SHARES)}
    rows = []
    for name in names:
        share = measured.get(name)
        gains = [*(share["gain_db"][kind] for kind in NEIGHBORS), share["true_minus_copies_db"]] if share else []
        cells = map(signed_db, gains or [math.nan] * (len(NEIGHBORS) + 1))
        rows.append([f"`{name}`", *cells])
    return markdown_rows(["gain over bicubic [dB]", *NEIGHBORS, "true - copies"], rows)


def card_lines(name: str) -> str:
    """Return the scores and the temporal share of the network of a card, those that are stored under its name."""
    lines = []
    for data, title in SETS.items():
        found = shipped(data)
        if name in found:
            ours, floor = (found[one]["mean"] for one in (name, "bicubic"))
            scores = [f"{one['psnr_y_db']:.2f} dB / {one['ssim_y']:.4f}" for one in (ours, floor)]
            lines.append(f"| {title} | {scores[0]} | {scores[1]} |")
    if lines:
        lines = ["| | PSNR-Y / SSIM-Y | bicubic |", "| --- | --- | --- |", *lines, ""]
    lines += ["Temporal share on Vid4, with these neighbor frames (`docs/networks.md`):", "", share_table(name)]
    return "\n".join(lines)


def results(name: str) -> Results:
    """Return stored scores of variants over seeds."""
    return Results.read(SCORES / f"{name}.json")


def gradient_norm_ratios(name: str) -> str:
    """Return the table of the losses' gradients that ``tools/gradient_norm_ratios.py`` measured."""
    rows = []
    for variant, losses in read_ratios(name)["losses"].items():
        for loss, one in losses.items():
            weight = f"{one['weight']:.2g}" if "weight" in one else ""
            numbers = [
                f"{one['ratio']:.2f}",
                weight,
                f"{one['cosine']:+.2f}",
                f"{one['early']:.3g}",
                f"{one['late']:.3g}",
            ]
            rows.append([find_variant(variant).label, loss.replace("_", " "), *numbers, str(one["n"])])
    headings = ["", "loss", "gradient-norm ratio", "weight", "cosine", "loss, steps 51-150", "last 100", "n"]
    return markdown_rows(headings, rows)


def step_times(name: str) -> str:
    """Return the table of the times of a training step, with the teacher's outputs in the cache."""
    seconds = read_ratios(name)["seconds_per_step"]
    rows = ([find_variant(variant).label, f"{one / seconds[PLAIN]:.2f}"] for variant, one in seconds.items())
    return markdown_rows(["", "time of a step, plain = 1"], rows)


def convergence(name: str) -> str:
    """Return the validation scores that ``tools/convergence.py`` measured during trainings, in their last fifth."""
    rows = []
    for variant, seeds in json.loads((SCORES / f"{name}.json").read_text(encoding="utf-8")).items():
        for seed, scores in seeds.items():
            steps = max(map(int, scores))
            half, late, end = (scores[str(steps * tenths // 10)] for tenths in (5, 8, 10))
            numbers = [f"{half:.3f}", f"{late:.3f}", f"{end:.3f}", f"{end - late:+.3f}"]
            rows.append([find_variant(variant).label, seed, f"{steps:,}", *numbers])
    return markdown_rows(["PSNR-Y [dB]", "seed", "steps", "half", "four fifths", "end", "last fifth"], rows)


def read_ratios(name: str) -> dict[str, Any]:
    """Return the content of a file of ``tools/gradient_norm_ratios.py``."""
    return json.loads((SCORES / f"{name}.json").read_text(encoding="utf-8"))


def forest(*panels: tuple[str, str]) -> Figure:
    """Draw the difference from plain of every variant with three or more seeds: a dot per seed, the mean, its interval.

    Args:
        panels: name of the stored results and of the data, one pair for each panel, from top to bottom.
    """
    stored = [(results(name), data) for name, data in panels]
    names = [
        [name for name in in_table_order(one.scores) if name != PLAIN and len(one.values(name, data, "psnr_y_db")) > 2]
        for one, data in stored
    ]
    height = 1.2 + 0.3 * len(panels) + 0.24 * sum(map(len, names))
    figure, axes = plt.subplots(
        len(panels), figsize=(8, height), layout="constrained", sharex=True, squeeze=False,
        height_ratios=[len(shown) + 1 for shown in names],
    )  # fmt: skip
    for axis, (one, data), shown in zip(axes.flat, stored, names, strict=True):
        plain = one.values(PLAIN, data, "psnr_y_db")
        for place, name in enumerate(shown):
            found, values = one.against(name, PLAIN, data, "psnr_y_db"), one.values(name, data, "psnr_y_db")
            assert found is not None  # of three seeds or more
            seeds = [values[seed] - plain[seed] for seed in values.keys() & plain.keys()]
            color = METHODS["distilled" if found.measurable and found.mean > 0 else "bicubic"]
            color = METHODS["plain"] if found.measurable and found.mean < 0 else color
            axis.plot(seeds, [place + 0.25] * len(seeds), "o", color=color, markersize=2.5, alpha=0.7)
            axis.errorbar(found.mean, place, xerr=found.half, fmt="o", color=color, capsize=3, markersize=5)
            axis.text(1.01, place, f"{len(seeds)} seeds", va="center", fontsize=9, transform=axis.get_yaxis_transform())
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(yticks=range(len(shown)), yticklabels=[find_variant(name).label for name in shown])
        frozen = " with frozen flow network" if one.settings.get("optimizer.flow_lr_mult") == 0 else ""
        title = f"{one.settings['student.name']}{frozen}, {one.settings['steps']:,} steps, "
        title += "Vid4" if data == VID4 else f"{data} clips"
        axis.set(ylim=(len(shown) - 0.4, -0.6), title=title)
        axis.grid(alpha=0.2, axis="x")
    axes.flat[-1].set_xlabel(
        "PSNR-Y against the plain student [dB]\norange: better, blue: worse, gray: the interval contains zero"
    )
    plt.close(figure)
    return figure


def share_scatter(name: str, *panels: tuple[str, str]) -> Figure:
    """Draw the PSNR-Y of every run over its temporal share, by variant; open: more steps.

    Args:
        name: name of the stored results.
        panels: name of a set and its title, from left to right.
    """
    stored = results(name)
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 5), layout="constrained", squeeze=False)
    for axis, (data, title) in zip(axes.flat, panels, strict=True):
        points = list[tuple[float, float]]()
        for place, variant in enumerate(in_table_order(stored.scores)):
            shares, psnr = stored.shares(variant, data), stored.values(variant, data, "psnr_y_db")
            found = [(shares[seed], psnr[seed]) for seed in shares]
            longer = any(part.startswith("steps=") for part in variant.split("+"))
            color, label = f"C{place % 10}", find_variant(variant).label
            if found:
                face = "none" if longer else color
                marker = "o" if place < 10 else "^"  # there are ten colors
                axis.scatter(
                    *zip(*found, strict=True), s=24, marker=marker, facecolors=face, edgecolors=color, label=label
                )
                points += [] if longer else found
        correlation = statistics.correlation(*zip(*points, strict=True))
        axis.set(xlabel="temporal share [dB]", ylabel="PSNR-Y [dB]", title=f"{title}: correlation {correlation:.2f}")
        axis.grid(alpha=0.2)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    plt.close(figure)
    return figure


FIGURES = {"validation.png": (("results", VALIDATION),), "vid4.png": (("results", VID4),),
           "further.png": (("steps_4500", VID4), ("frozen_flow", VID4), ("second_pair", VID4))}  # fmt: skip
"""Files of figures, with their panels."""

STD, BEST, OUTPUT = "sd_r0.1+td_r0.1+cells=all", "output_r3+frame_difference_r0.3", "output_r3"
FAMILIES = {"Primary": (STD,), "Secondary": ("sd_r0.1", "td_r0.1+cells=all", OUTPUT, BEST)}
CONTROL, BOTH = "true_frame_difference_r0.3", "output_r3+true_frame_difference_r0.3"
PAIRS = ((OUTPUT, STD), (BEST, OUTPUT), (BEST, "plain+steps=2000"), (BEST, BOTH), (BOTH, CONTROL),
         ("frame_difference_r0.3", CONTROL), (BEST, "frame_difference_r0.3"))  # fmt: skip
"""Comparisons of docs/experiment_plan.md."""

BLOCKS: dict[str, Callable[[], str]] = {
    "shipped on vid4": lambda: shipped_table("shipped_vid4"),
    "shipped on held_out": lambda: shipped_table("shipped_held_out"),
    "experiment": lambda: page(results("results"), families=FAMILIES, pairs=PAIRS),
    "gradient norm ratios": lambda: gradient_norm_ratios("gradient_norm_ratios"),
    "step times": lambda: step_times("gradient_norm_ratios"),
    "replication": lambda: table(results("replication"), VID4),
    "convergence": lambda: convergence("convergence"),
    "more steps": lambda: both_sets("steps_4500"),
    "frozen flow": lambda: both_sets("frozen_flow"),
    "second pair": lambda: both_sets("second_pair"),
    "search": lambda: table(results("search"), VALIDATION),
    "gradients of the search": lambda: gradient_norm_ratios("search_gradient_norm_ratios"),
    "temporal share": lambda: share_table(*CARDS),
    **{f"card of {name}": lambda name=name: card_lines(name) for name in CARDS},
}
"""Tables by their names in the comment lines of the texts."""

PLACE = re.compile(r"<!-- figures: (?P<name>[\w ]+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def filled(text: str) -> str:
    """Return a text with all of its tables made from the stored scores."""

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in BLOCKS:
            raise SystemExit(f"no table {name!r}; expected one of {', '.join(BLOCKS)}")
        return f"<!-- figures: {name} -->\n\n{BLOCKS[name]()}\n\n<!-- end of figures -->"

    return PLACE.sub(put, text)


def texts() -> list[Path]:
    """Return the pages that may have places for tables."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [*pages, *sorted((ROOT / "workbench" / "pretrained").glob("*.md"))]


def save(figure: Figure, name: str) -> None:
    """Write a figure; the file has no date and no version, so that equal figures are equal files."""
    figure.savefig(SCORES / name, dpi=110, facecolor="white", metadata={"Software": None})


def main(check: bool = False) -> None:
    """Write the tables into the texts, and draw them.

    Args:
        check: write nothing; exit status 1 where a text differs from the stored scores.
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
        for name, panels in FIGURES.items():
            save(forest(*panels), name)
        save(share_scatter("results", (VID4, "Vid4"), (VALIDATION, "validation clips")), "temporal_share.png")
    if check and stale:
        sys.exit(f"different from the stored scores: {', '.join(stale)}; run python tools/figures.py")


if __name__ == "__main__":
    tyro.cli(main)
