"""Weights of the official RSDN -> ours."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.layout import Layout, Renames, State

PARTS = {"d": "detail", "s": "structure"}
LAYERS = {"h": "hidden", "o": "out"}


RENAMES: Renames = (
    (r"conv\.(weight|bias)", r"merge.\1"),
    (r"neuro\.forget\.(weight|bias)", r"filters.\1"),
    (r"neuro\.conv_([ds])\.(weight|bias)", lambda f: f"{PARTS[f[1]]}_entry.{f[2]}"),
    (r"neuro\.conv_([ho])([ds])\.(weight|bias)", lambda f: f"{PARTS[f[2]]}_{LAYERS[f[1]]}.{f[3]}"),
    (
        r"neuro\.SD(\d+)\.conv_([ds])([12])\.(weight|bias)",
        lambda f: f"blocks.{int(f[1]) - 1}.{PARTS[f[2]]}{f[3]}.{f[4]}",
    ),
)


def _settings(tensors: State) -> dict[str, Any]:
    return {
        "channels": len(tensors["detail_entry.weight"]),
        "blocks": sum(name.endswith(".detail1.weight") for name in tensors),
        "scale": round((len(tensors["merge.weight"]) / 3) ** 0.5),
        "skip": "none",
    }


RSDN = Layout("RSDN by its official repository", "rsdn", (r"neuro\.forget\.weight",), RENAMES, _settings)
