"""Weights of EDVR by BasicSR, by its original repository and by mmagic -> ours.

BasicSR's names are ours. The original repository numbers the two convolutions of the temporal attention the other way
round: the input of its ``tAtt_2`` is the reference, that of ``tAtt_1`` every frame.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from workbench.errors import WeightsError

ORIGINAL = {
    r"^fea_L(\d)_conv(\d)": r"conv_l\1_\2",
    r"^pcd_align\.L(\d)_offset_conv(\d)": r"pcd_align.offset_conv\2.l\1",
    r"^pcd_align\.L(\d)_dcnpack": r"pcd_align.dcn_pack.l\1",
    r"^pcd_align\.L(\d)_fea_conv": r"pcd_align.feat_conv.l\1",
    r"^pcd_align(.*)\.conv_offset_mask\.": r"pcd_align\1.conv_offset.",
    r"^tsa_fusion\.tAtt_2": r"fusion.temporal_attn1",
    r"^tsa_fusion\.tAtt_1": r"fusion.temporal_attn2",
    r"^tsa_fusion\.fea_fusion": r"fusion.feat_fusion",
    r"^tsa_fusion\.sAtt_L(\d)": r"fusion.spatial_attn_l\1",
    r"^tsa_fusion\.sAtt_add_(\d)": r"fusion.spatial_attn_add\1",
    r"^tsa_fusion\.sAtt_(\d)": r"fusion.spatial_attn\1",
    r"^tsa_fusion\.(weight|bias)$": r"fusion.\1",
    r"^recon_trunk\.": r"reconstruction.",
    r"^HRconv\.": r"conv_hr.",
    r"^(pre_deblur\.)?conv_first_1\.": r"\1conv_first.",
    r"^(pre_deblur\.)?conv_first_2\.": r"\1stride_conv_hr1.",
    r"^(pre_deblur\.)?conv_first_3\.": r"\1stride_conv_hr2.",
    r"^pre_deblur\.deblur_L(\d)_conv": r"pre_deblur.stride_conv_l\1",
    r"^pre_deblur\.RB_L1_1\.": r"pre_deblur.resblock_l1.0.",
    r"^pre_deblur\.RB_L1_2\.": r"pre_deblur.resblock_l1.1.",
    r"^pre_deblur\.RB_L1_3\.": r"pre_deblur.resblock_l1.2.",
    r"^pre_deblur\.RB_L1_4\.": r"pre_deblur.resblock_l1.3.",
    r"^pre_deblur\.RB_L1_5\.": r"pre_deblur.resblock_l1.4.",
    r"^pre_deblur\.RB_L2_(\d)\.": r"pre_deblur.resblock_l2_\1.",
    r"^pre_deblur\.RB_L3_1\.": r"pre_deblur.resblock_l3.",
    r"^pre_deblur\.": r"predeblur.",
}
"""The original repository: every rule in this order, theirs -> ours."""

MMAGIC = {
    r"\.conv\.(weight|bias)$": r".\1",
    r"^feat_l(\d)_conv(\d)": r"conv_l\1_\2",
    r"^pcd_alignment\.": r"pcd_align.",
    r"^upsample(\d)\.upsample_conv\.": r"upconv\1.",
}
"""mmagic: the same. The first rule unwraps its blocks of convolution and activation."""


def matches_basicsr(keys: Collection[str]) -> bool:
    """Return whether these are the keys of BasicSR's EDVR."""
    return "pcd_align.offset_conv1.l1.weight" in keys


def matches_original(keys: Collection[str]) -> bool:
    """Return whether these are the keys of EDVR's original repository."""
    return "pcd_align.L1_offset_conv1.weight" in keys


def matches_mmagic(keys: Collection[str]) -> bool:
    """Return whether these are the keys of mmagic's (or mmediting's) EDVR."""
    return "pcd_alignment.offset_conv1.l1.conv.weight" in keys


def from_basicsr(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings of ``edvr_l`` (128 channels) or ``edvr_m``, and their tensors.

    The public models upsample by 4 and add a bilinear upsampling. The border rule is not in the weights; EDVR's own
    for Vid4 is ``reflection_circle``.
    """
    channels = state["feature_extraction.0.conv1.weight"].shape[0]
    with_tsa = "fusion.feat_fusion.weight" in state
    fused = state["fusion.feat_fusion.weight" if with_tsa else "fusion.weight"].shape[1]
    predeblur = any(key.startswith("predeblur.") for key in state)
    settings: dict[str, Any] = {
        "name": "edvr_l" if channels == 128 else "edvr_m",
        "channels": channels,
        "num_frames": fused // channels,
        "groups": state["pcd_align.dcn_pack.l1.conv_offset.weight"].shape[0] // 27,  # 9 taps: dy, dx, mask
        "front_blocks": _count(state, "feature_extraction"),
        "back_blocks": _count(state, "reconstruction"),
        "with_tsa": with_tsa,
        "tail_channels": state["conv_last.weight"].shape[1],
        "predeblur": predeblur,
        "hr_in": ("predeblur." if predeblur else "") + "stride_conv_hr1.weight" in state,
        "scale": 4,
        "skip": "bilinear",
    }
    return settings, dict(state)


def from_original(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the same for the original repository."""
    return from_basicsr(_renamed(state, ORIGINAL))


def from_mmagic(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the same for mmagic."""
    return from_basicsr(_renamed(state, MMAGIC))


def _renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for theirs, ours in rules.items():
            key = re.sub(theirs, ours, key)
        if key in renamed:
            raise WeightsError(f"EDVR weights: two tensors for {key}, with names of two code bases")
        renamed[key] = tensor
    return renamed


def _count(state: Mapping[str, Tensor], stack: str) -> int:
    """Return the number of blocks of a stack, by its tensors."""
    return len({key.split(".")[1] for key in state if key.startswith(f"{stack}.")})
