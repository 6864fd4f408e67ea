"""``workbench plot-tradeoff``: quality against time, on this machine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from workbench.atomic_files import write_atomic
from workbench.cli.command import command
from workbench.cli.terminal import COLUMNS, RUNS, notes, split_names
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.evaluation.speed import Speed

FORMAT = 1
"""Format version of the numbers of the figure."""


@command
def plot_tradeoff(
    *,
    data: str,
    networks: str = "bicubic,plain,distilled,teacher",
    pairs: str = "plain:distilled",
    out: Path = Path("tradeoff.png"),
    scores: Path | None = None,
    protocol: str = "vid4",
    clip: str = "walk",
    frames: int = 8,
    rounds: int = 5,
    times: Path | None = None,
    threads: int = 0,
    device: str = "auto",
    runs: Path = RUNS,
) -> int:
    """Plot the quality of networks on a clip against their time for a frame on this machine.

    Networks of one architecture take the same time, so they are timed once: the arrow from a student to the same
    student after distillation goes straight up. Close other programs first.

    Example: `workbench plot-tradeoff --data Vid4 --out tradeoff.png`

    Args:
        data: folder of Vid4, as for `workbench evaluate`.
        networks: networks with weights, separated by commas, as for `workbench evaluate`.
        pairs: student without and with distillation, WITHOUT:WITH, separated by commas; pairs of other networks are
            left out.
        out: file of the figure: .png, .svg or .pdf.
        scores: file of the numbers; the name of the figure with .json by default.
        protocol: name of the protocol.
        clip: clip of the dataset.
        frames: frames of the clip that is timed.
        rounds: number of timed rounds, of which the median counts.
        times: file written by `workbench bench --out` on this machine: networks timed there at 180x120 under PyTorch
            in fp32 are not timed again.
        threads: CPU threads; 0: all cores, or OMP_NUM_THREADS.
        device: device: auto, cpu, cuda, mps.
        runs: folder of the runs.
    """
    import torch

    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.evaluate import evaluate
    from workbench.evaluation.methods import load_method
    from workbench.evaluation.protocols import find_protocol
    from workbench.evaluation.speed import in_milliseconds, measure
    from workbench.models.cost import cost
    from workbench.views.figures import quality_over_time

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"out: got {out}, expected a name that ends in .png, .svg or .pdf")
    target = scores or out.with_suffix(".json")
    for path in (out, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    set_num_threads(threads)
    names = list(dict.fromkeys(split_names(networks)))
    if not names:
        raise ConfigError("networks: name at least one, for example bicubic,plain,distilled,teacher")
    chosen, target_device = find_protocol(protocol), choose_device(device)
    wanted = [_pair(given) for given in split_names(pairs)]
    methods = {name: load_method(name, scale=chosen.scale, runs=[runs]) for name in names}
    measured = {} if times is None else _read_times(times)
    speeds: dict[str, Speed] = {}
    rows: list[dict[str, Any]] = []
    with Progress(*COLUMNS, console=notes) as bar:
        for name, method in methods.items():
            task = bar.add_task(name, total=None)
            network = method.network
            architecture = json.dumps(network.recipe, sort_keys=True) if network.recipe else name
            if architecture not in speeds:
                bar.update(task, description=f"{name}: time")
                speeds[architecture] = measured.get(name) or measure(
                    network, frames=frames, rounds=rounds, device=target_device
                )
            result = evaluate(
                network, data, chosen, name=name, note=method.method.note, clips=[clip], device=target_device,
                progress=lambda _, done, total, task=task, name=name: bar.update(
                    task, description=f"{name}: {clip}", completed=done, total=total
                ),
            )  # fmt: skip
            size = cost(network)
            rows.append(
                {
                    "method": name,
                    "label": method.method.label,
                    "note": method.method.note,
                    **result.mean,
                    "parameters": size.parameters,
                    "macs": size.macs,
                    "speed": speeds[architecture].to_dict(),
                }
            )
    drawn = [pair for pair in wanted if set(pair) <= methods.keys()]
    metric = f"psnr_{chosen.channel}_db"
    one = next(iter(speeds.values()))
    figure = quality_over_time(
        {row["method"]: row["speed"]["seconds_per_frame"] for row in rows},
        {row["method"]: row[metric] for row in rows},
        pairs=drawn,
        labels={row["method"]: row["label"] for row in rows},
        quality_label=f"PSNR-{chosen.channel.upper()} on {clip}, {chosen.degradation.upper()} x{chosen.scale} (dB)",
        time_label=f"seconds a frame, {one.width}x{one.height} in",
        title=f"{clip} under protocol {chosen.name}\n{one.conditions}",
    )
    image = io.BytesIO()
    figure.savefig(image, format=out.suffix[1:], dpi=150)
    write_atomic(out, image.getvalue())
    numbers = {
        "format": FORMAT,
        "protocol": chosen.to_dict(),
        "clip": clip,
        "conditions": one.conditions,
        "torch": torch.__version__,
        "methods": rows,
        "pairs": [list(pair) for pair in drawn],
    }
    write_atomic(target, json.dumps(numbers, indent=1) + "\n")
    print(f"{'method':<24} {'PSNR [dB]':>10} {'ms a frame':>11} {'parameters':>12}")
    for row in rows:
        milliseconds = in_milliseconds(row["speed"]["seconds_per_frame"])
        print(f"{row['method']:<24} {row[metric]:>10.2f} {milliseconds:>11} {row['parameters']:>12,}")
    notes.print(f"figure: {out}; numbers: {target}")
    return 0


def _pair(given: str) -> tuple[str, str]:
    before, colon, after = (part.strip() for part in given.partition(":"))
    if not (before and colon and after):
        raise ConfigError(f"pairs: got {given!r}, expected WITHOUT:WITH")
    return before, after


def _read_times(path: Path) -> dict[str, Speed]:
    """Read the speeds that ``workbench bench`` measured under the conditions of this command."""
    from workbench.evaluation.speed import Speed
    from workbench.models.cost import HEIGHT, WIDTH

    try:
        rows = json.loads(path.read_text())["rows"]
        found = [(row["network"], Speed(**row["speed"])) for row in rows if row["runtime"] == "torch"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a file that `workbench bench --out` wrote ({error})") from error
    return {name: one for name, one in found if (one.width, one.height, one.precision) == (WIDTH, HEIGHT, "fp32")}
