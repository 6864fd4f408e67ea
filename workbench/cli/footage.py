"""``workbench samples``: clips to work on."""

from __future__ import annotations

from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.table import Table


def samples(args: Sequence[str]) -> int:
    """List the sample clips that come with the installation."""

    def command() -> int:
        """List the sample clips that come with the installation, with credit and licence."""
        from workbench.data.samples import samples

        table = Table("sample", "size", "frames", "licence", "credit")
        for clip in samples():
            table.add_row(clip.name, f"{clip.width}x{clip.height}", str(clip.frames), clip.licence, clip.credit)
        Console().print(table)
        return 0

    return tyro.cli(command, args=list(args), prog="workbench samples")
