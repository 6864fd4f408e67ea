"""How hard each way to teach pulls beside the truth: ``python tools/pulls.py experiment/runs``.

Every run records, each hundredth step (``gradient_stats_every``), the norm of each term's gradient and the cosine
between each two. For every row: the weighted norm of its term over that of the reconstruction, the cosine of the two,
and the term itself, unweighted, early and late. Medians over a run's records, means over its seeds, written as JSON for
``tools/figures.py``.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import tyro

from workbench.experiment.rows import ROWS
from workbench.runs import Run
from workbench.scenes import write_atomic

EARLY, LATE = slice(50, 150), slice(-100, None)


def pulls(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Term -> its numbers, from the lines of one run's log; the reconstruction itself is left out."""
    looked = [row for row in rows if "gradient.reconstruction" in row]
    found: dict[str, dict[str, float]] = {}
    for term in rows[-1]["terms"]:
        if term == "reconstruction":
            continue
        share = [r["weights"][term] * r[f"gradient.{term}"] / r["gradient.reconstruction"] for r in looked]
        found[term] = {
            "share": statistics.median(share),
            "cosine": statistics.median(r[f"cosine.reconstruction.{term}"] for r in looked),
            "early": statistics.fmean(r["terms"][term] for r in rows[EARLY]),
            "late": statistics.fmean(r["terms"][term] for r in rows[LATE]),
        }
    return found


def main(runs: Annotated[Path, tyro.conf.Positional], /, *, out: Path = Path("docs/experiment/pulls.json")) -> None:
    """Write the numbers of every row that has finished runs.

    Args:
        runs: the folder ``runs`` of an experiment: ROW-SEED each.
        out: where the numbers go.
    """
    told: dict[str, dict[str, dict[str, float]]] = {}
    for row in ROWS:
        folders = sorted(runs.glob(f"{row}-[0-9]*"))
        seen = [pulls(Run(f).metrics()) for f in folders if Run(f).status().state == "finished"]
        terms = seen[0] if seen else {}
        if terms:
            told[row] = {
                term: {key: statistics.fmean(one[term][key] for one in seen) for key in terms[term]} | {"n": len(seen)}
                for term in terms
            }
    write_atomic(out, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
