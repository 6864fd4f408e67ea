"""Variants of an experiment: one student distilled with different losses, everything else equal.

A variant is named by its parts, joined by ``+``:

==================  ========================================================================
part                meaning
==================  ========================================================================
``plain``           no teacher; combined with settings only: ``plain+steps=4500``
``LOSS_wWEIGHT``    a loss of :data:`LOSSES` with a weight: ``sd_w0.01``
``LOSS_rRATIO``     a loss whose gradient norm is this ratio of the reconstruction's: ``sd_r0.1``
``SETTING=VALUE``   a setting of the distillation, or of the run by its dotted name:
                    ``sd_w0.001+attention_kind=sum_abs``, ``output_r0.1+data.num_fixed_crops=4000``
==================  ========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from workbench.config import Data, Network, RunConfig, with_settings
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
    ratio: str


def _loss(label: str, term: str) -> Loss:
    return Loss(label, f"distillation.{Distillation().weight_name(term)}", f"distillation.ratios.{term}")


LOSSES: dict[str, Loss] = {
    "output": _loss("output L1", "output_l1"),
    "sd": _loss("SD", "spatial"),
    "td": _loss("TD", "temporal"),
    **{
        loss.name: _loss(loss.name.replace("_", " ").replace("l1", "L1").replace("fitnets", "FitNets"), loss.name)
        for loss in fields(OtherLosses)
        if loss.name != "output_l1"
    },
}
"""Losses by their names in variants, in the order of the parts of a name."""

LOSS_PART = re.compile(rf"({'|'.join(LOSSES)})_([wr])(\d+(?:\.\d+)?(?:e-?\d+)?)")

SETTING_LABELS = {
    "cells=all": "all cells",
    "memory_mode=trained": "ConvLSTM trained",
}
"""Labels of some settings in tables; others are shown by name and value."""

RESERVED = {"seed", "teacher_cache_dir", *(name for loss in LOSSES.values() for name in (loss.weight, loss.ratio))}
"""Settings that a variant does not name: the parts of losses set them, or the experiment."""


@dataclass(frozen=True)
class Variant:
    """One way to train the student; made by :func:`make_variant` or :func:`find_variant`.

    Attributes:
        name: name of its runs and scores.
        label: name in tables; the number in parentheses is the gradient-norm ratio of a loss.
        changes: settings, by dotted name, that differ from :func:`shared_config`.
        distills: whether it has a teacher.
    """

    name: str
    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    distills: bool = True


def make_variant(losses: Mapping[str, tuple[str, float]], settings: Mapping[str, Any] | None = None) -> Variant:
    """Return the variant with some losses; without any, the plain student.

    Args:
        losses: name in :data:`LOSSES` -> ``w`` and a weight, or ``r`` and a gradient-norm ratio.
        settings: further settings by dotted name; those of the distillation also without ``distillation.``.

    Raises:
        ConfigError: a setting that does not exist or that a variant cannot change, or a value that it cannot have.

    Example:
        >>> make_variant({"td": ("w", 0.03), "sd": ("w", 0.001)}).name
        'sd_w0.001+td_w0.03'
    """
    changes: dict[str, Any] = {LOSSES[name].weight: 0.0 for name in ("sd", "td")} if losses else {}
    names, labels = ([], []) if losses else ([PLAIN], ["plain: no teacher"])
    for loss in sorted(losses, key=list(LOSSES).index):
        kind, amount = losses[loss]
        text = f"{amount:.12g}".replace("e+", "e")
        changes[LOSSES[loss].weight if kind == "w" else LOSSES[loss].ratio] = amount
        names.append(f"{loss}_{kind}{text}")
        labels.append(f"{LOSSES[loss].label} ({text})" if kind == "r" else f"{LOSSES[loss].label}, weight {text}")
    labels = [" + ".join(labels)]
    for given, value in sorted((settings or {}).items()):
        name = given.removeprefix("distillation.")
        whole = name if name in ALL_SETTINGS else f"distillation.{name}"
        if whole in RESERVED or (whole != name and not losses):
            raise ConfigError(f"variant: got a value for {name}, expected a setting that changes {'+'.join(names)}")
        text = value if isinstance(value, str) else json.dumps(value)
        changes[whole] = value
        names.append(f"{name}={text}")
        labels.append(SETTING_LABELS.get(names[-1], f"{name} {text}".replace("_", " ")))
    with_settings(RunConfig(data=Data(stills="-"), teacher=Network(name="-", weights="-")), changes)
    return Variant("+".join(names), ", ".join(labels), changes, distills=bool(losses))


ALL_SETTINGS = frozenset(flatten(RunConfig().to_dict()))
"""Dotted names of all settings of a run."""


def find_variant(name: str) -> Variant:
    """Return the variant of a name; see the module for the form of names.

    Raises:
        ConfigError: a name of another form, or a loss, a setting or a value that does not exist.

    Example:
        >>> find_variant("output_w2+sd_r0.1").label
        'output L1, weight 2 + SD (0.1)'
    """
    losses: dict[str, tuple[str, float]] = {}
    settings: dict[str, Any] = {}
    parts = name.split("+")
    for part in parts[1:] if parts[0] == PLAIN else parts:
        key, equals, text = part.removeprefix("distillation.").partition("=")
        loss, kind, amount = found.groups() if (found := LOSS_PART.fullmatch(part)) else ("", "", "0")
        if equals and key not in settings:
            settings[key] = parse_setting(part if key in ALL_SETTINGS else f"distillation.{key}={text}")[1]
        elif loss in LOSSES.keys() - losses and float(amount) > 0 and parts[0] != PLAIN:
            losses[loss] = kind, float(amount)
        else:
            raise ConfigError(
                f"variant {name!r}: got {part!r}, expected parts joined by +, each once: {PLAIN} or losses "
                "(LOSS_wWEIGHT, LOSS_rRATIO), then settings (SETTING=VALUE), for example "
                f"output_w2+sd_r0.1+attention_kind=sum_abs or plain+steps=4500. Losses: {', '.join(LOSSES)}"
            )
    if not losses and parts[0] != PLAIN:
        raise ConfigError(f"variant {name!r}: got settings alone, expected {PLAIN} or a loss before them")
    return make_variant(losses, settings)


def file_name(name: str) -> str:
    """Return a name for a file: that of a variant with hyphens, with a checksum where other characters are lost.

    Example:
        >>> file_name("output_w2+data.crop_size=24"), file_name("plain+teacher.weights=a/b")
        ('output_w2-data.crop_size-24', 'plain-teacher.weights-a_b-4f3d88cb')
    """
    plain = name.replace("+", "-").replace("=", "-")
    safe = re.sub(r"[^\w.,-]", "_", plain)[:120]
    return safe if safe == plain else f"{safe}-{crc32(name.encode()):08x}"


def in_table_order(names: Iterable[str]) -> list[str]:
    """Return names of variants in the order of the tables: plain, then by losses, their amounts, and settings.

    Variants with fewer losses come first; losses are in the order of :data:`LOSSES`.

    Example:
        >>> in_table_order(["sd_r0.1+td_r0.1", "td_r0.1", "sd_r0.1", "sd_r0.03", "plain+steps=9", "plain"])
        ['plain', 'plain+steps=9', 'sd_r0.03', 'sd_r0.1', 'td_r0.1', 'sd_r0.1+td_r0.1']
    """
    order = list(LOSSES)

    def key(name: str) -> tuple[list[int], list[tuple[str, float]], list[str]]:
        parts = name.split("+")
        losses = [found.groups() for part in parts if (found := LOSS_PART.fullmatch(part))]
        kinds = [(kind, float(amount)) for _, kind, amount in losses]
        return [len(losses), *(order.index(loss) for loss, _, _ in losses)], kinds, parts[max(len(losses), 1) :]

    return sorted(names, key=key)


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
    *, data: str, teacher: Network, student: str, steps: int, crops: int = 800, changes: Mapping[str, Any] | None = None
) -> RunConfig:
    """Return the settings that all variants share: fixed crops, so that the teacher's outputs are computed once.

    They are those of the preset ``cpu_long``, without its losses. The preset's student starts from its flow network;
    another student names weights with ``student.flow_weights``. Precision and memory format are fixed: measured ones
    differ between machines and variants, and with them the rounding.

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
    own = preset.student if preset.student.name == student else Network(name=student)
    config = replace(
        preset,
        student=own,
        teacher=teacher,
        plain_run="",
        steps=steps,
        memory_format="channels_last",
        snapshot_every=steps,
        save_every=max(steps // 10, 1),
        data=replace(preset.data, clips=(data,), validation_clip=Data().validation_clip, num_fixed_crops=crops),
        distillation=Distillation(schedule_steps=max(steps // 20, 1)),
        teacher_cache_dir="",
    )
    return with_settings(config, changes or {})


CACHE_SETTINGS = (
    "feature_layer", "spatial_features", "attention_kind", "normalization", "memory_channels", "memory_stride",
    "memory_seed", "standardize", "cells", "border_frames",
)  # fmt: skip
"""Settings of the distillation that the cached teacher outputs depend on."""


CACHE_GROUPS = ("data.", "teacher.", "precision")
"""Beginnings of the other settings that they depend on; a variant that changes one has a cache of its own."""


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
    if not variant.distills:
        return replace(config, teacher=Network())
    if caches is None:
        return config
    cache = "-".join(str(getattr(config.distillation, name)) for name in CACHE_SETTINGS)
    cache += "+flow" if "flow_l1" in config.distillation.chosen_losses else ""
    own = (f"+{name}={value}" for name, value in variant.changes.items() if name.startswith(CACHE_GROUPS))
    try:
        return replace(config, teacher_cache_dir=str(caches / file_name(cache + "".join(own))))
    except ConfigError:  # the rule for what can be cached is RunConfig's
        return config


def cache_config(config: RunConfig) -> RunConfig:
    """Return settings that fill the teacher cache of ``config`` with the outputs that any variant may need."""
    flow = {"flow_l1": 1.0} if "flow_l1" in config.distillation.chosen_losses else {}
    losses = {"spatial_weight": 1.0, "temporal_weight": 1.0, "memory_mode": "frozen", "losses": flow, "ratios": {}}
    return with_settings(config, {f"distillation.{name}": value for name, value in losses.items()})
