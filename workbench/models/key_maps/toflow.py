"""Weights of TOFlow, by BasicSR and by mmagic -> ours."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.layout import Layout, Renames, State

PARTS = {"conv": 0, "bn": 1}


RENAMES: Renames = (
    (r"conv_?([1-4])\.(weight|bias)", r"conv\1.\2"),
    (r"spynet\.basic_module\.([0-3])\.basic_module\.(\d+)\.(\w+)", r"flow.levels.\1.\2.\3"),
    (  # mmagic: five blocks of convolution, normalization and ReLU
        r"spynet\.basic_module\.([0-3])\.basic_module\.([0-4])\.(conv|bn)\.(\w+)",
        lambda f: f"flow.levels.{f[1]}.{3 * int(f[2]) + PARTS[f[3]]}.{f[4]}",
    ),
)


def _settings(tensors: State) -> dict[str, Any]:
    """Return the settings.

    Not determined by the weights: the scale, since the layers work on upsampled frames (4, as published, by default),
    and the position of the middle frame. Both code bases put it in the middle for weights of their own training, the
    default here, and first for weights converted from the published ones, which need ``reference_first=True``.
    """
    first = tensors["conv1.weight"]
    return {"channels": first.shape[0], "num_frames": first.shape[1] // 3}


TOFLOW = Layout("TOFlow by BasicSR or mmagic", "toflow", (r"conv_?4\.", r"spynet\."), RENAMES, _settings)
