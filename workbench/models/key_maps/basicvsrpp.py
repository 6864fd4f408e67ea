"""Weights of public BasicVSR++ networks -> ours: BasicSR's and mmagic's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.models.key_maps.basicvsr import FLOW, TAIL, tail_settings, trunk_settings
from workbench.models.key_maps.spynet import Renames, rename

BASICVSRPP: Renames = (
    *TAIL,
    *FLOW,
    (r"(feat_extract|reconstruction)\.main\.0\.(weight|bias)", r"\1.entry.\2"),
    (r"(feat_extract|reconstruction)\.main\.2\.(\d+\.conv[12]\.(?:weight|bias))", r"\1.blocks.\2"),
    (r"backbone\.(backward|forward)_([12])\.main\.0\.(weight|bias)", r"branches.\1_\2.trunk.entry.\3"),
    (r"backbone\.(backward|forward)_([12])\.main\.2\.(.+)", r"branches.\1_\2.trunk.blocks.\3"),
    (r"deform_align\.(backward|forward)_([12])\.(.+)", r"branches.\1_\2.align.\3"),
)


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a BasicVSR++."""
    return any(key.startswith("deform_align.backward_1.") for key in keys)


def from_basicvsrpp(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``basicvsrpp`` and its tensors.

    Raises:
        WeightsError: keys of no layer (those of a network for deblurring among them).
    """
    tensors = rename(state, BASICVSRPP, label="BasicVSR++ weights")
    groups = len(tensors["branches.backward_1.align.conv_offset.6.bias"]) // 27
    return trunk_settings(tensors, "branches.backward_1.trunk") | {"groups": groups} | tail_settings(tensors), tensors
