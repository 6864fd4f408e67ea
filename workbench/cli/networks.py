"""``workbench networks`` and ``workbench convert``: list of the networks, and conversion of public weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from workbench.amounts import in_units
from workbench.cli.command import command
from workbench.cli.terminal import OutputConsole, notes, split_names
from workbench.config import Network, RunConfig
from workbench.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from workbench.models.video_sr import VideoSR

RowFormat = Literal["text", "json", "md"]
"""Formats of :func:`print_rows`."""


@command
def networks(
    *,
    only: str = "",
    show: str = "",
    depth: int = 9,
    macs: bool = True,
    time: bool = False,
    frames: int = 4,
    rounds: int = 3,
    threads: int = 0,
    device: str = "auto",
    format: RowFormat = "text",
) -> int:
    """List the networks with their sizes and costs.

    Costs are for an input of 180x120 pixels. MACs are those of one more frame of a long clip, where neighboring frames
    share work; `alone` are those of one frame from its window by itself, as in papers.

    Example: `workbench networks --only vespcn_s,edvr_s --time`

    Args:
        only: names of networks, separated by commas; empty: all.
        show: list the layers of one network, with the shapes of their outputs, instead.
        depth: largest depth of the listed modules, with `show`.
        macs: show the MACs.
        time: measure the time per frame here, with random weights; all networks take an hour on a small CPU, see
            `only`.
        frames: length of the clip, with `time`.
        rounds: number of measurements, of which the median counts, with `time`.
        threads: number of CPU threads, with `time`; 0: all cores, or OMP_NUM_THREADS.
        device: device of the measurement, with `time`: auto, cpu, cuda, mps.
        format: text, json or md (Markdown).
    """
    from workbench.models.catalog import read_catalog

    catalog = read_catalog()
    if show:
        rows = _layers(show, depth, whole=format == "json")
        print_rows(rows, format, f"{show}, {catalog.size} in")
        return 0
    stored = {row["name"]: dict(row) for row in catalog.rows}
    chosen = split_names(only)
    rows = [row for name, row in stored.items() if not chosen or name in chosen]
    rows += [_describe(name) for name in chosen if name not in stored]
    if not macs:
        rows = [{key: value for key, value in row.items() if key not in ("macs", "macs_alone")} for row in rows]
    conditions = _measure(rows, frames, rounds, threads, device) if time else ""
    if format == "text":  # the other formats contain everything
        rows = [row | {"paper": row["paper"].partition(",")[0]} for row in rows]
        for row in rows:
            del row["summary"]
    print_rows(rows, format, f"Networks, {catalog.size} in")
    if format == "text" and not chosen:
        from workbench.views.temporal_share import shipped_shares

        shipped = [
            {"weights": f"pretrained:{row['name']}", "method": row["role"], "learned from": row["learned"]}
            for row in shipped_shares()
        ]
        print_rows(shipped, format, "Shipped weights")
    if conditions:
        notes.print(f"time: {conditions}")
    return 0


def _describe(name: str) -> dict[str, Any]:
    """Describe a network of the user, which is not in the stored catalog."""
    from workbench.models.zoo import NETWORKS, describe_with_cost

    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return describe_with_cost(name)


def _layers(name: str, depth: int, *, whole: bool) -> list[dict[str, Any]]:
    """List the layers of a network; ``whole`` with all their properties."""
    from workbench.models import cost
    from workbench.models.zoo import build

    layers = [layer for layer in cost.layers(build(name)) if layer.depth <= depth]
    if whole:
        return [vars(layer) for layer in layers]
    return [
        {
            "layer": "  " * layer.depth + (layer.name.rpartition(".")[2] or name),
            "kind": layer.kind,
            "shape": "x".join(map(str, layer.shape or ())) or "-",
            "calls": layer.calls,
            "parameters": layer.parameters,
            "macs": layer.macs,
        }
        for layer in layers
    ]


def _measure(rows: Sequence[dict[str, Any]], frames: int, rounds: int, threads: int, device: str) -> str:
    """Add the time of one frame and the peak memory to each row; return the conditions of the measurement."""
    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.speed import measure
    from workbench.models.zoo import build

    set_num_threads(threads)
    conditions = ""
    with notes.status("timing") as status:
        for row in rows:
            status.update(f"timing {row['name']}")
            speed = measure(build(row["name"]), frames=frames, rounds=rounds, device=choose_device(device))
            row |= {"seconds_per_frame": speed.seconds_per_frame, "peak_bytes": speed.peak_bytes}
            conditions = speed.conditions
    return conditions


COLUMNS = {
    "name": "network",
    "feature_channels": "F^SR channels",
    "macs": "MACs",
    "macs_alone": "MACs alone",
    "seconds_per_frame": "ms a frame",
    "peak_bytes": "peak MB",
    "shape": "returns",
}
"""Headings of columns, if they differ from the key."""

LEFT = (
    "name",
    "weights",
    "method",
    "learned from",
    "summary",
    "role",
    "paper",
    "layer",
    "kind",
    "network",
    "runtime",
    "precision",
    "size",
)


def print_rows(rows: Sequence[dict[str, Any]], format: RowFormat, title: str) -> None:
    """Print rows as JSON with all digits, or as a table for people."""
    if format == "json":
        print(json.dumps(rows, indent=1))
        return
    columns = list(rows[0]) if rows else []
    headings = [COLUMNS.get(column, column) for column in columns]
    cells = [[_cell(column, row[column]) for column in columns] for row in rows]
    if format == "md":
        rule = ["---" if column in LEFT else "---:" for column in columns]
        for line in (headings, rule, *cells):
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |")
        return
    table = Table(title=escape(title), title_justify="left")
    for column, heading in zip(columns, headings, strict=True):
        table.add_column(heading, justify="left" if column in LEFT else "right", no_wrap=True)
    for line in cells:
        table.add_row(*map(escape, line))
    needed = OutputConsole(width=1000).measure(table).maximum  # a narrow terminal would cut the numbers
    OutputConsole(width=needed, highlight=False).print(table)


def _cell(column: str, value: Any) -> str:
    """Format a value for people; parameters as the exact number."""
    if column == "frames" and value is None:
        return "all"
    if value is None or (column == "feature_channels" and not value):
        return "-"
    if column in ("macs", "macs_alone"):
        return in_units(value)
    if column == "seconds_per_frame":
        from workbench.evaluation.speed import in_milliseconds

        return in_milliseconds(value)
    if column == "peak_bytes":
        return f"{value / 1e6:.0f}"
    return f"{value:,}" if column == "parameters" else str(value)


@command
def convert(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    *,
    settings: tuple[str, ...] = (),
    half: bool = False,
) -> int:
    """Convert weights of other code bases to those of this package.

    Example: `workbench convert EDVR_M.pth edvr_m.safetensors`

    Args:
        source: a .pth, .pt or .safetensors file; nothing in it is executed.
        out: the .safetensors file to write; it must not exist yet.
        settings: settings that the tensors do not determine, as NAME=VALUE: norm_epsilon=1e-3 or reference_first=true.
        half: store in half precision.
    """
    from workbench.errors import WeightsError
    from workbench.models.conversion import convert_checkpoint
    from workbench.models.video_sr import count_parameters
    from workbench.models.weights import checksum, save

    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: want a name that ends in .safetensors")
    if out.exists():
        raise WeightsError(f"{out}: exists already; name another")
    converted = convert_checkpoint(source, **dict(_parse_setting(one) for one in settings))
    save(converted.network, out, half=half, source=converted.source, source_sha256=checksum(source))
    recipe = dict(converted.network.recipe)
    print(f"{source.name}: {converted.source}")
    print(f"network     {recipe.pop('name')}, {count_parameters(converted.network):,} parameters")
    print(f"settings    {', '.join(f'{setting} {value}' for setting, value in recipe.items())}")
    print(f"written     {out}")
    print(f"train       {_train_command(converted.network, out)}")
    return 0


def _train_command(network: VideoSR, path: Path) -> str:
    """Return the command that trains a student with a converted network as its teacher."""
    from workbench.errors import WeightsError
    from workbench.evaluation.methods import make_network, with_skip_of_weights

    name = str(network.recipe["name"])
    try:
        make_network(with_skip_of_weights(Network(name=name, weights=str(path))), network.scale)
    except WeightsError:
        return f"not as a teacher: its settings are not those of {name} (`workbench networks`)"
    scale = "" if network.scale == RunConfig().data.scale else f" --data.scale {network.scale}"
    return f"workbench train --preset cpu --teacher.name {name} --teacher.weights {path}{scale}"


def _parse_setting(given: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE`` into the name and a JSON value; a value that is not JSON is text."""
    name, equals, value = given.partition("=")
    if not (name and equals):
        raise ConfigError(f"settings: want NAME=VALUE, got {given!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
