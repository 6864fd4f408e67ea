"""What a training leaves on disk: metrics, snapshots of the validation clip, weights, and states to resume from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from workbench.aliases import setting_name
from workbench.choices import FeatureLayer
from workbench.data.sampling.crops import Pair
from workbench.data.video.read import Video
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory, save_memory
from workbench.errors import FolderError, WeightsError
from workbench.evaluation.rendering import Rendering, Scales, SceneScorer, add_rendering, render
from workbench.models.video_sr import VideoSR
from workbench.models.weights import read_tensors, save, save_tensors
from workbench.models.zoo import build
from workbench.runs import FORMAT, Run, RunWriter
from workbench.scenes import Method, SceneWriter, read_scene, write_atomic, write_scene
from workbench.training.loop import Step

KEPT_CHECKPOINTS = 2

GIVEN_TRUTH = "it was given the high resolution and gives it back: no restoration of the low one"


def log_row(step: Step) -> dict[str, Any]:
    """One line of ``metrics.jsonl``."""
    row: dict[str, Any] = {
        "step": step.number,
        "terms": step.terms,
        "weights": step.weights,
        "total": step.total,
        "learning_rate": step.learning_rate,
        "gradient_norm": step.gradient_norm,
        "seconds": round(step.seconds, 4),
        "data_time": round(step.data_time, 4),
        **step.diagnostics,
    }
    return row | ({"notes": list(step.notes)} if step.notes else {})


# -- looks at the validation clip
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings:
    """Inputs of a snapshot: the validation clip, the run's memory and layer, its color scales, and its device."""

    pair: Pair
    memory: TemporalMemory | None
    tap: FeatureLayer
    scales: Scales
    device: torch.device


class PlainTwin(Protocol):
    """A source of the plain student at some steps; see :mod:`workbench.training.plain_twin`."""

    def add(self, scene: SceneWriter, step: int, view: SnapshotSettings) -> bool:
        """Add the plain student at a step to a snapshot; returns whether there is one at this step."""
        ...


def write_validation_clip(
    writer: RunWriter,
    pair: Pair,
    video: Video,
    *,
    teacher: VideoSR | None,
    student: VideoSR,
    memory: TemporalMemory | None,
    tap: FeatureLayer,
    provenance: dict[str, Any],
) -> None:
    """Write what does not change on the validation clip: low, high, bicubic and, where there is one, the teacher.

    Without a teacher the colour scales are those of the student as it begins. A teacher that was given the truth is
    shown as such, for its maps and cells, and not scored: its pictures are no restoration.
    """
    folder = writer.run.validation_folder
    if (folder / "scene.json").exists():
        return
    device = next(student.parameters()).device
    scores = SceneScorer(pair.high)
    with write_scene(folder) as scene:
        scene.add_method(Method(key="low", label="Low resolution", note="what the networks see"), pair.low)
        scene.add_method(Method(key="high", label="Ground truth"), pair.high)
        floor = render(build("bicubic", scale=student.scale), pair.low)
        scene.add_method(Method(key="bicubic", label="Bicubic"), floor.frames)
        scores.add(scene, "bicubic", floor.frames)
        reference: Rendering | None = None
        if teacher is not None:
            given = teacher.select_input(pair.low, pair.high)
            reference = render(teacher, given, memory=memory, is_student=False, feature_layer=tap, device=device)
        given = student.select_input(pair.low, pair.high)
        scales = Scales.of(reference or render(student, given, memory=memory, feature_layer=tap, device=device))
        if teacher is not None and reference is not None:
            label, note = f"Teacher ({teacher.recipe['name']})", ""
            if teacher.privileged:
                label, note = f"{label}: given the ground truth", f"{GIVEN_TRUTH}; it has no score"
            add_rendering(scene, Method(key="teacher", label=label, note=note), reference, scales)
            if not teacher.privileged:
                scores.add(scene, "teacher", reference.frames)
        scene.add_array("scale.memory", np.array(scales.cells))
        for mapping, top in scales.maps.items():
            scene.add_array(f"scale.{mapping}", np.array(top))
        protocol = {"degradation": writer.config.data.degradation, "scale": student.scale, "channel": "Y", "crop": 0}
        scene.finish(
            name=f"{writer.folder.name}-probe",
            title="Validation clip",
            fps=video.fps,
            times_seconds=video.boundaries_seconds,
            pixel_aspect=video.pixel_aspect,
            protocol=protocol,
            provenance=provenance,
        )


def write_snapshot(
    writer: RunWriter,
    step: int,
    pair: Pair,
    *,
    student: VideoSR,
    memory: TemporalMemory | None,
    tap: FeatureLayer,
    plain: PlainTwin | None = None,
) -> None:
    """Write what the student makes of the validation clip at a step, beside the plain student at the same step."""
    folder = writer.folder / "snapshots" / f"{step:07d}"
    with np.load(writer.run.validation_folder / "arrays.npz", allow_pickle=False) as arrays:
        tops = {name.removeprefix("scale."): float(arrays[name]) for name in arrays.files if name.startswith("scale.")}
    scales = Scales(maps={name: top for name, top in tops.items() if name != "memory"}, cells=tops["memory"])
    view = SnapshotSettings(pair=pair, memory=memory, tap=tap, scales=scales, device=next(student.parameters()).device)
    given = student.select_input(pair.low, pair.high)
    seen = render(student, given, memory=memory, feature_layer=tap, device=view.device)
    label, note = "Distilled student" if writer.config.distils else "Student", f"step {step}"
    if student.privileged:
        label, note = "Privileged teacher: given the ground truth", f"{note}; {GIVEN_TRUTH}"
    with write_scene(folder, replace=True) as scene:
        if plain is not None:
            plain.add(scene, step, view)
        add_rendering(scene, Method(key="student", label=label, note=note), seen, scales)
        SceneScorer(pair.high).add(scene, "student", seen.frames)
        probe = read_scene(writer.run.validation_folder)
        scene.finish(
            name=f"{writer.folder.name}-{step}",
            title=f"Step {step}",
            fps=probe.fps,
            times_seconds=probe.times_seconds,
            pixel_aspect=probe.pixel_aspect,
            protocol=probe.protocol,
            provenance={"step": step},
        )


# -- weights and states ---------------------------------------------------------------------------------------------


def save_weights(
    writer: RunWriter, student: VideoSR, objective: Objective, step: int, average: AveragedModel | None = None
) -> None:
    """Write the student's weights, their running average and the memory's, as they are now."""
    home = writer.folder / "weights"
    home.mkdir(exist_ok=True)
    save(student, home / "student.safetensors", run=writer.folder.name, step=step)
    if average is not None:
        save(averaged(average), home / "average.safetensors", run=writer.folder.name, step=step)
    if objective.memory is not None:
        save_memory(objective.memory, home / "memory.safetensors")


def averaged(average: AveragedModel) -> VideoSR:
    """The network that holds a running average."""
    network = average.module
    assert isinstance(network, VideoSR)
    return network


def save_checkpoint(
    writer: RunWriter,
    step: int,
    student: VideoSR,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel | None = None,
    *,
    resume_info: Mapping[str, Any] | None = None,
) -> None:
    """Write all that an exact resume needs; a state appears whole, and the one before is kept.

    Batches, and what networks draw while training, are functions of the seed and the step, so neither needs a state.
    ``resume_info`` is stored with it, see :func:`read_resume_info`.
    """
    home = writer.run.checkpoints_folder
    home.mkdir(exist_ok=True)
    hidden, final = home / f".{step:07d}.partial", home / f"{step:07d}"
    shutil.rmtree(hidden, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    hidden.mkdir()
    try:
        for name, module in _stateful(student, objective, average).items():
            save_tensors(hidden / f"{name}.safetensors", module.state_dict())
        saved = optimizer.state_dict()
        moments = {
            f"{index}.{name}": value
            for index, values in saved["state"].items()
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        save_tensors(hidden / "optimizer.safetensors", moments)
        groups = [{k: v for k, v in group.items() if k != "params"} for group in saved["param_groups"]]
        record = {"step": step, "groups": groups, "format": FORMAT, "resume_info": dict(resume_info or {})}
        write_atomic(hidden / "state.json", json.dumps(record))
        hidden.rename(final)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    for old in saved_checkpoints(writer.folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(home / f"{old:07d}")


def _stateful(student: VideoSR, objective: Objective, average: AveragedModel | None) -> dict[str, torch.nn.Module]:
    modules: dict[str, torch.nn.Module | None] = {"student": student, "objective": objective, "average": average}
    return {name: module for name, module in modules.items() if module is not None and module.state_dict()}


def saved_checkpoints(folder: Path) -> list[int]:
    """Steps of the whole states in a run folder, ascending."""
    home = Run(folder).checkpoints_folder
    if not home.is_dir():
        return []
    return sorted(int(p.name) for p in home.iterdir() if p.name.isdigit() and (p / "state.json").is_file())


def read_resume_info(folder: Path, step: int) -> dict[str, Any]:
    """What the state of a step was saved with: the settings that it depends on, processes and workers."""
    record = json.loads((Run(folder).checkpoints_folder / f"{step:07d}" / "state.json").read_text())
    if "format" in record:
        return record["resume_info"]
    before = record.get("conditions", {})  # of a run of format 1
    return before | {"config": {setting_name(name): value for name, value in before.get("config", {}).items()}}


def load_checkpoint(
    folder: Path,
    student: VideoSR,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel | None = None,
) -> int:
    """Load the newest state that can be read; returns its step, or 0 where there is none.

    Raises:
        FolderError: there are states, but none can be read.
    """
    faults: list[str] = []
    for step in reversed(saved_checkpoints(folder)):
        home = Run(folder).checkpoints_folder / f"{step:07d}"
        try:
            record = json.loads((home / "state.json").read_text())
            moments, _ = read_tensors(home / "optimizer.safetensors")
            modules = _stateful(student, objective, average)
            tensors = {name: read_tensors(home / f"{name}.safetensors")[0] for name in modules}
            for name, module in modules.items():
                module.load_state_dict(tensors[name])
        except (WeightsError, ValueError, KeyError, RuntimeError, OSError) as error:
            faults.append(f"step {step}: {error}")
            continue
        own = optimizer.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        groups = [
            mine | {k: tuple(v) if isinstance(v, list) else v for k, v in theirs.items()}
            for mine, theirs in zip(own["param_groups"], record["groups"], strict=True)
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return step
    if faults:
        raise FolderError(f"{folder.name}: no state can be read: {'; '.join(faults)}")
    return 0
