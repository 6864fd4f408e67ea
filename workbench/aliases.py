"""Names in files of earlier format versions, and the names that replaced them.

Run folders and scores of format 1 have settings, loss terms and metrics under other names than today's; files of the
ConvLSTM up to format 2 name its convolutions otherwise. Readers pass what they read through the functions here; writers
use today's names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

LOSS_TERMS = {
    "output": "output_l1",
    "mean_power": "squared_mean",
    "power_mean": "mean_square",
    "attention_as_coded": "attention_transfer_code",
    "where_better": "teacher_better_l1",
    "motion": "alignment",
}
"""Loss terms in the log of a run of format 1."""

METRICS = {"profile_distance": "mae"}
"""Metrics in scores of format 2."""

ROW = {"waited": "data_time"}
"""Other entries of a line of the log of a run of format 1."""

TEACHER_CACHE = {
    "tap": "feature_layer",
    "maps of": "spatial_features",
    "mapping": "attention_kind",
    "crop": "crop_size",
    "frames": "num_frames",
    "views": "augmentations_per_crop",
}
"""Entries of the fingerprint of a teacher cache of format 1."""

PARAM_GROUP = {"rate": "lr_mult"}
"""Entries of a parameter group in the checkpoints of earlier versions."""

CHECKPOINT_OPTIMIZER = "optimiser.safetensors"
"""File of the optimizer in a checkpoint of a run of format 1."""

CONVLSTM = {"reads": "input_conv", "recalls": "hidden_conv"}
"""Modules of the ConvLSTM in files of formats 1 and 2."""

PARAMETERS = {"to_picture": "to_rgb"}
"""Modules of networks (TDAN) in weights that were saved under their former names."""

SCENE_PROTOCOL = {"crop": "crop_border", "quantised": "quantized"}
"""Entries of the protocol of a scene of format 1."""

OVERLAY = {"low": "vmin", "high": "vmax"}
"""Entries of an overlay in a scene of format 1."""

ONNX = {"reach": "temporal_radius"}
"""Metadata of an exported network of format 1."""

SETTINGS = {
    "data.crop": "data.crop_size",
    "data.frames": "data.num_frames",
    "data.batch": "data.batch_size",
    "data.fixed": "data.num_fixed_crops",
    "data.views": "data.augmentations_per_crop",
    "data.fixed_seed": "data.fixed_crops_seed",
    "data.workers": "data.num_workers",
    "data.probe": "data.validation_clip",
    "optimiser": "optimizer",
    "optimiser.accumulate": "optimizer.gradient_accumulation_steps",
    "optimiser.clip_gradient": "optimizer.max_grad_norm",
    "optimiser.ema": "optimizer.ema_decay",
    "optimiser.offset_rate": "optimizer.offset_lr_mult",
    "distillation.tap": "distillation.feature_layer",
    "distillation.memory": "distillation.memory_mode",
    "distillation.mapping": "distillation.attention_kind",
    "distillation.normalisation": "distillation.normalization",
    "distillation.others": "distillation.losses",
    "distillation.spatial_ratio": "distillation.ratios.spatial",
    "distillation.temporal_ratio": "distillation.ratios.temporal",
    "distillation.output_ratio": "distillation.ratios.output_l1",
    **{
        f"distillation.others.{old}": f"distillation.losses.{new}" for old, new in LOSS_TERMS.items() if old != "motion"
    },
    "motion_weight": "alignment_loss_weight",
    "cache_teacher": "teacher_cache_dir",
    "watch_every": "gradient_stats_every",
}
"""Settings of a run of format 1 by their dotted names; a group's name is the prefix of its other settings, too. The
three ratios are those of runs of format 2, too, before each loss had one."""

PREPARE_SETTINGS = {"form": "format", "shrink": "downscale", "crop": "tile_size"}
"""Settings of prepared footage in manifests of format 1."""

PREPARED_SOURCE = {"shrink": "downscale", "pieces": "chunks"}
"""Other entries of a source in manifests of prepared footage of format 1."""

PROVENANCE = {"licence": "license"}
"""Provenance of a scene that an earlier version wrote."""

POOL_SETTINGS = {"crop": "crop_size", "frames": "num_frames"}
"""Settings of a pool of still images in manifests of format 1."""


def renamed(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Return a mapping with today's keys.

    Example:
        >>> renamed({"output": 0.5, "spatial": 0.1}, LOSS_TERMS)
        {'output_l1': 0.5, 'spatial': 0.1}
    """
    return {names.get(key, key): value for key, value in values.items()}


def setting_name(old: str) -> str:
    """Return today's dotted name of a setting.

    Example:
        >>> setting_name("data.batch"), setting_name("optimiser.betas"), setting_name("steps")
        ('data.batch_size', 'optimizer.betas', 'steps')
    """
    if old in SETTINGS:
        return SETTINGS[old]
    group, dot, last = old.rpartition(".")
    return setting_name(group) + dot + last if dot else old


def group_ratios(distillation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a distillation with its gradient-norm ratios in a group, which earlier versions lacked.

    Example:
        >>> group_ratios({"cells": "last", "output_ratio": 0.3})
        {'cells': 'last', 'ratios': {'output_l1': 0.3}}
    """
    found: dict[str, Any] = {}
    for name, value in distillation.items():
        _, dot, last = SETTINGS.get(f"distillation.{name}", "").rpartition("ratios.")
        if dot:
            found.setdefault("ratios", {})[last] = value
        else:
            found[name] = value
    return found


def rename_settings(saved: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings of format 1 under today's names.

    Example:
        >>> rename_settings({"data": {"crop": 32}, "optimiser": {"ema": 0.9, "name": "adam"}})
        {'data': {'crop_size': 32}, 'optimizer': {'ema_decay': 0.9, 'name': 'adam'}}
    """
    found = {}
    for name, value in (group_ratios(saved) if path == "distillation." else saved).items():
        whole = path + name
        today = setting_name(whole).rpartition(".")[2]
        if whole == "tensorboard":
            found["trackers"] = ["tensorboard"] if value else []
            continue
        found[today] = rename_settings(value, f"{whole}.") if isinstance(value, Mapping) else value
    return found


def rename_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of a run's log of format 1 under today's names.

    Example:
        >>> rename_row({"step": 1, "terms": {"output": 0.5}, "waited": 0.1, "gradient.output": 2.0})
        {'step': 1, 'terms': {'output_l1': 0.5}, 'data_time': 0.1, 'gradient.output_l1': 2.0}
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        kind, *terms = name.split(".")
        today = ".".join((ROW.get(kind, kind), *(LOSS_TERMS.get(term, term) for term in terms)))
        found[today] = renamed(value, LOSS_TERMS) if name in ("terms", "weights") else value
    return found
