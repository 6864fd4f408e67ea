"""Losses of distilled students as sentences, from the settings of their runs or from shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.config import RunConfig
from workbench.distillation_config import OtherLosses
from workbench.errors import WorkbenchError
from workbench.pretrained import SET, shipped_networks
from workbench.runs import Run, list_runs
from workbench.scenes import Method, Scene

SHIPPED = "pretrained:"
SPACE_TIME = {"spatial": "attention maps", "temporal": "memory cells"}
FROM_RUN = ("newest weights", "state of step ")
"""Beginnings of the note of a method whose label begins with the name of a run."""


def scene_losses(scene: Scene, runs: Sequence[Path]) -> str:
    """Return a sentence for each distilled student of a scene that is shipped, or whose run is known.

    Args:
        scene: the scene.
        runs: folders of runs.
    """
    sentences = []
    for method in scene.methods:
        subject = "The distilled student of this scene" if method.key == "distilled" else method.label
        if method.note.startswith(SHIPPED):
            name = method.note.removeprefix(SHIPPED).partition(" ")[0]
            sentences.append(sentence(shipped_networks().get(name, []), f"{subject}, {name},"))
        elif run := _find_run(method, runs):
            sentences.append(run_losses(run, subject))
    return " ".join(filter(None, sentences))


def shipped_sentences() -> str:
    """Return a sentence for each shipped distilled student; the first is that of the method name `distilled`."""
    names = sorted(shipped_networks(), key=lambda name: name != SET["distilled"])
    sentences = [f"Of the shipped networks, {SET['teacher']} is the teacher and {SET['plain']} the plain student."]
    for name in names:
        role = "The distilled student" if name == SET["distilled"] else "Another student"
        sentences.append(sentence(shipped_networks()[name], f"{role}, {name},", compared=False))
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
        >>> losses_sentence(PRESETS["demo"](), "It")
        "It learned from the teacher's attention maps (spatial) and memory cells (temporal)."
    """
    return sentence(loss_names(config), subject)


def loss_names(config: RunConfig) -> list[str]:
    """Return the names of the losses that compare a student with its teacher."""
    if not config.distills:
        return []
    distillation = config.distillation
    space_time = ["spatial"] * distillation.uses_spatial + ["temporal"] * distillation.uses_temporal
    return [*space_time, *distillation.chosen_losses]


def sentence(losses: Sequence[str], subject: str, *, compared: bool = True) -> str:
    """Return a sentence on the outputs of the teacher that losses compare; empty without losses.

    Args:
        losses: names of the losses.
        subject: of the sentence.
        compared: name the maps or cells that no loss compares, too.

    Example:
        >>> sentence(["output_l1"], "It")
        "It learned from the teacher's frames (output L1); maps and cells are shown for comparison."
    """
    if not losses:
        return ""
    hidden = [word for loss, word in (("spatial", "maps"), ("temporal", "cells")) if loss not in losses]
    rest = f"; {' and '.join(hidden)} are shown for comparison" if compared and hidden else ""
    return f"{subject} learned from the teacher's {compared_outputs(losses)}{rest}."


def compared_outputs(losses: Sequence[str]) -> str:
    """Return the outputs of the teacher that losses compare, each with the names of its losses.

    Example:
        >>> compared_outputs(["spatial", "output_l1"])
        'attention maps (spatial) and frames (output L1)'
    """
    inputs: dict[str, list[str]] = {}
    for loss in losses:
        kind = SPACE_TIME.get(loss) or OtherLosses.__dataclass_fields__[loss].metadata["reads"]
        shown = loss.replace("_", " ").replace("l1", "L1")
        inputs.setdefault("optical flow" if kind == "flow" else kind, []).append(shown)
    return " and ".join(f"{kind} ({', '.join(names)})" for kind, names in inputs.items())


def _find_run(method: Method, roots: Sequence[Path]) -> Run | None:
    """Return the run that wrote the weights of a method, by its note; None where it is not here."""
    name = method.label.partition(", step ")[0] if method.note.startswith(FROM_RUN) else ""
    return next((Run(root / name) for root in roots if name and name in list_runs(root)), None)
