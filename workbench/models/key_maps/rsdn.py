"""Weights of the official RSDN -> ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.models.key_maps.spynet import Renames, rename

PARTS = {"d": "detail", "s": "structure"}
LAYERS = {"h": "hidden", "o": "out"}

RSDN: Renames = (
    (r"conv\.(weight|bias)", r"merge.\1"),
    (r"neuro\.forget\.(weight|bias)", r"filters.\1"),
    (r"neuro\.conv_([ds])\.(weight|bias)", lambda f: f"{PARTS[f[1]]}_entry.{f[2]}"),
    (r"neuro\.conv_([ho])([ds])\.(weight|bias)", lambda f: f"{PARTS[f[2]]}_{LAYERS[f[1]]}.{f[3]}"),
    (
        r"neuro\.SD(\d+)\.conv_([ds])([12])\.(weight|bias)",
        lambda f: f"blocks.{int(f[1]) - 1}.{PARTS[f[2]]}{f[3]}.{f[4]}",
    ),
)


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of the official RSDN."""
    return any(key == "neuro.forget.weight" for key in keys)


def from_rsdn(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``rsdn`` and its tensors.

    Raises:
        WeightsError: keys of no layer.
    """
    tensors = rename(state, RSDN, label="official RSDN weights")
    return {
        "channels": len(tensors["detail_entry.weight"]),
        "blocks": sum(name.endswith(".detail1.weight") for name in tensors),
        "scale": round((len(tensors["merge.weight"]) / 3) ** 0.5),
        "skip": "none",
    }, tensors
