"""Weights of public BasicVSR++ networks -> ours: BasicSR's and mmagic's."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.basicvsr import TAIL_AND_FLOW, settings
from workbench.models.key_maps.layout import Layout, Renames, State

RENAMES: Renames = (
    *TAIL_AND_FLOW,
    (r"(feat_extract|reconstruction)\.main\.0\.(weight|bias)", r"\1.entry.\2"),
    (r"(feat_extract|reconstruction)\.main\.2\.(\d+\.conv[12]\.(?:weight|bias))", r"\1.blocks.\2"),
    (r"backbone\.(backward|forward)_([12])\.main\.0\.(weight|bias)", r"branches.\1_\2.trunk.entry.\3"),
    (r"backbone\.(backward|forward)_([12])\.main\.2\.(.+)", r"branches.\1_\2.trunk.blocks.\3"),
    (r"deform_align\.(backward|forward)_([12])\.(.+)", r"branches.\1_\2.align.\3"),
)


def _settings(tensors: State) -> dict[str, Any]:
    groups = len(tensors["branches.backward_1.align.conv_offset.6.bias"]) // 27
    return settings(tensors, "branches.backward_1.trunk") | {"groups": groups}


BASICVSRPP = Layout("BasicVSR++ by BasicSR or mmagic", "basicvsrpp", (r"deform_align\.",), RENAMES, _settings)
