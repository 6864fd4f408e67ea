"""Plain student (trained without a teacher) in the snapshots of a run, at the same step and at no other."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from workbench.config import RunConfig
from workbench.data.sampling.crops import Pair
from workbench.errors import ConfigError, FolderError
from workbench.evaluation.methods import make_network
from workbench.evaluation.rendering import ColorLimits, SceneScorer, add_rendering
from workbench.models.weights import read_card
from workbench.runs import locate_run
from workbench.scenes import Method, SceneWriter, read_scene
from workbench.settings import differences
from workbench.training.record import PlainTwin, Renderer
from workbench.training.trainer import MUTABLE_ON_RESUME

logger = logging.getLogger(__name__)

KEY, LABEL = "plain", "Plain student"

TEACHER_SETTINGS = frozenset({"teacher", "distillation", "imitation_weight", "memory_format"})
"""Settings in which a distillation and its plain twin may differ, in addition to those mutable on resume."""


def open_plain(config: RunConfig, pair: Pair) -> PlainTwin | None:
    """Open the plain student that the config names; None where it names none.

    Args:
        config: of the run that shows it.
        pair: the validation clip of that run.

    Raises:
        ConfigError: another clip, scale or network, a distilled student, or weights that do not record their step.
        FolderError: no such run, or one that cannot be read.
        WeightsError: no such weights.
    """
    if config.plain_run:
        return PlainRun(config, pair)
    return PlainWeights(config, pair) if config.plain.name else None


class PlainRun:
    """Plain student of another run, finished or live: its snapshots at the same steps.

    Its frames, scores and attention maps are copied. There are no memory cells: that run had no ConvLSTM.
    """

    def __init__(self, config: RunConfig, pair: Pair) -> None:
        try:
            self.run = locate_run(config.plain_run)
        except FolderError as error:
            raise FolderError(f"plain_run: {error}; name a run folder, or leave the plain student out") from error
        theirs, where = self.run.config(), config.plain_run
        if theirs.teacher.name:
            raise ConfigError(
                f"plain_run: want a run without a teacher, got {where} with teacher {theirs.teacher.name}"
            )
        for name, ours, other in (
            ("student.name", config.student.name, theirs.student.name),
            ("student.skip", config.student.skip, theirs.student.skip),
            ("data.scale", config.data.scale, theirs.data.scale),
        ):
            if other != ours:
                raise ConfigError(
                    f"plain_run: want a run with {name} {ours!r}, got {where} with {other!r}; name a run of the same "
                    "network and scale, or none"
                )
        if not (self.run.validation_folder / "scene.json").is_file():
            raise ConfigError(f"plain_run: want a run with snapshots, got {where}, which has none yet; start it first")
        clip = self.run.validation_clip()
        if not all(np.array_equal(clip.clip(key), frames) for key, frames in (("low", pair.low), ("high", pair.high))):
            raise ConfigError(
                f"plain_run: want snapshots of data.validation_clip {config.data.validation_clip!r}, got {where} with "
                f"snapshots of another clip ({theirs.data.validation_clip!r}, degradation {theirs.data.degradation}); "
                "set data.validation_clip to that clip, or name another run"
            )
        changed = differences(theirs.to_dict(), config.to_dict())
        changes = [
            f"{name} {old!r}, here {new!r}"
            for name, (old, new) in changed.items()
            if name not in MUTABLE_ON_RESUME and name.partition(".")[0] not in MUTABLE_ON_RESUME | TEACHER_SETTINGS
        ]
        if changes:
            logger.warning("plain_run: %s was trained with other settings: %s", where, "; ".join(changes))

    def add(self, scene: SceneWriter, step: int, renderer: Renderer, limits: ColorLimits) -> None:
        """See :class:`PlainTwin`."""
        if step not in self.run.snapshots():
            return
        theirs = read_scene(self.run.snapshot_folder(step))
        note = f"the same network without a teacher, step {step} of {self.run.name}"
        scene.add_method(Method(key=KEY, label=LABEL, note=note), theirs.clip("student"))
        for curve in theirs.curves:
            values = np.array([np.nan if value is None else value for value in curve.series["student"]])
            scene.add_curve(curve.key, curve.label, curve.unit, curve.better, KEY, values)
        for overlay in theirs.overlays:
            kind = overlay.kind.removeprefix("attention_")
            if overlay.method == "student" and kind in limits.maps:
                scene.add_overlay(replace(overlay, method=KEY, vmax=limits.maps[kind]), theirs.array(overlay))


class PlainWeights:
    """Plain student from a weight file, shown at the step at which its training ended."""

    def __init__(self, config: RunConfig, pair: Pair) -> None:
        self.plain, self.scale, self.pair = config.plain, config.data.scale, pair
        if self.plain.name != config.student.name:
            raise ConfigError(f"plain.name: want the student's network, {config.student.name}, got {self.plain.name}")
        card = read_card(self.plain.weights) if self.plain.weights else {"step": 0}
        self.step = card.get("step", card.get("steps"))
        if not isinstance(self.step, int):
            raise ConfigError(
                f"plain.weights: want weights that record their training step, got {self.plain.weights} without; name "
                "the run that made them (plain_run), or leave the plain student out"
            )

    def add(self, scene: SceneWriter, step: int, renderer: Renderer, limits: ColorLimits) -> None:
        """See :class:`PlainTwin`."""
        if step != self.step:
            return
        rendering = renderer(make_network(self.plain, self.scale), self.pair.low)
        note = f"the same network without a teacher, step {step}; its cells are computed by this run's ConvLSTM"
        add_rendering(scene, Method(key=KEY, label=LABEL, note=note), rendering, limits)
        SceneScorer(self.pair.high).add(scene, KEY, rendering.frames)
