"""Weights of BasicSR's DUF -> ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.models.key_maps.layout import Layout, State, rename

LABEL = "DUF by BasicSR"
LAYERS = {"0": "norm1", "2": "pointwise", "3": "norm2", "5": "grow"}
HEADS = {"r1": "residual1", "r2": "residual2", "f1": "filter1", "f2": "filter2", "1": "entry", "2": "fuse"}


def _renamed(state: State) -> dict[str, Tensor]:
    """Return the tensors by our names; the numbers of the last blocks follow those of the first."""
    padded = len({key.split(".")[2] for key in state if key.startswith("dense_block1.dense_blocks.")})
    renames = (
        (r"dense_block1\.dense_blocks\.(\d+)\.([0235])\.(\w+)", lambda f: f"blocks.{f[1]}.{LAYERS[f[2]]}.{f[3]}"),
        (
            r"dense_block2\.temporal_reduce(\d+)\.([0235])\.(\w+)",
            lambda f: f"blocks.{padded + int(f[1]) - 1}.{LAYERS[f[2]]}.{f[3]}",
        ),
        (r"bn3d2\.(\w+)", r"last_norm.\1"),
        (r"conv3d(?:_([rf][12])|([12]))\.(weight|bias)", lambda f: f"{HEADS[f[1] or f[2]]}.{f[3]}"),
    )
    tensors = rename(state, renames, label=LABEL)
    for name in HEADS.values():  # ours are two-dimensional where there is one frame at a time
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"].squeeze(2)
    return tensors


def _settings(tensors: State) -> dict[str, Any]:
    """Return the settings of ``duf_16l``, ``duf_28l`` or ``duf_52l``.

    Not determined by the weights: the epsilon of the normalization. BasicSR uses 1e-5 for weights of its own
    training, the default here, and 1e-3 for those converted from the published ones, which need ``norm_epsilon=1e-3``.
    """
    count = sum(name.endswith(".grow.weight") for name in tensors)  # the last three have no padding in time
    growth = tensors["blocks.0.grow.weight"].shape[0]
    return {
        "name": "duf_16l" if growth == 32 else "duf_52l" if count > 12 else "duf_28l",
        "blocks": count - 3,
        "growth": growth,
        "channels": tensors["entry.weight"].shape[0],
        "head_channels": tensors["fuse.weight"].shape[0],
        "scale": round((tensors["residual2.weight"].shape[0] / 3) ** 0.5),
    }


DUF = Layout(LABEL, "duf_16l", (r"conv3d_f2\.weight",), _renamed, _settings)
