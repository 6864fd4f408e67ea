"""``workbench upload``: weights and their card to the Hugging Face Hub."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import Annotated

import tyro

from workbench.amounts import in_bytes
from workbench.cli.command import command
from workbench.cli.terminal import RUNS, notes
from workbench.metrics import METRICS
from workbench.runs import Run, find_run, list_runs, shipped


@command
def upload(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|WEIGHTS")],
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")],
    /,
    *,
    license: str = "unknown",
    private: bool = False,
    runs: Path = RUNS,
) -> int:
    """Upload weights and their card to the Hugging Face Hub.

    Two files are written there, model.safetensors and README.md (the card); those that exist are replaced by a new
    commit. Log in first with `hf auth login`, or set HF_TOKEN. `--network hub:OWNER/NAME` and
    `--student.weights hub:OWNER/NAME` read the weights.

    Example: `workbench upload first me/vespcn-distilled --license apache-2.0 --private`

    Args:
        source: name of a run, a weights file, or pretrained:NAME. FILE.md next to FILE.safetensors is the text of the
            card; by default it is a table of the settings and scores.
        repository: repository on the hub, which is created if it does not exist.
        license: identifier of the license of the weights, as the hub lists them, such as apache-2.0.
        private: make a new repository private.
        runs: folder of the runs.
    """
    from workbench.evaluation.model_card import model_card
    from workbench.models import hub
    from workbench.models.weights import load, locate, read_card

    roots, scores = [runs, shipped("runs")], None
    if any(source in list_runs(root) for root in roots):
        run = find_run(roots, source)
        weights, scores = locate(run.weights()), _scores(run)
    else:
        weights = locate(source)
        scores = {key: value for key, value in read_card(weights).get("scores", {}).items() if key in METRICS}
    text = weights.with_suffix(".md")
    card = model_card(
        load(weights), repository.partition("/")[2], text.read_text(encoding="utf-8") if text.is_file() else "",
        license=license, scores=scores,
    )  # fmt: skip
    with notes.status(f"uploading {weights} ({in_bytes(weights.stat().st_size)}) and its card to {repository}"):
        address = hub.upload(weights, card, repository, private=private)
    print(address)
    return 0


def _scores(run: Run) -> dict[str, float]:
    """Return the mean scores of the student on the validation clip, at the last snapshot."""
    steps = run.snapshots()
    curves = run.snapshot(steps[-1]).curves if steps else ()
    values = {curve.key: [value for value in curve.series.get("student", []) if value is not None] for curve in curves}
    return {key: fsum(found) / len(found) for key, found in values.items() if found and key in METRICS}
