"""Weights of public BasicVSRs and IconVSRs -> ours: BasicSR's and mmagic's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.models.key_maps.spynet import SPYNET, Renames, inside, rename

TAIL: Renames = (
    (r"(?:upconv(\d)|upsample(\d)\.upsample_conv)\.(weight|bias)", lambda f: f"tail.upconv{f[1] or f[2]}.{f[3]}"),
    (r"(conv_hr|conv_last)\.(weight|bias)", r"tail.\1.\2"),
)

FLOW: Renames = inside("spynet.", "flow.", SPYNET)

TRUNKS: Renames = (
    (r"(backward|forward)_(?:trunk|resblocks)\.main\.0\.(weight|bias)", r"\1_trunk.entry.\2"),
    (r"(backward|forward)_(?:trunk|resblocks)\.main\.2\.(\d+\.conv[12]\.(?:weight|bias))", r"\1_trunk.blocks.\2"),
)

BASICVSR: Renames = (*TRUNKS, *TAIL, *FLOW, (r"fusion\.(weight|bias)", r"fusion.\1"))

KEYFRAMES: Renames = (
    (r"edvr\.feat_l(\d)_conv(\d)\.conv\.(weight|bias)", r"keyframes.conv_l\1_\2.\3"),
    (r"edvr\.pcd_alignment\.(.+?)(?:\.conv)?\.(weight|bias)", r"keyframes.pcd_align.\1.\2"),
    (r"edvr\.(.+?)(?:\.conv)?\.(weight|bias)", r"keyframes.\1.\2"),
)

ICONVSR: Renames = (*TRUNKS, *TAIL, *FLOW, *KEYFRAMES, (r"(backward|forward)_fusion\.(weight|bias)", r"\1_fusion.\2"))


def matches(keys: Collection[str]) -> bool:
    """Return whether these are the keys of a BasicVSR."""
    return _has(keys, "spynet.", "fusion.") and _has(keys, "backward_") and not _has(keys, "edvr.")


def matches_iconvsr(keys: Collection[str]) -> bool:
    """Return whether these are the keys of an IconVSR."""
    return _has(keys, "spynet.", "backward_fusion.", "edvr.")


def from_basicvsr(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``basicvsr`` and its tensors.

    Raises:
        WeightsError: keys of no layer.
    """
    tensors = rename(state, BASICVSR, label="BasicVSR weights")
    return trunk_settings(tensors, "backward_trunk") | tail_settings(tensors), tensors


def from_iconvsr(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``iconvsr`` and its tensors; the keyframe stride is not included (5 in public models).

    Raises:
        WeightsError: keys of no layer.
    """
    tensors = rename(state, ICONVSR, label="IconVSR weights")
    channels = len(tensors["backward_trunk.entry.weight"])
    frames = tensors["keyframes.fusion.feat_fusion.weight"].shape[1] // channels
    settings = trunk_settings(tensors, "backward_trunk") | tail_settings(tensors)
    return settings | {"temporal_padding": frames // 2}, tensors


def trunk_settings(tensors: Mapping[str, Tensor], trunk: str) -> dict[str, Any]:
    """Return the width and depth of a trunk."""
    blocks = sum(name.startswith(f"{trunk}.blocks.") and name.endswith("conv1.weight") for name in tensors)
    return {"channels": len(tensors[f"{trunk}.entry.weight"]), "blocks": blocks}


def tail_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the width and scale of the tail; all public networks of this family add the bilinear upsampling."""
    width = len(tensors["tail.conv_hr.weight"])
    factor = round((len(tensors["tail.upconv2.weight"]) / width) ** 0.5)
    scale = 4 if "tail.upconv1.weight" in tensors else factor
    return {"tail_channels": width, "scale": scale, "skip": "bilinear"}


def _has(keys: Collection[str], *prefixes: str) -> bool:
    return all(any(key.startswith(prefix) for key in keys) for prefix in prefixes)
