"""Files of a run: log rows, snapshots of the validation clip, weights, and checkpoints to resume from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from workbench.aliases import CHECKPOINT_OPTIMIZER, PARAM_GROUP, renamed, setting_name
from workbench.atomic_files import write_atomic
from workbench.choices import FeatureLayer
from workbench.data.sampling.crops import Pair
from workbench.data.video.read import Video
from workbench.devices import device_of
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory, save_memory
from workbench.errors import FolderError, WeightsError
from workbench.evaluation.rendering import ColorLimits, Rendering, SceneScorer, add_rendering, render
from workbench.models.video_sr import VideoSR
from workbench.models.weights import read_tensors, save, save_tensors
from workbench.models.zoo import build
from workbench.runs import FORMAT, Run, RunWriter
from workbench.scenes import Method, SceneWriter, read_scene, write_scene
from workbench.training.loop import Step

KEPT_CHECKPOINTS = 2

PRIVILEGED_NOTE = "its input is the high resolution, so its output is no restoration of the low one"


def log_row(step: Step) -> dict[str, Any]:
    """Return one line of ``metrics.jsonl``."""
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


# Snapshots of the validation clip


Renderer = Callable[..., Rendering]
"""Function of a network and its input that renders it with the run's ConvLSTM and layer, on the run's device."""


class PlainTwin(Protocol):
    """Plain student at some steps; see :mod:`workbench.training.plain_twin`."""

    def add(self, scene: SceneWriter, step: int, renderer: Renderer, limits: ColorLimits) -> None:
        """Add the plain student at a step to a snapshot, where there is one at this step."""
        ...


def write_validation_clip(
    writer: RunWriter,
    pair: Pair,
    video: Video,
    *,
    teacher: VideoSR | None,
    student: VideoSR,
    memory: TemporalMemory | None,
    feature_layer: FeatureLayer,
    provenance: dict[str, Any],
) -> None:
    """Write the scene that no step changes: low, high and bicubic frames and, where there is one, the teacher.

    Without a teacher the color limits are those of the untrained student. A privileged teacher, whose input is the
    ground truth, is shown for its maps and cells and has no score.
    """
    folder = writer.run.validation_folder
    if (folder / "scene.json").exists():
        return
    renderer = partial(render, memory=memory, feature_layer=feature_layer, device=device_of(student))
    scores = SceneScorer(pair.high)
    with write_scene(folder) as scene:
        scene.add_method(Method(key="low", label="Low resolution", note="input of the networks"), pair.low)
        scene.add_method(Method(key="high", label="Ground truth"), pair.high)
        floor = render(build("bicubic", scale=student.scale), pair.low)
        scene.add_method(Method(key="bicubic", label="Bicubic"), floor.frames)
        scores.add(scene, "bicubic", floor.frames)
        if teacher is None:
            limits = ColorLimits.of(renderer(student, student.select_input(pair.low, pair.high)))
        else:
            reference = renderer(teacher, teacher.select_input(pair.low, pair.high), use_adapter=False)
            limits = ColorLimits.of(reference)
            label, note = f"Teacher ({teacher.recipe['name']})", ""
            if teacher.privileged:
                label, note = f"{label}: privileged", f"{PRIVILEGED_NOTE}; it has no score"
            add_rendering(scene, Method(key="teacher", label=label, note=note), reference, limits)
            if not teacher.privileged:
                scores.add(scene, "teacher", reference.frames)
        scene.add_array("scale.memory", np.array(limits.cells))
        for mapping, top in limits.maps.items():
            scene.add_array(f"scale.{mapping}", np.array(top))
        protocol = {
            "degradation": writer.config.data.degradation,
            "scale": student.scale,
            "channel": "Y",
            "crop_border": 0,
        }
        scene.finish(
            name=f"{writer.folder.name}-validation",
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
    feature_layer: FeatureLayer,
    plain: PlainTwin | None = None,
) -> None:
    """Write the student's output for the validation clip at a step, and the plain student at the same step."""
    folder = writer.run.snapshot_folder(step)
    with np.load(writer.run.validation_folder / "arrays.npz", allow_pickle=False) as arrays:
        tops = {name.removeprefix("scale."): float(arrays[name]) for name in arrays.files if name.startswith("scale.")}
    limits = ColorLimits(maps={name: top for name, top in tops.items() if name != "memory"}, cells=tops["memory"])
    renderer = partial(render, memory=memory, feature_layer=feature_layer, device=device_of(student))
    rendering = renderer(student, student.select_input(pair.low, pair.high))
    label, note = "Distilled student" if writer.config.distills else "Student", f"step {step}"
    if student.privileged:
        label, note = "Privileged teacher", f"{note}; {PRIVILEGED_NOTE}"
    with write_scene(folder, replace=True) as scene:
        if plain is not None:
            plain.add(scene, step, renderer, limits)
        add_rendering(scene, Method(key="student", label=label, note=note), rendering, limits)
        SceneScorer(pair.high).add(scene, "student", rendering.frames)
        unchanging = read_scene(writer.run.validation_folder)
        scene.finish(
            name=f"{writer.folder.name}-{step}",
            title=f"Step {step}",
            fps=unchanging.fps,
            times_seconds=unchanging.times_seconds,
            pixel_aspect=unchanging.pixel_aspect,
            protocol=unchanging.protocol,
            provenance={"step": step},
        )


# Weights and checkpoints


def save_weights(
    writer: RunWriter, student: VideoSR, objective: Objective, step: int, average: AveragedModel | None = None
) -> None:
    """Write the current weights of the student, their running average, and the memory."""
    folder = writer.folder / "weights"
    folder.mkdir(exist_ok=True)
    save(student, folder / "student.safetensors", run=writer.folder.name, step=step)
    if average is not None:
        save(averaged_network(average), folder / "average.safetensors", run=writer.folder.name, step=step)
    if objective.memory is not None:
        save_memory(objective.memory, folder / "memory.safetensors")


def averaged_network(average: AveragedModel) -> VideoSR:
    """Return the network of a running average."""
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
    """Write a checkpoint for an exact resume, atomically, and keep the one before.

    Batches and the random draws of networks are functions of the seed and the step, so the checkpoint does not contain
    them. ``resume_info`` is stored with it, see :func:`read_resume_info`.
    """
    checkpoints = writer.run.checkpoints_folder
    checkpoints.mkdir(exist_ok=True)
    hidden, final = checkpoints / f".{step:07d}.partial", writer.run.checkpoint_folder(step)
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
    for old in writer.run.checkpoints()[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(writer.run.checkpoint_folder(old))


def _stateful(student: VideoSR, objective: Objective, average: AveragedModel | None) -> dict[str, torch.nn.Module]:
    modules: dict[str, torch.nn.Module | None] = {"student": student, "objective": objective, "average": average}
    return {name: module for name, module in modules.items() if module is not None and module.state_dict()}


def read_resume_info(folder: Path, step: int) -> dict[str, Any]:
    """Return the settings that a checkpoint depends on, and its numbers of processes and workers."""
    record = json.loads((Run(folder).checkpoint_folder(step) / "state.json").read_text())
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
    """Load the newest readable checkpoint; returns its step, or 0 where there is none.

    Raises:
        FolderError: there are checkpoints, but none can be read.
    """
    run, faults = Run(folder), list[str]()
    for step in reversed(run.checkpoints()):
        checkpoint = run.checkpoint_folder(step)
        try:
            record = json.loads((checkpoint / "state.json").read_text())
            format_1 = checkpoint / CHECKPOINT_OPTIMIZER  # of a run of format 1
            moments, _ = read_tensors(format_1 if format_1.is_file() else checkpoint / "optimizer.safetensors")
            modules = _stateful(student, objective, average)
            tensors = {name: read_tensors(checkpoint / f"{name}.safetensors")[0] for name in modules}
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
            mine | {k: tuple(v) if isinstance(v, list) else v for k, v in renamed(theirs, PARAM_GROUP).items()}
            for mine, theirs in zip(own["param_groups"], record["groups"], strict=True)
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return step
    if faults:
        raise FolderError(f"{folder.name}: no checkpoint can be read: {'; '.join(faults)}")
    return 0
