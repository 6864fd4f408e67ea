"""``workbench flow``: accuracy of the optical flow that networks estimate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, OutputConsole, notes, split_names

FLOW = "pretrained:flow"
"""Weights of the flow network of VESPCN alone."""


@command
def flow(
    *,
    network: str = "plain",
    protocol: str = "vid4",
    data: str = "",
    frames: int = 2,
    out: Path | None = None,
    device: str = "auto",
    runs: Path = RUNS,
) -> int:
    """Measure the optical flow that networks estimate against that of the ground truth.

    The reference is Farneback's flow between the high-resolution frames. Errors are in low-resolution pixels;
    a slope of 1 is the size of the reference, 0 is no flow. The last rows compare the reference with another estimator
    (DIS) of the same high-resolution frames: the uncertainty of the reference.

    Example: `workbench flow --network plain --data data/Vid4`

    Args:
        network: one or more methods with optical flow, separated by commas: plain, distilled, pretrained:flow, a
            weights file, RUN or RUN@STEP (or the path of a run's folder).
        protocol: dataset and degradation, as in `workbench evaluate`.
        data: folder of the dataset.
        frames: reference frames per clip; each is compared with the two frames before and the two after.
        out: a JSON file for the results.
        device: device: auto, cpu, cuda or mps.
        runs: folder of the run folders.
    """
    from workbench.atomic_files import write_atomic
    from workbench.config import Network
    from workbench.data.datasets.registry import open_set
    from workbench.devices import choose_device
    from workbench.evaluation.flow_accuracy import flow_accuracy, mean_accuracy, reference_agreement
    from workbench.evaluation.methods import load_method, make_network
    from workbench.evaluation.protocols import find_protocol

    chosen = find_protocol(protocol)
    clips = open_set(chosen.data_set, data or chosen.data, scale=chosen.scale, **chosen.options)
    table = Table("flow", "clip", "motion", "end-point error", "slope")
    stored = []
    for name in [*split_names(network), ""]:
        if name:
            if name == FLOW:
                label, estimator = FLOW, make_network(Network(name="vespcn_s", flow_weights=FLOW), chosen.scale)
            else:
                method = load_method(name, scale=chosen.scale, runs=[runs])
                label, estimator = method.method.key, method.network
            estimator.to(choose_device(device))
            found = flow_accuracy(estimator, clips, degradation=chosen.degradation, frames_per_clip=frames)
        else:
            label, found = "DIS of the ground truth", reference_agreement(clips, frames_per_clip=frames)
        with notes.status(f"{label}: flow"):
            results = list(found)
        for one in (*results, mean_accuracy(results)):
            table.add_row(label, one.clip, f"{one.motion:.3f}", f"{one.end_point_error:.3f}", f"{one.slope:.2f}")
            stored.append({"network": label, **asdict(one)})
    OutputConsole().print(table)
    if out is not None:
        write_atomic(out, json.dumps({"protocol": chosen.name, "frames": frames, "results": stored}, indent=1))
        notes.print(f"results: {out}")
    return 0
