"""Weights of TOFlow, by BasicSR and by mmagic -> ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.models.key_maps.spynet import Renames, rename

PARTS = {"conv": 0, "bn": 1}

TOFLOW: Renames = (
    (r"conv_?([1-4])\.(weight|bias)", r"conv\1.\2"),
    (r"spynet\.basic_module\.([0-3])\.basic_module\.(\d+)\.(\w+)", r"flow.levels.\1.\2.\3"),
    (  # mmagic: five blocks of convolution, normalization and ReLU
        r"spynet\.basic_module\.([0-3])\.basic_module\.([0-4])\.(conv|bn)\.(\w+)",
        lambda f: f"flow.levels.{f[1]}.{3 * int(f[2]) + PARTS[f[3]]}.{f[4]}",
    ),
)


def recognises(keys: Collection[str]) -> bool:
    """Whether these are the keys of a TOFlow by BasicSR or mmagic."""
    return any(key in keys for key in ("conv_4.weight", "conv4.weight")) and any(
        key.startswith("spynet.basic_module.3.") for key in keys
    )


def from_toflow(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings of ``toflow`` and its tensors.

    What the weights do not say: the scale, since the layers work on enlarged frames (4, as published, unless asked
    otherwise), and whether the middle frame goes first. Both code bases put it in the middle when they train, which is
    what the settings mean, and first for the weights that were converted from the published ones: ask for
    ``reference_first=True`` with these.

    Raises:
        WeightsError: keys that belong to no layer, or a normalization of pictures that is not ImageNet's.
    """
    tensors = rename(state, TOFLOW, label="TOFlow weights")
    first = tensors["conv1.weight"]
    return {"channels": first.shape[0], "num_frames": first.shape[1] // 3}, tensors
