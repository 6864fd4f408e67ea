"""Methods by name: networks with their weights, and the ConvLSTM for their features."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config import Network
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, WeightsError, unknown_name
from workbench.models.conversion import convert_checkpoint, load_flow_into
from workbench.models.hub import HUB
from workbench.models.video_sr import VideoSR
from workbench.models.weights import (
    PICKLES,
    PRETRAINED,
    checksum,
    load,
    load_into,
    locate,
    pretrained_names,
    read_tensors,
)
from workbench.models.zoo import NETWORKS, PRIVILEGED, build, takes_skip
from workbench.onnx.run import open_exported
from workbench.pretrained import RUN, SET
from workbench.runs import Run, list_runs
from workbench.scenes import Method, check_name

LABELS = {"teacher": "Teacher", "plain": "Plain student", "distilled": "Distilled student"}
ALIASES = {role: (f"{PRETRAINED}{name}", f"{LABELS[role]} ({name})") for role, name in SET.items()}
"""Alias -> weights and label of a network that ships with the package."""

SHIPPED_MEMORY = "pretrained:memory"

METHODS = frozenset({*ALIASES, "bicubic"})
"""Methods that need no weights of the user."""

RESERVED = METHODS | {"low", "high"}
"""Names that no new run may have: those of methods, and of the input and the ground truth of a scene."""


@dataclass(frozen=True)
class LoadedMethod:
    """A network with its name and label."""

    method: Method
    network: VideoSR
    is_student: bool

    def __post_init__(self) -> None:
        """Check that the network upscales: a privileged teacher does not."""
        self.network.check_upscales()


def load_method(name: str, *, scale: int = 4, runs: Sequence[Path] = ()) -> LoadedMethod:
    """Load the network of a method by its name.

    Args:
        name: an alias (teacher, plain, distilled), ``bicubic``, ``pretrained:NAME``, ``hub:OWNER/NAME``, a
            weights file of this project or of another code base (see ``models.conversion``), an ``.onnx`` file written
            by ``workbench export``, ``RUN``, ``RUN@STEP``, or the path of a run folder in place of its name.
        scale: scale of ``bicubic``; other networks have their own.
        runs: folders that contain runs.

    Raises:
        UnknownNameError: no such method; the nearest name is suggested.
        ConfigError: a network without weights, a privileged teacher, or a reserved name that is also that of a run.
        WeightsError: the weights are missing, or the file cannot be read.
    """
    found = _find_run(name, runs)
    if found is not None and name in METHODS:
        raise ConfigError(_ambiguous(name, found[0].folder))
    if name in ALIASES:
        where, label = ALIASES[name]
        network = load(where)
        note = f"{where} (sha256 {checksum(locate(where))[:12]})"
        return LoadedMethod(Method(key=name, label=label, note=note), network, is_student=name != "teacher")
    if found is None and (name in NETWORKS or name.startswith(PRIVILEGED)):
        network = build(name, scale=scale)
        network.check_upscales()
        if list(network.parameters()):
            raise ConfigError(
                f"{name} without weights would be random; name a weights file, a run, or one of: {', '.join(ALIASES)}"
            )
        return LoadedMethod(Method(key=name, label=name.capitalize()), network, is_student=True)
    if name.startswith((PRETRAINED, HUB)) or Path(name).suffix in (".safetensors", *PICKLES):
        loaded = _from_file(locate(name), label=name if name.startswith(HUB) else "")
        own = {f"{PRETRAINED}{RUN}": f"STD student ({RUN})"}.get(name, loaded.method.label)
        return replace(loaded, method=replace(loaded.method, label=own))
    if Path(name).suffix == ".onnx":
        exported = open_exported(name)
        method = Method(
            key=_key(Path(name).stem), label=Path(name).stem, note=f"ONNX Runtime, {exported.metadata.precision}"
        )
        return LoadedMethod(method, exported, is_student=True)
    if found is not None:
        return _from_run(*found)
    known = [*ALIASES, "bicubic", *(run for root in runs for run in list_runs(root))]
    if _is_path(name):
        parent = Path(name).parent
        known += [str(parent / run) for run in list_runs(parent)]
    raise unknown_name("method", name, set(known))


def load_methods(names: Sequence[str], *, scale: int = 4, runs: Sequence[Path] = ()) -> list[LoadedMethod]:
    """Load the networks of several methods; see :func:`load_method`.

    Raises:
        ConfigError: two names of the same method, or of two methods with the same key, as two runs of one name.
    """
    named: dict[str, str] = {}
    methods = [load_method(name, scale=scale, runs=runs) for name in names]
    for name, loaded in zip(names, methods, strict=True):
        if (key := loaded.method.key) in named:
            raise ConfigError(
                f"methods: {named[key]} and {name} are both called {key!r}; leave one out, or rename its file or folder"
            )
        named[key] = name
    return methods


def check_run_name(name: str) -> str:
    """Return the name of a new run.

    Raises:
        ConfigError: the name is reserved.
        FolderError: the name is not valid on every system.
    """
    if name in RESERVED:
        raise ConfigError(f"name: {name!r} is the name of a method; choose another, for example 'my_{name}'")
    return check_name(name, "run")


def _ambiguous(name: str, folder: Path) -> str:
    """Return the error for a reserved name that is also that of a run."""
    shipped = ALIASES[name][0] if name in ALIASES else ""
    return f"method {name!r} is ambiguous: want {folder} for the run of this name, or " + (
        f"{shipped} for the network that ships" if shipped else "another name of the run's folder for the network"
    )


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name


def _find_run(name: str, runs: Sequence[Path]) -> tuple[Run, str] | None:
    """Return the run and the step of ``RUN``, ``RUN@STEP``, or a path in place of the run's name; None: no such run."""
    if _is_path(name):
        whole, (folder, _, step) = Path(name), name.rpartition("@")
        candidates = [(whole, ""), *([(Path(folder), step)] if folder else [])]
        return next(((Run(path), step) for path, step in candidates if (path / "run.json").is_file()), None)
    run_name, _, step = name.partition("@")
    return next(((Run(root / run_name), step) for root in runs if run_name in list_runs(root)), None)


def with_skip_of_weights(choice: Network) -> Network:
    """Return the choice of a network with the skip that its weights were trained with, where the file names one.

    The choice is returned as it is for a file that is missing: the check of the settings reports it.

    Raises:
        WeightsError: a file that cannot be read.
    """
    if not (choice.name and choice.weights and takes_skip(choice.name)):
        return choice
    try:
        path = locate(choice.weights)
    except WeightsError:
        return choice
    return replace(choice, skip=json.loads(read_tensors(path)[1].get("recipe", "{}")).get("skip", choice.skip))


def make_network(choice: Network, scale: int) -> VideoSR:
    """Build the network that the config names, and load its weights if it names any."""
    settings: dict[str, Any] = {"scale": scale}
    if takes_skip(choice.name):
        settings["skip"] = choice.skip
    if choice.hr_channels:
        settings["hr_channels"] = choice.hr_channels
    if choice.flow_guided:
        settings["flow_guided"] = True
    network = build(choice.name, **settings)
    if choice.weights:
        load_into(network, choice.weights)
    if choice.flow_weights:
        load_flow_into(network, choice.flow_weights)
    return network


def _from_file(path: Path, label: str = "") -> LoadedMethod:
    """Load a weights file: with the recipe inside it, or by the names of its tensors if it is of another code base."""
    note = f"{label or path.name} (sha256 {checksum(path)[:12]})"
    if path.suffix in PICKLES or "recipe" not in read_tensors(path)[1]:
        converted = convert_checkpoint(path)
        network, note = converted.network, f"{note}, {converted.source}"
    else:
        network = load(path)
    return LoadedMethod(
        Method(key=_key(label or path.stem), label=label or path.stem, note=note), network, is_student=True
    )


def _from_run(run: Run, step: str) -> LoadedMethod:
    config, folder = run.config(), run.folder.resolve()
    name = f"{folder.parent.name}/{folder.name}" if folder.name in RESERVED else folder.name
    if not step:
        path = run.weights()
        if not path.is_file():
            raise WeightsError(f"{run.name}: no weights yet; wait for its first save, or resume it")
        return LoadedMethod(Method(key=_key(name), label=name, note="newest weights"), load(path), is_student=True)
    path = run.checkpoint_folder(int(step)) / "student.safetensors" if step.isdigit() else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"{run.name}@{step}: no weights of that step are kept; there are: {run.checkpoints() or 'none'}"
        )
    network = make_network(replace(config.student, weights="", flow_weights=""), config.data.scale)
    load_into(network, path)
    method = Method(key=_key(f"{name}-{step}"), label=f"{name}, step {step}", note=f"state of step {step}")
    return LoadedMethod(method, network.eval(), is_student=True)


def _key(name: str) -> str:
    """Return a valid method key for the name of a file or run."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-")
    return kept[:64] or "method"


def find_memory(methods: Sequence[str], runs: Sequence[Path]) -> Path | None:
    """Return the ConvLSTM file of the first run among the methods that has one; else the shipped one, or None."""
    for name in methods:
        if (found := _find_run(name, runs)) is not None and (path := found[0].weights("memory")).is_file():
            return path
    return locate(SHIPPED_MEMORY) if SHIPPED_MEMORY.partition(":")[2] in pretrained_names() else None


def matches_memory(memory: TemporalMemory, method: LoadedMethod) -> bool:
    """Return whether the ConvLSTM takes the channels of this network's features."""
    channels = memory.settings["student_channels" if method.is_student else "teacher_channels"]
    return method.network.feature_channels == channels
