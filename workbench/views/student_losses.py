"""Losses that the distilled students of a scene were trained with, as a sentence, from the settings of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.config import RunConfig
from workbench.distillation_config import OtherLosses
from workbench.errors import WorkbenchError
from workbench.runs import Run, list_runs
from workbench.scenes import Method, Scene

SHIPPED = "pretrained:"
FROM_RUN = ("newest weights", "state of step ")
"""Beginnings of the note of a method whose label begins with the name of a run."""


def scene_losses(scene: Scene, runs: Sequence[Path]) -> str:
    """Return a sentence for each student of a scene whose run is known and has a teacher.

    Args:
        scene: the scene.
        runs: folders of runs; the shipped ones are last.
    """
    sentences = []
    for method in scene.methods:
        run = _find_run(method, runs)
        subject = "The distilled student of this scene" if method.key == "distilled" else method.label
        sentences.append(run_losses(run, subject) if run else "")
    return " ".join(filter(None, sentences))


def run_losses(run: Run, subject: str = "The distilled student of this run") -> str:
    """Return a sentence on the losses of a run; empty without a teacher, or where the settings cannot be read."""
    try:
        return losses_sentence(run.config(), subject)
    except WorkbenchError:  # the page reports it in place of the run
        return ""


def losses_sentence(config: RunConfig, subject: str) -> str:
    """Return a sentence on the outputs of the teacher that the losses compare; empty without such a loss.

    Example:
        >>> from workbench.presets import PRESETS
        >>> losses_sentence(PRESETS["cpu_long"](), "It")
        "It learned from the teacher's frames (output L1); maps and cells are shown for comparison."
        >>> losses_sentence(PRESETS["demo"](), "It")
        "It learned from the teacher's attention maps (spatial) and memory cells (temporal)."
    """
    if not config.distills:
        return ""
    distillation = config.distillation
    inputs = {"attention maps": ["spatial"] * distillation.uses_spatial}
    inputs["memory cells"] = ["temporal"] * distillation.uses_temporal
    for name in distillation.chosen_losses:
        kind: str = OtherLosses.__dataclass_fields__[name].metadata["reads"]
        inputs.setdefault("optical flow" if kind == "flow" else kind, []).append(
            name.replace("_", " ").replace("l1", "L1")
        )
    parts = [f"{text} ({', '.join(names)})" for text, names in inputs.items() if names]
    if not parts:
        return ""
    shown = [word for text, word in (("attention maps", "maps"), ("memory cells", "cells")) if not inputs[text]]
    rest = f"; {' and '.join(shown)} are shown for comparison" if shown else ""
    return f"{subject} learned from the teacher's {' and '.join(parts)}{rest}."


def _find_run(method: Method, roots: Sequence[Path]) -> Run | None:
    """Return the run that wrote the weights of a method, by its note; None where it is not here."""
    name = ""
    if method.note.startswith(SHIPPED):
        name, roots = method.note.removeprefix(SHIPPED).partition(" ")[0], roots[-1:]
    elif method.note.startswith(FROM_RUN):
        name = method.label.partition(", step ")[0]
    return next((Run(root / name) for root in roots if name and name in list_runs(root)), None)
