"""Weights of TDAN, by its authors and by mmagic -> ours."""

from __future__ import annotations

from typing import Any

from workbench.models.key_maps.layout import Layout, Renames, State, count_blocks

OFFICIAL: Renames = (
    (r"conv_first\.(weight|bias)", r"entry.\1"),
    (r"residual_layer\.(\d+\.conv[12]\.(?:weight|bias))", r"feature_extraction.\1"),
    (r"cr\.(weight|bias)", r"join.\1"),
    (r"off2d_1\.(weight|bias)", r"bend_joined1.conv_offset.\1"),
    (r"dconv_1\.weight", "bend_joined1.weight"),
    (r"off2d_2\.(weight|bias)", r"bend_joined2.conv_offset.\1"),
    (r"deconv_2\.weight", "bend_joined2.weight"),
    (r"off2d_3\.(weight|bias)", r"bend_neighbor1.conv_offset.\1"),
    (r"deconv_3\.weight", "bend_neighbor1.weight"),
    (r"off2d\.(weight|bias)", r"bend_neighbor2.conv_offset.\1"),
    (r"dconv\.weight", "bend_neighbor2.weight"),
    (r"recon_lr\.(weight|bias)", r"to_rgb.\1"),
    (r"fea_ex\.0\.(weight|bias)", r"fuse.\1"),
    (r"recon_layer\.(\d+\.conv[12]\.(?:weight|bias))", r"reconstruction.\1"),
    (r"up\.0\.(\d+)\.(weight|bias)", r"upscale.\1.\2"),
    (r"up\.1\.weight", "exit.weight"),
)

MMAGIC: Renames = (
    (r"feat_extract\.0\.conv\.(weight|bias)", r"entry.\1"),
    (r"feat_extract\.1\.(\d+\.conv[12]\.(?:weight|bias))", r"feature_extraction.\1"),
    (r"feat_aggregate\.0\.(weight|bias)", r"join.\1"),
    (r"feat_aggregate\.([12])\.((?:conv_offset\.)?(?:weight|bias))", r"bend_joined\1.\2"),
    (r"align_([12])\.((?:conv_offset\.)?(?:weight|bias))", r"bend_neighbor\1.\2"),
    (r"to_rgb\.(weight|bias)", r"to_rgb.\1"),
    (r"reconstruct\.0\.conv\.(weight|bias)", r"fuse.\1"),
    (r"reconstruct\.1\.(\d+\.conv[12]\.(?:weight|bias))", r"reconstruction.\1"),
    (r"reconstruct\.2\.upsample_conv\.(weight|bias)", r"upscale.0.\1"),
    (r"reconstruct\.3\.upsample_conv\.(weight|bias)", r"upscale.2.\1"),
    (r"reconstruct\.4\.weight", "exit.weight"),
)


def _settings(tensors: State) -> dict[str, Any]:
    fuse, offset = tensors["fuse.weight"], tensors["bend_joined1.conv_offset.weight"]
    widened = tensors["upscale.0.weight"].shape[0] // fuse.shape[0]
    return {
        "channels": fuse.shape[0],
        "num_frames": fuse.shape[1] // 3,
        "groups": offset.shape[0] // 18,
        "front_blocks": count_blocks(tensors, "feature_extraction"),
        "back_blocks": count_blocks(tensors, "reconstruction"),
        "scale": 4 if "upscale.2.weight" in tensors else round(widened**0.5),
        "skip": "none",
    }


LAYOUTS = tuple(
    Layout(f"TDAN by {source}", "tdan", (mark,), renames, _settings)
    for source, mark, renames in (
        ("its official repository", r"off2d_1\.weight", OFFICIAL),
        ("mmagic", r"feat_aggregate\.1\.conv_offset\.weight", MMAGIC),
    )
)
