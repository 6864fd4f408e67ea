"""``workbench flow``: accuracy of the optical flow that networks estimate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from workbench.cli.command import command
from workbench.cli.terminal import RUNS, OutputConsole, notes, split_names


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
    a slope of 1 is the size of the reference, 0 is no flow. Example:
    `workbench flow --network plain --data data/Vid4`

    Args:
        network: one or more methods with optical flow, separated by commas: plain, distilled, a weights file, a zoo
            name, RUN or RUN@STEP.
        protocol: dataset and degradation, as in `workbench evaluate`.
        data: folder of the dataset.
        frames: reference frames per clip; each is compared with the two frames before and the two after.
        out: a JSON file for the results.
        device: device: auto, cpu, cuda or mps.
        runs: folder of the run folders.
    """
    from workbench.data.datasets.registry import open_set
    from workbench.devices import choose_device
    from workbench.evaluation.flow_accuracy import flow_accuracy, mean_accuracy
    from workbench.evaluation.methods import load_method
    from workbench.evaluation.protocols import find_protocol
    from workbench.scenes import write_atomic

    chosen = find_protocol(protocol)
    clips = open_set(chosen.data_set, data or chosen.data, scale=chosen.scale, **chosen.options)
    table = Table("network", "clip", "motion", "end-point error", "slope")
    stored = []
    for name in split_names(network):
        method = load_method(name, scale=chosen.scale, runs=[runs])
        place = choose_device(device)
        with notes.status(f"{name}: flow"):
            results = list(
                flow_accuracy(method.network.to(place), clips, degradation=chosen.degradation, frames_per_clip=frames)
            )
        for one in (*results, mean_accuracy(results)):
            table.add_row(
                method.method.key,
                one.clip,
                f"{one.motion:.3f}",
                f"{one.end_point_error:.3f}",
                f"{one.slope:.2f}",
            )
            stored.append({"network": method.method.key, **asdict(one)})
    OutputConsole().print(table)
    if out is not None:
        write_atomic(out, json.dumps({"protocol": chosen.name, "frames": frames, "results": stored}, indent=1))
        notes.print(f"results: {out}")
    return 0
