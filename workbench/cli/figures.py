"""``workbench walk``: quality against time, on the machine at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from workbench.cli.command import command
from workbench.cli.scoring import COLUMNS
from workbench.cli.terminal import RUNS, notes, split_names
from workbench.errors import ConfigError
from workbench.scenes import write_atomic

if TYPE_CHECKING:
    from workbench.evaluation.speed import Speed

FORMAT = 1
"""Version of the numbers beside the figure."""


@command
def walk(
    *,
    data: str,
    networks: str = "bicubic,plain,distilled,teacher",
    pairs: str = "plain:distilled",
    out: Path = Path("walk.png"),
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
    """Plot PSNR-Y of networks on Vid4's walk against their time per frame on this machine.

    Networks that are built alike take the same time, so they are timed once: between a student and the same
    student distilled the arrow goes straight up. Close other programs first.

    Args:
        data: the folder of Vid4, as for `workbench evaluate`.
        networks: separated by commas, as for `workbench evaluate`; each needs weights.
        pairs: without and with distillation, WITHOUT:WITH, separated by commas; pairs of networks that are not
            named above are left out.
        out: the picture to write: .png, .svg or .pdf.
        scores: where its numbers go; beside it, as .json, where left out.
        protocol: how to score.
        clip: of the set.
        frames: of the clip that is timed.
        rounds: how often; the median counts.
        times: what `workbench bench --out` wrote here: networks that it has timed at 180x120 under PyTorch in fp32
            are not timed again.
        threads: of the CPU; 0 means as many as there are cores, or as OMP_NUM_THREADS says.
        device: auto, cpu, cuda, mps.
        runs: where runs are looked for.
    """
    import io

    import torch

    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.compare import load_method
    from workbench.evaluation.evaluate import evaluate
    from workbench.evaluation.protocols import find_protocol
    from workbench.evaluation.speed import in_milliseconds, measure
    from workbench.models.cost import cost
    from workbench.views.figures import quality_over_time

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{out}: want a name that ends in .png, .svg or .pdf")
    target = scores or out.with_suffix(".json")
    for path in (out, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    set_num_threads(threads)
    names = list(dict.fromkeys(split_names(networks)))
    if not names:
        raise ConfigError("networks: name at least one, for example bicubic,plain,distilled,teacher")
    chosen, place = find_protocol(protocol), choose_device(device)
    wanted = [_pair(given) for given in split_names(pairs)]
    contenders = {name: load_method(name, scale=chosen.scale, runs=[runs]) for name in names}
    measured = {} if times is None else _times(times)
    known: dict[str, Speed] = {}
    rows: list[dict[str, Any]] = []
    with Progress(*COLUMNS, console=notes) as bar:
        for name, contender in contenders.items():
            task = bar.add_task(name, total=None)
            network = contender.network
            built = json.dumps(network.recipe, sort_keys=True) if network.recipe else name
            if built not in known:
                bar.update(task, description=f"{name}: time")
                known[built] = measured.get(name) or measure(network, frames=frames, rounds=rounds, device=place)
            report = evaluate(
                network, data, chosen, name=name, note=contender.method.note, clips=[clip], device=place,
                progress=lambda _, done, total, task=task, name=name: bar.update(
                    task, description=f"{name}: {clip}", completed=done, total=total
                ),
            )  # fmt: skip
            found = cost(network)
            rows.append(
                {
                    "method": name,
                    "label": contender.method.label,
                    "note": contender.method.note,
                    **report.mean,
                    "parameters": found.parameters,
                    "macs": found.macs,
                    "speed": known[built].to_dict(),
                }
            )
    there = [pair for pair in wanted if set(pair) <= contenders.keys()]
    metric = f"psnr_{chosen.channel}_db"
    one = next(iter(known.values()))
    family = f"{chosen.degradation.upper()} x{chosen.scale}"
    figure = quality_over_time(
        {row["method"]: row["speed"]["seconds_per_frame"] for row in rows},
        {row["method"]: row[metric] for row in rows},
        pairs=there,
        labels={row["method"]: row["label"] for row in rows},
        quality_label=f"PSNR-{chosen.channel.upper()} on {clip}, {family} (dB)",
        time_label=f"seconds a frame, {one.width}x{one.height} in",
        title=f"{clip} under protocol {chosen.name}\n{one.conditions}",
    )
    picture = io.BytesIO()
    figure.savefig(picture, format=out.suffix[1:], dpi=150)
    write_atomic(out, picture.getvalue())
    held = {
        "format": FORMAT,
        "protocol": chosen.to_dict(),
        "clip": clip,
        "conditions": one.conditions,
        "torch": torch.__version__,
        "methods": rows,
        "pairs": [list(pair) for pair in there],
    }
    write_atomic(target, json.dumps(held, indent=1) + "\n")
    print(f"{'method':<24} {'PSNR [dB]':>10} {'ms a frame':>11} {'parameters':>12}")
    for row in rows:
        milliseconds = in_milliseconds(row["speed"]["seconds_per_frame"])
        print(f"{row['method']:<24} {row[metric]:>10.2f} {milliseconds:>11} {row['parameters']:>12,}")
    notes.print(f"figure: {out}; numbers: {target}")
    return 0


def _pair(given: str) -> tuple[str, str]:
    before, colon, after = (part.strip() for part in given.partition(":"))
    if not (before and colon and after):
        raise ConfigError(f"pairs: want WITHOUT:WITH, got {given.strip()!r}")
    return before, after


def _times(path: Path) -> dict[str, Speed]:
    """What ``workbench bench`` measured as this command would."""
    from workbench.evaluation.speed import Speed
    from workbench.models.cost import HEIGHT, WIDTH

    try:
        rows = json.loads(path.read_text())["rows"]
        found = [(row["network"], Speed(**row["speed"])) for row in rows if row["runtime"] == "torch"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a file that `workbench bench --out` wrote ({error})") from error
    return {name: one for name, one in found if (one.width, one.height, one.precision) == (WIDTH, HEIGHT, "fp32")}
