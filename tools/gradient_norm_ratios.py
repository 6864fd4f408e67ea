"""Measure gradient-norm ratios of the losses of an experiment: ``python tools/gradient_norm_ratios.py experiment``.

Every run records, each hundredth step (``gradient_stats_every``), the gradient norm of each loss and the cosine between
each two. For every variant: the weighted norm of a loss relative to that of the reconstruction, the cosine of the two,
the weight, and the loss itself, unweighted, early and late; and the time of a step. Medians over the records of a run,
means over seeds, written as JSON for ``tools/figures.py``.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import tyro

from workbench.atomic_files import write_atomic
from workbench.experiment.results import Results
from workbench.experiment.runner import run_folder
from workbench.experiment.variants import in_table_order
from workbench.runs import Run

EARLY, LATE = slice(50, 150), slice(-100, None)


def gradient_norm_ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of each loss but the reconstruction, from the rows of a run's log."""
    measured = [row for row in rows if "gradient.reconstruction" in row]
    found: dict[str, dict[str, float]] = {}
    for loss in [name for name in rows[-1]["terms"] if name != "reconstruction"]:
        ratios = [row["weights"][loss] * row[f"gradient.{loss}"] / row["gradient.reconstruction"] for row in measured]
        found[loss] = {
            "ratio": statistics.median(ratios),
            "weight": statistics.median(row["weights"][loss] for row in measured),
            "cosine": statistics.median(row[f"cosine.reconstruction.{loss}"] for row in measured),
            "early": statistics.fmean(row["terms"][loss] for row in rows[EARLY]),
            "late": statistics.fmean(row["terms"][loss] for row in rows[LATE]),
        }
    return found


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    out: Path = Path("docs/experiment/gradient_norm_ratios.json"),
) -> None:
    """Write the numbers of every variant that has been scored; those of variants without runs in the folder are kept.

    Args:
        folder: folder of an experiment, with results.json and runs.
        out: file of the numbers.
    """
    stored = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"losses": {}, "seconds_per_step": {}}
    losses: dict[str, dict[str, dict[str, float]]] = {}
    seconds: dict[str, float] = {}
    scores = Results.read(folder / "results.json").scores
    for name in in_table_order(scores):
        folders = [run_folder(folder, name, seed) for seed in scores[name]]
        if not all((one / "metrics.jsonl").is_file() for one in folders):
            for kept, before in ((losses, stored["losses"]), (seconds, stored["seconds_per_step"])):
                if name in before:
                    kept[name] = before[name]
            continue
        runs = [Run(one).metrics() for one in folders]
        seconds[name] = statistics.fmean(statistics.median(row["seconds"] for row in rows) for rows in runs)
        seeds = [gradient_norm_ratios(rows) for rows in runs]
        if seeds[0]:
            losses[name] = {
                loss: {key: statistics.fmean(one[loss][key] for one in seeds) for key in seeds[0][loss]}
                | {"n": len(seeds)}
                for loss in seeds[0]
            }
    write_atomic(out, json.dumps({"losses": losses, "seconds_per_step": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
