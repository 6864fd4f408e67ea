"""``workbench networks``: what there is to choose from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table


def networks(args: Sequence[str]) -> int:
    """List the networks."""

    def command(*, format: Literal["text", "json"] = "text") -> int:
        """List the networks with their exact numbers of parameters.

        Args:
            format: text or json.
        """
        from workbench.models.zoo import table_rows

        rows = table_rows()
        if format == "json":
            print(json.dumps(rows, indent=1))
            return 0
        table = Table("network", "parameters", "frames", "F^SR channels", "what")
        for row in rows:
            table.add_row(
                row["name"],
                f"{row['parameters']:,}",
                str(row["frames"]),
                str(row["feature_channels"] or "-"),
                row["what"],
            )
        Console().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench networks")
