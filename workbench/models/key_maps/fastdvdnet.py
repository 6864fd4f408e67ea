"""Weights of the official FastDVDnet -> ours."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.layout import Layout, Renames, State

PARTS = {"inc": "entry", "downc0": "down1", "downc1": "down2", "upc2": "up2", "upc1": "up1", "outc": "exit"}


RENAMES: Renames = (
    (r"temp([12])\.outc\.convblock\.3\.weight", r"stage\1.out.weight"),
    (
        rf"temp([12])\.({'|'.join(PARTS)})\.convblock\.(\d)(?:\.convblock(\.\d))?\.(\w+)",
        lambda found: f"stage{found[1]}.{PARTS[found[2]]}.{found[3]}{found[4] or ''}.{found[5]}",
    ),
)


def _settings(tensors: State) -> dict[str, Any]:
    """Return the settings. The noise level is no weight: it stays at its default."""
    first = tensors["stage1.entry.0.weight"]
    return {"channels": len(tensors["stage1.exit.0.weight"]), "entry_channels": len(first) // 3}


FASTDVDNET = Layout("FastDVDnet by its official repository", "fastdvdnet", (r"temp1\.inc\.",), RENAMES, _settings)
