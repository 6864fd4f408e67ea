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


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a TOFlow by BasicSR or mmagic."""
    return any(key in keys for key in ("conv_4.weight", "conv4.weight")) and any(
        key.startswith("spynet.basic_module.3.") for key in keys
    )


def from_toflow(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``toflow`` and its tensors.

    Not determined by the weights: the scale, since the layers work on upsampled frames (4, as published, by default),
    and the position of the middle frame. Both code bases put it in the middle for weights of their own training, the
    default here, and first for weights converted from the published ones, which need ``reference_first=True``.

    Raises:
        WeightsError: keys of no layer, or a normalization of images that is not ImageNet's.
    """
    tensors = rename(state, TOFLOW, label="TOFlow weights")
    first = tensors["conv1.weight"]
    return {"channels": first.shape[0], "num_frames": first.shape[1] // 3}, tensors
