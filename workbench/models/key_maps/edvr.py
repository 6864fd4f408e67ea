"""Weights of EDVR by BasicSR, by its original repository and by mmagic -> ours.

BasicSR's names are ours. The original repository numbers the two convolutions of the temporal attention the other way
round: the input of its ``tAtt_2`` is the reference, that of ``tAtt_1`` every frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from workbench.errors import WeightsError
from workbench.models.key_maps.layout import Layout, State, count_blocks

Substitutions = Mapping[str, str | Callable[[re.Match[str]], str]]
"""Regular expressions for parts of keys, and what replaces them, one after the other."""

ORIGINAL: Substitutions = {
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
    r"^pre_deblur\.RB_L1_(\d)\.": lambda found: f"pre_deblur.resblock_l1.{int(found[1]) - 1}.",
    r"^pre_deblur\.RB_L2_(\d)\.": r"pre_deblur.resblock_l2_\1.",
    r"^pre_deblur\.RB_L3_1\.": r"pre_deblur.resblock_l3.",
    r"^pre_deblur\.": r"predeblur.",
}
"""The original repository: every rule in this order, theirs -> ours."""

MMAGIC: Substitutions = {
    r"\.conv\.(weight|bias)$": r".\1",
    r"^feat_l(\d)_conv(\d)": r"conv_l\1_\2",
    r"^pcd_alignment\.": r"pcd_align.",
    r"^upsample(\d)\.upsample_conv\.": r"upconv\1.",
}
"""mmagic: the same. The first rule unwraps its blocks of convolution and activation."""


def _renamed(rules: Substitutions, state: State) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for theirs, ours in rules.items():
            key = re.sub(theirs, ours, key)
        if key in renamed:
            raise WeightsError(f"EDVR weights: two tensors for {key}, with names of two code bases")
        renamed[key] = tensor
    return renamed


def _settings(tensors: State) -> dict[str, Any]:
    """Return the settings of ``edvr_l`` (128 channels) or ``edvr_m``.

    The public models upsample by 4 and add a bilinear upsampling. The border rule is not in the weights; EDVR's own
    for Vid4 is ``reflection_circle``.
    """
    channels = tensors["feature_extraction.0.conv1.weight"].shape[0]
    with_tsa = "fusion.feat_fusion.weight" in tensors
    fused = tensors["fusion.feat_fusion.weight" if with_tsa else "fusion.weight"].shape[1]
    predeblur = any(key.startswith("predeblur.") for key in tensors)
    return {
        "name": "edvr_l" if channels == 128 else "edvr_m",
        "channels": channels,
        "num_frames": fused // channels,
        "groups": tensors["pcd_align.dcn_pack.l1.conv_offset.weight"].shape[0] // 27,  # 9 taps: dy, dx, mask
        "front_blocks": count_blocks(tensors, "feature_extraction"),
        "back_blocks": count_blocks(tensors, "reconstruction"),
        "with_tsa": with_tsa,
        "tail_channels": tensors["conv_last.weight"].shape[1],
        "predeblur": predeblur,
        "hr_in": ("predeblur." if predeblur else "") + "stride_conv_hr1.weight" in tensors,
        "scale": 4,
        "skip": "bilinear",
    }


LAYOUTS = tuple(
    Layout(f"EDVR by {source}", "edvr_m", (mark,), partial(_renamed, rules), _settings)
    for source, mark, rules in (
        ("BasicSR", r"pcd_align\.offset_conv1\.", {}),
        ("its original repository", r"pcd_align\.L1_offset_conv1\.", ORIGINAL),
        ("mmagic", r"pcd_alignment\.offset_conv1\.", MMAGIC),
    )
)
