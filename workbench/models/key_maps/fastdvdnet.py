"""Weights of the official FastDVDnet -> ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.models.key_maps.spynet import Renames, rename

PARTS = {"inc": "entry", "downc0": "down1", "downc1": "down2", "upc2": "up2", "upc1": "up1", "outc": "exit"}

FASTDVDNET: Renames = (
    (r"(?:module\.)?temp([12])\.outc\.convblock\.3\.weight", r"stage\1.out.weight"),
    (
        rf"(?:module\.)?temp([12])\.({'|'.join(PARTS)})\.convblock\.(\d)(?:\.convblock(\.\d))?\.(\w+)",
        lambda found: f"stage{found[1]}.{PARTS[found[2]]}.{found[3]}{found[4] or ''}.{found[5]}",
    ),
)


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of an official FastDVDnet, saved from one device or from several."""
    return any(key.removeprefix("module.") == "temp1.inc.convblock.0.weight" for key in keys)


def from_fastdvdnet(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``fastdvdnet`` and its tensors. The noise level is no weight: it stays at its default.

    Raises:
        WeightsError: keys of no layer.
    """
    tensors = rename(state, FASTDVDNET, label="official FastDVDnet weights")
    first = tensors["stage1.entry.0.weight"]
    return {"channels": len(tensors["stage1.exit.0.weight"]), "entry_channels": len(first) // 3}, tensors
