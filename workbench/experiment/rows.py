"""The rows of the experiment: one student, taught in many ways, all else equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.config import READ_PICTURES, Distillation, Network, OtherLosses, RunConfig, changed, cpu_long
from workbench.errors import unknown_name

NO_TERMS: Mapping[str, Any] = {"distillation.spatial_weight": 0.0, "distillation.temporal_weight": 0.0}


@dataclass(frozen=True)
class Row:
    """One way to teach.

    Attributes:
        name: of its runs and scores.
        label: in tables.
        change: settings, by dotted name, that differ from :func:`base`.
        taught: whether there is a teacher.
    """

    name: str
    label: str
    change: Mapping[str, Any] = field(default_factory=dict)
    taught: bool = True


def _other(name: str, weight: float) -> dict[str, Any]:
    return {**NO_TERMS, f"distillation.losses.{name}": weight}


def _spatial(weight: float = 0.001, **settings: Any) -> dict[str, Any]:
    changes = {f"distillation.{name}": value for name, value in settings.items()}
    return {"distillation.temporal_weight": 0.0, "distillation.spatial_weight": weight, **changes}


def _temporal(weight: float = 0.03, **settings: Any) -> dict[str, Any]:
    changes = {f"distillation.{name}": value for name, value in settings.items()}
    return {"distillation.spatial_weight": 0.0, "distillation.temporal_weight": weight, **changes}


_ROWS = (
    Row("plain", "plain: no teacher", taught=False),
    Row("sd_small", "SD, weight 0.0001", _spatial(0.0001)),
    Row("sd", "SD, weight 0.001", _spatial()),
    Row("sd_large", "SD, weight 0.01", _spatial(0.01)),
    Row("sd_huge", "SD, weight 0.1", _spatial(0.1)),
    Row("sd_sum_abs", "SD, equation 1", _spatial(mapping="sum_abs")),
    Row("sd_max", "SD, equation 3", _spatial(mapping="max_squares")),
    Row("sd_as_written", "SD as written: no normalisation, weight 0.01", _spatial(0.01, normalisation="none")),
    Row("sd_before", "SD before the activation", _spatial(tap="hr_pre")),
    Row("sd_low", "SD on F^LR", _spatial(spatial_features="lr")),
    Row("sd_constant", "SD, no warm-up", _spatial(schedule="constant")),
    Row("sd_decay", "SD, falling to zero", _spatial(schedule="decay")),
    Row("td_small", "TD, weight 0.003", _temporal(0.003)),
    Row("td", "TD, weight 0.03", _temporal()),
    Row("td_large", "TD, weight 0.3", _temporal(0.3)),
    Row("td_huge", "TD, weight 3", _temporal(3.0)),
    Row("td_trained", "TD, ConvLSTM trained jointly", _temporal(memory="trained")),
    Row("td_then_frozen", "TD, ConvLSTM trained, then frozen", _temporal(memory="trained_then_frozen")),
    Row("td_wide", "TD, 32 hidden channels", _temporal(memory_channels=32)),
    Row("td_fine", "TD, stride 2", _temporal(memory_stride=2)),
    Row("std", "SD, weight 0.001, + TD, weight 0.03", {**_spatial(), "distillation.temporal_weight": 0.03}),
    Row("std_large", "SD, weight 0.01, + TD, weight 0.3", {**_spatial(0.01), "distillation.temporal_weight": 0.3}),
    Row("output_small", "output L1, weight 0.1", _other("output", 0.1)),
    Row("output", "output L1, weight 0.5", _other("output", 0.5)),
    Row("output_large", "output L1, weight 2", _other("output", 2.0)),
    Row("output_huge", "output L1, weight 8", _other("output", 8.0)),
    Row("output_sd", "output L1, weight 0.5, + SD, weight 0.001", {**_spatial(), "distillation.losses.output_l1": 0.5}),
    Row("output_large_sd", "output L1, weight 2, + SD, weight 0.001",
        {**_spatial(), "distillation.losses.output_l1": 2.0}),
    Row("output_large_sd_large", "output L1, weight 2, + SD, weight 0.01",
        {**_spatial(0.01), "distillation.losses.output_l1": 2.0}),
    Row("output_large_std", "output L1, weight 2, + SD, weight 0.001, + TD, weight 0.03",
        {**_spatial(), "distillation.temporal_weight": 0.03, "distillation.losses.output_l1": 2.0}),
    Row("attention_transfer", "attention transfer", _other("attention_transfer", 0.001)),
    Row("fitnets", "FitNets", _other("fitnets", 0.01)),
    Row("squared_mean", "Gao: mean power", _other("squared_mean", 0.001)),
    Row("frequency", "frequency-weighted output (ours)", _other("frequency", 0.5)),
    Row("frame_difference", "frame difference (ours)", _other("frame_difference", 0.5)),
    Row("teacher_better_l1", "where the teacher is better (ours)", _other("teacher_better_l1", 0.5)),
)  # fmt: skip

ROWS: dict[str, Row] = {row.name: row for row in _ROWS}
"""Every row by name; the first is what all others are compared with."""

PLAIN = "plain"


def find_row(name: str) -> Row:
    """The row of that name.

    Raises:
        UnknownNameError: there is none; the nearest is suggested.
    """
    if name not in ROWS:
        raise unknown_name("row", name, ROWS)
    return ROWS[name]


def base(
    *, data: str, teacher: str, teacher_weights: str, student: str, steps: int, cache: str, crops: int = 600
) -> RunConfig:
    """Return the settings that all rows share: fixed crops, so that the teacher's outputs are computed once for all.

    The temporal term is the one that the stored scores were made with, not today's default.
    """
    settled = cpu_long()
    return replace(
        settled,
        student=Network(name=student),
        teacher=Network(name=teacher, weights=teacher_weights),
        plain=Network(),
        data=replace(settled.data, clips=(data,), num_fixed_crops=crops),
        distillation=Distillation(
            schedule_steps=max(steps // 20, 1), memory_stride=4, standardize=False, border_frames=0
        ),
        teacher_cache_dir=cache,
        steps=steps,
        snapshot_every=steps,
        save_every=max(steps // 10, 1),
    )


def config_of(row: Row, shared: RunConfig, seed: int) -> RunConfig:
    """The run of a row: ``shared`` with the row's changes and a seed.

    A plain row has no teacher. Rows that ask the teacher for the same maps and cells share a cache of it inside that of
    ``shared``; a row that reads whole features, or whose memory learns, has none: the teacher is live.
    """
    settings: dict[str, Any] = {"seed": seed, "teacher_cache_dir": "", **row.change}
    if not row.taught:
        settings |= {"teacher.name": "", "teacher.weights": ""}
    config = changed(shared, settings)
    if not row.taught or not shared.teacher_cache_dir or not _cacheable(config):
        return config
    held = config.distillation
    asked = [held.feature_layer, held.spatial_features, held.attention_kind, held.normalization]
    asked += [str(number) for number in (held.memory_channels, held.memory_stride, held.memory_seed)]
    if (held.standardize, held.cells, held.border_frames) != (False, "last", 0):
        asked += [str(held.standardize), held.cells, str(held.border_frames)]
    return changed(config, {"teacher_cache_dir": f"{shared.teacher_cache_dir}/{'-'.join(asked)}"})


def filling(config: RunConfig) -> RunConfig:
    """The run that fills the cache of ``config``: it asks for maps and cells, whatever ``config`` makes of them."""
    whole = {"distillation.spatial_weight": 1.0, "distillation.temporal_weight": 1.0, "distillation.memory": "frozen"}
    whole |= {f"distillation.{name}_ratio": 0.0 for name in ("spatial", "temporal", "output")}
    return changed(replace(config, distillation=replace(config.distillation, losses=OtherLosses())), whole)


def _cacheable(config: RunConfig) -> bool:
    held = config.distillation
    learns = held.uses_temporal and held.memory != "frozen"
    return not learns and all(name in READ_PICTURES for name in held.losses.chosen)
