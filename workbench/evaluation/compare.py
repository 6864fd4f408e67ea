"""One clip as several methods render it: a scene, ready to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.samples import samples
from workbench.data.sampling.crops import make_pair
from workbench.data.video.read import Video
from workbench.distill.temporal import TemporalMemory, load_memory
from workbench.errors import ConfigError, WeightsError, unknown_name
from workbench.evaluation.rendering import Rendering, Scales, Scores, add_rendering, render
from workbench.models.conversion import convert_checkpoint
from workbench.models.video_sr import VideoSR
from workbench.models.weights import PICKLES, checksum, load, load_into, locate, pretrained_names, read_tensors
from workbench.models.zoo import NETWORKS, PRIVILEGED, build, takes_skip
from workbench.onnx.run import open_exported
from workbench.runs import Run, list_runs
from workbench.scenes import Method, Scene, read_scene, write_scene

ALIASES: dict[str, tuple[str, str]] = {
    "teacher": ("pretrained:edvr_s", "Teacher"),
    "plain": ("pretrained:vespcn_plain", "Plain student"),
    "distilled": ("pretrained:vespcn_distilled", "Distilled student"),
}
"""The set that ships with the package: what `plain`, `distilled` and `teacher` stand for."""

SHIPPED_MEMORY = "pretrained:memory"


@dataclass(frozen=True)
class LoadedMethod:
    """A method that can be run: its network, and how it is called."""

    method: Method
    network: VideoSR
    is_student: bool

    def __post_init__(self) -> None:
        """Refuse what upscales nothing."""
        self.network.check_upscales()


def load_method(name: str, *, scale: int = 4, runs: Sequence[Path] = ()) -> LoadedMethod:
    """The network that a method's name stands for.

    Args:
        name: an alias (teacher, plain, distilled), ``bicubic``, ``pretrained:NAME``, a weights file, of ours or of
            another code base (see ``models.foreign``), an ``.onnx`` file that ``workbench export`` wrote, or ``RUN`` or
            ``RUN@STEP``.
        scale: of ``bicubic``; other networks know their own.
        runs: folders in which runs are looked for.

    Raises:
        UnknownNameError, ConfigError, WeightsError: what it is not, and what there is.
    """
    if name in ALIASES:
        where, label = ALIASES[name]
        network = load(where)
        note = f"{where} (sha256 {checksum(locate(where))[:12]})"
        label = f"{label} ({network.recipe['name']})"
        return LoadedMethod(Method(key=name, label=label, note=note), network, is_student=name != "teacher")
    if name in NETWORKS or name.startswith(PRIVILEGED):
        network = build(name, scale=scale)
        network.check_upscales()
        if list(network.parameters()):
            raise ConfigError(
                f"{name} without weights would be random; name a weights file, a run, or one of: {', '.join(ALIASES)}"
            )
        return LoadedMethod(Method(key=name, label=name.capitalize()), network, is_student=True)
    if name.startswith("pretrained:") or Path(name).suffix in (".safetensors", *PICKLES):
        return _from_file(locate(name))
    if Path(name).suffix == ".onnx":
        exported = open_exported(name)
        method = Method(key=_key(Path(name).stem), label=Path(name).stem, note=exported.info.deviations)
        return LoadedMethod(method, exported, is_student=True)
    run_name, _, step = name.partition("@")
    for root in runs:
        if run_name in list_runs(root):
            return _from_run(Run(root / run_name), step)
    known = [*ALIASES, "bicubic", *(run for root in runs for run in list_runs(root))]
    raise unknown_name("method", name, known)


def _from_file(path: Path) -> LoadedMethod:
    """Weights of ours have a recipe inside; others are recognised by the names of their tensors."""
    note = f"{path.name} (sha256 {checksum(path)[:12]})"
    if path.suffix in PICKLES or "recipe" not in read_tensors(path)[1]:
        foreign = convert_checkpoint(path)
        network, note = foreign.network, f"{note}, {foreign.source}"
    else:
        network = load(path)
    return LoadedMethod(Method(key=_key(path.stem), label=path.stem, note=note), network, is_student=True)


def _from_run(run: Run, step: str) -> LoadedMethod:
    config = run.config()
    if not step:
        path = run.weights()
        if not path.is_file():
            raise WeightsError(f"{run.name}: no weights yet; wait for its first save, or resume it")
        return LoadedMethod(
            Method(key=_key(run.name), label=run.name, note="newest weights"), load(path), is_student=True
        )
    path = run.checkpoints_folder / f"{int(step):07d}" / "student.safetensors" if step.isdigit() else None
    if path is None or not path.is_file():
        home = run.checkpoints_folder
        there = sorted(int(p.name) for p in home.iterdir() if p.name.isdigit()) if home.is_dir() else []
        raise WeightsError(f"{run.name}@{step}: no weights of that step are kept; there are: {there or 'none'}")
    settings: dict[str, Any] = {"scale": config.data.scale}
    if takes_skip(config.student.name):
        settings["skip"] = config.student.skip
    network = build(config.student.name, **settings)
    load_into(network, path)
    method = Method(key=_key(f"{run.name}-{step}"), label=f"{run.name}, step {step}", note=f"state of step {step}")
    return LoadedMethod(method, network.eval(), is_student=True)


def _key(name: str) -> str:
    """A method key made of a file or run name."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-")
    return kept[:64] or "method"


def compare(
    clip: str | Video,
    methods: Sequence[str],
    folder: Path,
    *,
    scale: int = 4,
    degradation: str = "bi",
    truth: bool = True,
    title: str = "",
    runs: Sequence[Path] = (),
    device: str | torch.device = "cpu",
    replace: bool = False,
    effort: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Scene:
    """Shrink a clip, let each method enlarge it again, and write what came out, with scores, as a scene.

    Args:
        clip: a sample's name or a path, with an optional crop ``[frames, rows, columns]``, or frames: the ground truth.
        methods: names, see :func:`load_method`.
        folder: where the scene shall be; its name is the scene's.
        scale: how much the clip is shrunk.
        degradation: by which family.
        truth: the clip is the ground truth; else it is itself the low resolution, and nothing is scored.
        title: what a person reads; the clip's name where it is empty.
        runs: folders in which runs are looked for.
        device: where to compute.
        replace: overwrite a scene that is there.
        effort: of the compression, 0 to 6.
        progress: told what is being done.

    Raises:
        ConfigError: no method, one named twice, or of another scale.
    """
    if not methods:
        raise ConfigError("methods: name at least one, for example bicubic,plain,distilled,teacher")
    contenders = [load_method(name, scale=scale, runs=runs) for name in methods]
    keys = [contender.method.key for contender in contenders]
    if doubled := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError(f"methods: named twice: {', '.join(sorted(doubled))}")
    for contender in contenders:
        if contender.network.scale != scale:
            raise ConfigError(f"{contender.method.label} enlarges {contender.network.scale}x, not {scale}x")
    memory = _find_memory(methods, runs)
    video, clip = (clip, title) if isinstance(clip, Video) else (load_clip(clip), clip)
    pair = make_pair(video.frames, scale=scale, degradation=degradation) if truth else None
    low = video.frames if pair is None else pair.low
    seen: list[Rendering] = []
    for contender in contenders:
        progress(contender.method.label)
        fits = memory if memory is not None and _fits(memory, contender) else None
        seen.append(render(contender.network, low, memory=fits, is_student=contender.is_student, device=device))
    progress("scores and pictures" if pair else "pictures")
    protocol = {"degradation": degradation, "scale": scale, "channel": "Y", "crop": 0, "quantised": "8 bit"}
    if pair is None:
        protocol = {"scale": scale, "scores": "none: there is no ground truth"}
    high = None if pair is None else pair.high
    return _write(
        folder, clip, title, low, high, video, contenders, seen, protocol, replace, effort, memory is not None
    )


def _write(
    folder: Path,
    clip: str,
    title: str,
    low: np.ndarray,
    high: np.ndarray | None,
    video: Video,
    contenders: Sequence[LoadedMethod],
    seen: Sequence[Rendering],
    protocol: dict[str, Any],
    replace: bool,
    effort: int,
    has_memory: bool,
) -> Scene:
    with_maps = [(c, s) for c, s in zip(contenders, seen, strict=True) if s.maps]
    reference = next((s for c, s in with_maps if not c.is_student), with_maps[0][1] if with_maps else None)
    scales = Scales.of(reference) if reference is not None else Scales(maps={}, cells=1.0)
    scores = None if high is None else Scores(high)
    with write_scene(folder, replace=replace) as scene:
        scene.add_method(Method(key="low", label="Low resolution", note="what the networks see"), low, effort=effort)
        if high is not None:
            scene.add_method(Method(key="high", label="Ground truth"), high, effort=effort)
        for contender, one in zip(contenders, seen, strict=True):
            add_rendering(scene, contender.method, one, scales, effort=effort)
            if scores is not None:
                scores.add(scene, contender.method.key, one.frames)
        scene.finish(
            name=folder.name,
            title=title or clip,
            fps=video.fps,
            times_seconds=video.boundaries_seconds,
            pixel_aspect=video.pixel_aspect,
            protocol=protocol,
            provenance={
                "clip": clip,
                **_credit(clip),
                "memory": "all methods are read with the memory of the distilled run" if has_memory else "none",
                "versions": {name: version(name) for name in ("workbench", "torch", "opencv-python-headless")},
            },
        )
    return read_scene(folder)


def _find_memory(methods: Sequence[str], runs: Sequence[Path]) -> TemporalMemory | None:
    """The memory of the first run among the methods that has one; else the one that ships."""
    for name in methods:
        for root in runs:
            path = Run(root / name.partition("@")[0]).weights("memory")
            if path.is_file():
                return load_memory(path)
    if SHIPPED_MEMORY.partition(":")[2] in pretrained_names():
        return load_memory(locate(SHIPPED_MEMORY))
    return None


def _fits(memory: TemporalMemory, contender: LoadedMethod) -> bool:
    reads = memory.settings["student_channels" if contender.is_student else "teacher_channels"]
    return contender.network.feature_channels == reads


def _credit(clip: str) -> dict[str, str]:
    """Whose pictures these are, if the clip is one of the samples."""
    for sample in samples():
        if clip.partition("[")[0].strip() == sample.name:
            return {"credit": sample.credit, "licence": sample.licence}
    return {}
