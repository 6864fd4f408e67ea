"""Variants of an experiment: one student distilled with different losses, everything else equal.

A variant is named by its parts, joined by ``+``:

==================  ========================================================================
part                meaning
==================  ========================================================================
``plain``           no teacher; not combined
``LOSS_wWEIGHT``    a loss of :data:`LOSSES` with a weight: ``sd_w0.01``
``LOSS_rRATIO``     a loss whose gradient norm is this ratio of the reconstruction's: ``sd_r0.1``
``SETTING=VALUE``   a setting of the distillation: ``sd_w0.001+attention_kind=sum_abs``
==================  ========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from workbench.config import Network, RunConfig, with_settings
from workbench.distillation_config import Distillation, OtherLosses
from workbench.errors import ConfigError
from workbench.presets import cpu_long
from workbench.settings import flatten

PLAIN = "plain"
"""Name of the variant without a teacher, which all others are compared with."""


class Loss(NamedTuple):
    """Settings of one distillation loss: label in tables, dotted names of its weight and gradient-norm ratio."""

    label: str
    weight: str
    ratio: str = ""


LOSSES: dict[str, Loss] = {
    "output": Loss("output L1", "distillation.losses.output_l1", "distillation.output_ratio"),
    "sd": Loss("SD", "distillation.spatial_weight", "distillation.spatial_ratio"),
    "td": Loss("TD", "distillation.temporal_weight", "distillation.temporal_ratio"),
    **{
        loss.name: Loss(loss.name.replace("_", " ").replace("l1", "L1"), f"distillation.losses.{loss.name}")
        for loss in fields(OtherLosses)
        if loss.name != "output_l1"
    },
}
"""Losses by their names in variants, in the order of the parts of a name."""

LOSS_PART = re.compile(rf"({'|'.join(LOSSES)})_([wr])(\d+(?:\.\d+)?(?:e-?\d+)?)")


@dataclass(frozen=True)
class Variant:
    """One way to train the student; made by :func:`make_variant` or :func:`find_variant`.

    Attributes:
        name: name of its runs and scores.
        label: name in tables.
        changes: settings, by dotted name, that differ from :func:`shared_config`; none for the plain student.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def make_variant(losses: Mapping[str, tuple[str, float]], settings: Mapping[str, Any] | None = None) -> Variant:
    """Return the variant with some losses; without any, the plain student.

    Args:
        losses: name in :data:`LOSSES` -> ``w`` and a weight, or ``r`` and a gradient-norm ratio.
        settings: further settings of the distillation, by name.

    Raises:
        ConfigError: a setting that does not exist, or a value that it cannot have.

    Example:
        >>> make_variant({"td": ("w", 0.03), "sd": ("w", 0.001)}).name
        'sd_w0.001+td_w0.03'
    """
    if not losses:
        return Variant(PLAIN, "plain: no teacher")
    changes: dict[str, Any] = {LOSSES[name].weight: 0.0 for name in ("sd", "td")}
    names, labels = [], []
    for loss in sorted(losses, key=list(LOSSES).index):
        kind, amount = losses[loss]
        text = f"{amount:.12g}".replace("e+", "e")
        changes[LOSSES[loss].weight if kind == "w" else LOSSES[loss].ratio] = amount
        names.append(f"{loss}_{kind}{text}")
        labels.append(f"{LOSSES[loss].label}, {'weight' if kind == 'w' else 'gradient-norm ratio'} {text}")
    labels = [", + ".join(labels)]
    for name, value in sorted((settings or {}).items()):
        text = value if isinstance(value, str) else json.dumps(value)
        changes[f"distillation.{name}"] = value
        names.append(f"{name}={text}")
        labels.append(f"{name} {text}")
    with_settings(RunConfig(), changes)  # refuses what cannot be
    return Variant("+".join(names), ", ".join(labels), changes)


def find_variant(name: str) -> Variant:
    """Return the variant of a name; see the module for the form of names.

    Raises:
        ConfigError: a name of another form, or a loss, a setting or a value that does not exist.

    Example:
        >>> find_variant("output_w2+sd_r0.1").label
        'output L1, weight 2, + SD, gradient-norm ratio 0.1'
    """
    if name == PLAIN:
        return make_variant({})
    losses: dict[str, tuple[str, float]] = {}
    settings: dict[str, Any] = {}
    for part in name.split("+"):
        setting, value = parse_setting(f"distillation.{part}") if "=" in part else ("", None)
        loss, kind, amount = found.groups() if (found := LOSS_PART.fullmatch(part)) else ("", "", "0")
        if setting and not any(setting in one for one in LOSSES.values()):
            settings[setting.removeprefix("distillation.")] = value
        elif loss in LOSSES.keys() - losses and float(amount) > 0 and (kind == "w" or LOSSES[loss].ratio):
            losses[loss] = kind, float(amount)
        else:
            ratios = ", ".join(one for one, settings_of in LOSSES.items() if settings_of.ratio)
            raise ConfigError(
                f"variant {name!r}: got {part!r}, expected {PLAIN} alone, or parts joined by +, each once: "
                f"LOSS_wWEIGHT, LOSS_rRATIO (of {ratios}) or SETTING=VALUE, for example "
                f"output_w2+sd_r0.1+attention_kind=sum_abs. Losses: {', '.join(LOSSES)}"
            )
    if not losses:
        raise ConfigError(f"variant {name!r}: got settings alone, expected a loss with them, for example sd_w0.01")
    return make_variant(losses, settings)


WEIGHTS: dict[str, tuple[float, ...]] = {
    "sd": (0.0001, 0.001, 0.01, 0.1), "td": (0.003, 0.03, 0.3, 3), "output": (0.1, 0.5, 2, 8),
    "attention_transfer": (0.001,), "fitnets": (0.01,), "squared_mean": (0.001,),
    "frequency": (0.5,), "frame_difference": (0.5,), "teacher_better_l1": (0.5,),
}  # fmt: skip
"""Weights of the grid, by loss."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "sd_w0.001": ("attention_kind=sum_abs", "attention_kind=max_squares", "feature_layer=hr_pre", "spatial_features=lr",
                  "schedule=constant", "schedule=decay"),
    "sd_w0.01": ("normalization=none",),
    "td_w0.03": ("memory_mode=trained", "memory_mode=trained_then_frozen", "memory_channels=32", "memory_stride=2"),
}  # fmt: skip
"""Settings of the grid, by the variant that they change."""

GRID: tuple[str, ...] = (
    PLAIN,
    *(f"{loss}_w{weight:g}" for loss, weights in WEIGHTS.items() for weight in weights),
    *(f"{name}+{setting}" for name, settings in SETTINGS.items() for setting in settings),
    "sd_w0.001+td_w0.03", "sd_w0.01+td_w0.3", "output_w0.5+sd_w0.001", "output_w2+sd_w0.001", "output_w2+sd_w0.01",
    "output_w2+sd_w0.001+td_w0.03",
)  # fmt: skip
"""Names of the variants that ``--variants all`` trains, in the order of the tables."""


def in_grid_order(names: Iterable[str]) -> list[str]:
    """Return names of variants in the order of :data:`GRID`; those outside of it follow as they come."""
    given = list(names)
    return [name for name in GRID if name in given] + [name for name in given if name not in GRID]


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the dotted name and the value of a setting of :class:`~workbench.config.RunConfig`.

    Args:
        text: ``NAME=VALUE``; the value of anything but text is written as in JSON.

    Raises:
        ConfigError: another form, or a value that is no JSON.

    Example:
        >>> parse_setting("data.crop_size=24"), parse_setting("student.flow_weights=pretrained:flow")
        (('data.crop_size', 24), ('student.flow_weights', 'pretrained:flow'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"set: got {text!r}, expected NAME=VALUE, for example data.crop_size=24")
    if isinstance(flatten(RunConfig().to_dict()).get(name, ""), str):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ConfigError(f"{name}: got {value!r}, expected a number, true, false or a JSON list") from error


def shared_config(
    *, data: str, teacher: Network, student: str, steps: int, crops: int = 600, changes: Mapping[str, Any] | None = None
) -> RunConfig:
    """Return the settings that all variants share: fixed crops, so that the teacher's outputs are computed once.

    The settings of the temporal loss are those of the stored scores, not today's defaults.

    Args:
        data: folder of prepared footage.
        teacher: the teacher.
        student: name of the student's network.
        steps: number of training steps.
        crops: number of fixed crops.
        changes: settings to change for all variants, by dotted name.

    Raises:
        ConfigError: a setting that does not exist, or a value that it cannot have.
    """
    preset = cpu_long()
    config = replace(
        preset,
        student=Network(name=student),
        teacher=teacher,
        plain=Network(),
        data=replace(preset.data, clips=(data,), num_fixed_crops=crops),
        distillation=Distillation(
            schedule_steps=max(steps // 20, 1), memory_stride=4, standardize=False, border_frames=0
        ),
        teacher_cache_dir="",
        steps=steps,
        snapshot_every=steps,
        save_every=max(steps // 10, 1),
    )
    return with_settings(config, changes or {})


CACHE_SETTINGS = (
    "feature_layer", "spatial_features", "attention_kind", "normalization", "memory_channels", "memory_stride",
    "memory_seed", "standardize", "cells", "border_frames",
)  # fmt: skip
"""Settings of the distillation that the cached teacher outputs depend on."""


def variant_config(variant: Variant, shared: RunConfig, seed: int, caches: Path | None = None) -> RunConfig:
    """Return the settings of one training.

    Args:
        variant: the variant.
        shared: settings of all variants, see :func:`shared_config`.
        seed: seed of the training.
        caches: folder of the teacher caches. Variants that need the same teacher outputs share a cache in it; a variant
            whose teacher outputs cannot be cached runs the teacher in every step.
    """
    config = with_settings(shared, {"seed": seed, **variant.changes})
    if not variant.changes:
        return replace(config, teacher=Network())
    if caches is None:
        return config
    cache = "-".join(str(getattr(config.distillation, name)) for name in CACHE_SETTINGS)
    try:
        return replace(config, teacher_cache_dir=str(caches / cache))
    except ConfigError:  # the rule for what can be cached is RunConfig's
        return config


def cache_config(config: RunConfig) -> RunConfig:
    """Return settings that fill the teacher cache of ``config`` with the outputs that any variant may need."""
    losses = {"spatial_weight": 1.0, "temporal_weight": 1.0, "memory_mode": "frozen", "losses": {}}
    losses |= {f"{name}_ratio": 0.0 for name in ("spatial", "temporal", "output")}
    return with_settings(config, {f"distillation.{name}": value for name, value in losses.items()})
