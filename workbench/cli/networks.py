"""``workbench networks`` and ``workbench convert``: what there is to choose from, and what comes from elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from workbench.cli.terminal import OutputConsole, notes
from workbench.errors import ConfigError, unknown_name


def networks(args: Sequence[str]) -> int:
    """List the networks."""

    def command(
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
        format: Literal["text", "json", "md"] = "text",
    ) -> int:
        """List the networks with what they are and what they cost, for an input of 180x120 pixels.

        MACs are products of one more frame of a long clip, where neighbouring frames share their work; `alone` are
        those of one frame from its window by itself, as papers count. Counting all takes half a minute.

        Args:
            only: some of them, separated by commas.
            show: the layers of one network, with the shapes of what they return, instead of the list.
            depth: with `show`: how many modules deep.
            macs: count products.
            time: measure one frame of each with fresh weights, here; all take an hour on a small CPU, so see `only`.
            frames: with `time`: length of the clip.
            rounds: with `time`: how often; the median counts.
            threads: with `time`: of the CPU; 0 means as many as there are cores.
            device: with `time`: auto, cpu, cuda, mps.
            format: text, json or md (Markdown).
        """
        import torch

        from workbench.inference import choose_device
        from workbench.models import cost
        from workbench.models.zoo import NETWORKS, build, table_rows

        if show:
            layers = [layer for layer in cost.layers(build(show)) if layer.depth <= depth]
            rows = [
                {
                    "layer": "  " * layer.depth + (layer.name.rpartition(".")[2] or show),
                    "kind": layer.kind,
                    "shape": "x".join(map(str, layer.shape or ())) or "-",
                    "calls": layer.calls,
                    "parameters": layer.parameters,
                    "macs": layer.macs,
                }
                for layer in layers
            ]
            if format == "json":
                rows = [vars(layer) for layer in layers]
            print_rows(rows, format, f"{show}, {cost.WIDTH}x{cost.HEIGHT} in")
            return 0
        chosen = [name.strip() for name in only.split(",") if name.strip()]
        for name in chosen:
            if name not in NETWORKS:
                raise unknown_name("network", name, NETWORKS)
        rows = [row for row in table_rows() if not chosen or row["name"] in chosen]
        if time and (threads or "OMP_NUM_THREADS" not in os.environ):
            torch.set_num_threads(threads or os.cpu_count() or 1)
        conditions = ""
        with notes.status("counting") as status:
            for row in rows if macs or time else ():
                network = build(row["name"])
                if macs:
                    status.update(f"counting {row['name']}")
                    found = cost.cost(network)
                    row |= {"macs": found.macs, "macs_alone": found.macs_alone}
                if time:
                    from workbench.evaluation.speed import measure

                    status.update(f"timing {row['name']}")
                    speed = measure(network, frames=frames, rounds=rounds, device=choose_device(device))
                    row |= {"seconds_per_frame": speed.seconds_per_frame, "peak_bytes": speed.peak_bytes}
                    conditions = speed.conditions
        if format == "text":  # the whole of it is in the other formats
            rows = [row | {"paper": row["paper"].partition(",")[0]} for row in rows]
            for row in rows:
                del row["what"]
        print_rows(rows, format, f"Networks, {cost.WIDTH}x{cost.HEIGHT} in")
        if conditions:
            notes.print(f"time: {conditions}")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench networks")


COLUMNS = {
    "name": "network",
    "feature_channels": "F^SR channels",
    "macs": "MACs",
    "macs_alone": "MACs alone",
    "seconds_per_frame": "ms a frame",
    "peak_bytes": "peak MB",
    "shape": "returns",
}
"""What the columns are called for people, where it is not the key."""

LEFT = ("name", "what", "role", "paper", "layer", "kind", "network", "runtime", "precision", "size")


def print_rows(rows: Sequence[dict[str, Any]], format: str, title: str) -> None:
    """Rows as JSON with all digits, or as a table for people."""
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
    needed = OutputConsole(width=1000).measure(table).maximum  # cut to a narrow terminal, it would lose its numbers
    OutputConsole(width=needed, highlight=False).print(table)


def _cell(column: str, value: Any) -> str:
    """A value as people read it; parameters as the exact number."""
    from workbench.models.cost import in_units

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


def convert(args: Sequence[str]) -> int:
    """Turn weights of other code bases into ours."""

    def command(
        source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")],
        out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
        *,
        settings: tuple[str, ...] = (),
        half: bool = False,
    ) -> int:
        """Turn weights of other code bases into ours, and say what they were recognised as.

        Args:
            source: a .pth, .pt or .safetensors file; nothing in it is run.
            out: the .safetensors file to write; it must not be there yet.
            settings: what the tensors do not tell, as NAME=VALUE: norm_epsilon=1e-3 or reference_first=true.
            half: store in half precision.
        """
        from workbench.errors import WeightsError
        from workbench.models.foreign import read_foreign
        from workbench.models.video_sr import count_parameters
        from workbench.models.weights import checksum, save

        if out.suffix != ".safetensors":
            raise WeightsError(f"{out}: want a name that ends in .safetensors")
        if out.exists():
            raise WeightsError(f"{out}: it is there already; name another")
        foreign = read_foreign(source, **dict(_setting(given) for given in settings))
        save(foreign.network, out, half=half, source=foreign.source, source_sha256=checksum(source))
        recipe = dict(foreign.network.recipe)
        print(f"{source.name}: {foreign.source}")
        print(f"network     {recipe.pop('name')}, {count_parameters(foreign.network):,} parameters")
        print(f"settings    {', '.join(f'{setting} {value}' for setting, value in recipe.items())}")
        print(f"written     {out}")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench convert")


def _setting(given: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as a name and a JSON value; what is no JSON is a word."""
    name, equals, value = given.partition("=")
    if not (name and equals):
        raise ConfigError(f"settings: want NAME=VALUE, got {given!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
