"""Weights of public BasicVSRs and IconVSRs -> ours: BasicSR's and mmagic's."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.layout import Layout, Renames, State, count_blocks
from workbench.models.key_maps.spynet import spynet_renames

TAIL_AND_FLOW: Renames = (
    (r"(?:upconv(\d)|upsample(\d)\.upsample_conv)\.(weight|bias)", lambda f: f"tail.upconv{f[1] or f[2]}.{f[3]}"),
    (r"(conv_hr|conv_last)\.(weight|bias)", r"tail.\1.\2"),
    *spynet_renames(r"spynet\.", "flow."),
)

BASICVSR_RENAMES: Renames = (
    (r"(backward|forward)_(?:trunk|resblocks)\.main\.0\.(weight|bias)", r"\1_trunk.entry.\2"),
    (r"(backward|forward)_(?:trunk|resblocks)\.main\.2\.(\d+\.conv[12]\.(?:weight|bias))", r"\1_trunk.blocks.\2"),
    (r"fusion\.(weight|bias)", r"fusion.\1"),
    *TAIL_AND_FLOW,
)

ICONVSR_RENAMES: Renames = (
    *BASICVSR_RENAMES,
    (r"(backward|forward)_fusion\.(weight|bias)", r"\1_fusion.\2"),
    (r"edvr\.feat_l(\d)_conv(\d)\.conv\.(weight|bias)", r"keyframes.conv_l\1_\2.\3"),
    (r"edvr\.pcd_alignment\.(.+?)(?:\.conv)?\.(weight|bias)", r"keyframes.pcd_align.\1.\2"),
    (r"edvr\.(.+?)(?:\.conv)?\.(weight|bias)", r"keyframes.\1.\2"),
)


def settings(tensors: State, trunk: str = "backward_trunk") -> dict[str, Any]:
    """Return width and depth of a trunk, and those of the tail; all public networks add the bilinear upsampling."""
    width = len(tensors["tail.conv_hr.weight"])
    factor = round((len(tensors["tail.upconv2.weight"]) / width) ** 0.5)
    return {
        "channels": len(tensors[f"{trunk}.entry.weight"]),
        "blocks": count_blocks(tensors, f"{trunk}.blocks"),
        "tail_channels": width,
        "scale": 4 if "tail.upconv1.weight" in tensors else factor,
        "skip": "bilinear",
    }


def _icon_settings(tensors: State) -> dict[str, Any]:
    """Return the settings; the keyframe stride is not included (5 in public models)."""
    shared = settings(tensors)
    frames = tensors["keyframes.fusion.feat_fusion.weight"].shape[1] // shared["channels"]
    return shared | {"temporal_padding": frames // 2}


BASICVSR = Layout("BasicVSR by BasicSR or mmagic", "basicvsr", (r"fusion\.", r"backward_"), BASICVSR_RENAMES, settings)
ICONVSR = Layout(
    "IconVSR by BasicSR or mmagic", "iconvsr", (r"backward_fusion\.", r"edvr\."), ICONVSR_RENAMES, _icon_settings
)
