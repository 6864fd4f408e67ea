r"""Write the shipped weights with cards, the shipped runs and the shipped scenes from finished runs.

    python tools/ship.py --teacher runs/annealed     # first: the cards of the students name it
    python tools/ship.py --plain runs/plain-0 --std runs/sd_r0.1-td_r0.1-cells-all-0 \
        --output runs/output_r3-frame_difference_r0.3-0
    python tools/ship.py --run runs/vespcn_std --twin runs/vespcn_plain     # a distillation, and its plain student
    python tools/ship.py --live-plain     # trains and ships the plain run of the live demo
    python tools/ship.py --scenes         # renders the scenes by the shipped networks

The commands that made the runs are in ``workbench/pretrained/README.md`` and ``docs/experiment_plan.md``.
``python tools/figures.py`` writes the scores into the cards.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from workbench.atomic_files import write_atomic
from workbench.config import Data, Network, RunConfig
from workbench.data.datasets.samples import find_sample
from workbench.data.preparation.manifest import MANIFEST
from workbench.data.sampling.stills import still_files
from workbench.distill.temporal import TemporalMemory, load_memory, save_memory
from workbench.evaluation.rendering import render_scene
from workbench.models.video_sr import VideoSR, count_parameters
from workbench.models.weights import load, save
from workbench.presets import PRESETS
from workbench.pretrained import HOME, SET
from workbench.runs import Run
from workbench.training.worker import prepare_run, work
from workbench.views.student_losses import loss_names

NETWORKS = {
    "teacher": (
        SET["teacher"],
        "A narrow bidirectional recurrent network with supervised flow: the teacher, which uses its neighbor frames.",
        "five hours",
    ),
    "plain": (SET["plain"], "The student, trained on the ground truth alone.", "ten minutes"),
    "std": (
        "vespcn_std",
        "The same student, taught by the attention maps and memory cells of `{teacher}`.",
        "half an hour",
    ),
    "output": (
        "vespcn_output",
        "The same student, taught by the frames of `{teacher}` and their differences from frame to frame.",
        "half an hour",
    ),
}
"""Option -> name, description and training time of a network."""
LIVE_PLAIN = "live_demo_plain"
KEPT_MAP = "attention_sum_squares"
SCENES = {
    "casa_mila": ("casa_mila", "Casa Milà under a moving camera, held out from training"),
    "bunny": ("bigbuckbunny[40:48, 50:242, 60:316]", "Big Buck Bunny, unseen by all networks"),
    "colosseum": ("colosseum", "Colosseum under a moving camera, held out from training"),
    "sign": ("sign", "Sign with text under a moving camera, unseen by all networks"),
}
"""Name of a scene -> its clip and title. ``tools/scene_clips.py`` draws the clips of a moving camera."""

SCENE_METHODS = ("bicubic", "plain", "pretrained:vespcn_std", "distilled", "teacher")
SCENE_SIDES = ("plain", "teacher")
"""Methods that the lens shows first, left and right."""

SCENE_WITH_MEMORY = "casa_mila"
"""Scene with memory cells, which take a megabyte: the one that the studio shows first."""

CARD = """# {name}

{what}

| | |
| --- | --- |
| network | `{network}`, {parameters:,} parameters, x{scale}, stored in half precision |
| trained on | {footage} |
| degradation | {degradation}: MATLAB bicubic, rounded to 8 bits |
| steps, batch, crop | {steps} steps of {batch} clips of {frames} frames of {crop}x{crop} low-resolution pixels{fixed} |
| optimizer | {optimizer} |
| distillation | {distillation} |
| seed | {seed} |
| made by commit | {commit} |
| license | Apache-2.0 (weights) |

Scores, by the commands in `workbench/pretrained/README.md`:

<!-- figures: card of {name} -->
<!-- end of figures -->

A small network, trained for {hours} on one CPU core. It shows how distillation works. It is no
evidence of what published networks reach with their own training, or of the paper's results.
"""


def main(
    teacher: Path | None = None,
    plain: Path | None = None,
    std: Path | None = None,
    output: Path | None = None,
    run: Path | None = None,
    twin: Path | None = None,
    live_plain: bool = False,
    scenes: bool = False,
) -> None:
    """Write weights, cards, runs and scenes into the package.

    Args:
        teacher: run folder of the teacher.
        plain: run folder of the student trained alone.
        std: run folder of the student trained by attention maps and memory cells; its ConvLSTM ships, too.
        output: run folder of the student trained by frames.
        run: run folder of a distillation with snapshots, which ships under its name.
        twin: run folder of the plain student with the same snapshots, which ships under its name.
        live_plain: train the plain student of the preset `demo`, and ship its run for the snapshots of the live demo.
        scenes: render the scenes by the shipped networks.
    """
    torch.set_num_threads(1)
    if live_plain:
        with tempfile.TemporaryDirectory() as home:
            plain_run = prepare_run(Path(home) / LIVE_PLAIN, plain_twin(PRESETS["demo"]()))
            work(plain_run, lambda step, steps: None if step.number % 100 else print(f"step {step.number} of {steps}"))
            ship_slim(plain_run.folder)
    for folder, (name, what, hours) in zip((teacher, plain, std, output), NETWORKS.values(), strict=True):
        if folder is not None:
            _ship_network(folder, name, what.format(teacher=SET["teacher"]), hours)
    if std is not None:
        save_memory(_memory_of(Run(std)), HOME / "memory.safetensors")
    if run is not None:
        _ship_run(run, HOME / "runs" / run.name)
    if twin is not None:
        ship_slim(twin)
    if scenes:
        ship_scenes(HOME / "scenes")


def _ship_network(folder: Path, name: str, what: str, hours: str) -> None:
    """Write the weights of a run, the average where there is one, and their card."""
    run = Run(folder)
    average = run.weights("average")
    network = load(average if average.is_file() else run.weights())
    losses = loss_names(run.config())
    save(network, HOME / f"{name}.safetensors", half=True, run=folder.name, steps=run.status().step, losses=losses)
    (HOME / f"{name}.md").write_text(_card(name, what, hours, run, network), encoding="utf-8")


def _memory_of(run: Run) -> TemporalMemory:
    """Return the ConvLSTM of a run; for a run without one, the frozen ConvLSTM of its settings."""
    path = run.weights("memory")
    if path.is_file():
        return load_memory(path)
    config = run.config()
    settings, teacher = config.distillation, load(config.teacher.weights)
    return TemporalMemory(
        load(run.weights()).feature_channels, teacher.feature_channels, hidden_channels=settings.memory_channels,
        stride=settings.memory_stride, standardize=settings.standardize, cells=settings.cells,
        border_frames=settings.border_frames, seed=settings.memory_seed,
    )  # fmt: skip


def _card(name: str, what: str, hours: str, run: Run, network: VideoSR) -> str:
    config = run.config()
    data, opt = config.data, config.optimizer
    ema = f"; running average {opt.ema_decay:g}, which is what ships" if opt.ema_decay else ""
    return CARD.format(
        name=name,
        what=what,
        hours=hours,
        network=network.recipe["name"],
        parameters=count_parameters(network),
        scale=network.scale,
        footage=_footage(data),
        degradation=data.degradation,
        steps=run.status().step,
        batch=data.batch_size,
        frames=data.num_frames,
        crop=data.crop_size,
        fixed=f", drawn from {data.num_fixed_crops} fixed crops in {data.augmentations_per_crop} augmentations"
        if data.num_fixed_crops
        else "",
        optimizer=f"{opt.name}, {opt.learning_rate:g} to {opt.final_learning_rate:g} (cosine), betas {opt.betas}{ema}",
        distillation=_losses(config),
        seed=config.seed,
        commit=str(run.record().get("commit", "not known"))[:12],
    )


def _footage(data: Data) -> str:
    """Describe the training data: sources of prepared footage, credits of samples, number of still images."""
    sources = []
    if data.uses_stills:
        count = len(still_files(data.stills))
        sources.append(
            f"{data.stills_share:.0%} of the clips: {count} still photographs in motion at "
            f"{data.stills_min_speed:g} to 3 low-resolution pixels a frame (names and licenses: `docs/data.md`)"
        )
    for clip in data.clips if data.uses_video else ():
        manifest = Path(clip) / MANIFEST
        if manifest.is_file():
            names = [
                s["name"] for s in json.loads(manifest.read_text(encoding="utf-8"))["sources"] if s["split"] == "train"
            ]
            photographs = {re.sub(r"-\d+$", "", name) for name in names}
            rendered = len(photographs) < len(names)  # by tools/validation_clips.py, several clips from each photograph
            shown = (
                f"{len(names)} clips of {len(photographs)} still photographs in motion"
                if rendered
                else ", ".join(names)
            )
            sources.append(f"{shown} (sources, licenses and checksums: `docs/data.md`)")
        else:
            known = find_sample(clip.partition("[")[0])
            sources.append(f"`{clip}` ({known.credit}, license: {known.license})")
    return "; ".join(sources)


def _losses(config: RunConfig) -> str:
    """Describe the losses with a weight."""
    if not config.distills:
        return "none"
    settings = config.distillation
    losses = [f"teacher {config.teacher.name}"]
    ratios = {name: f"gradient-norm ratio {ratio:g}" for name, ratio in settings.ratios.chosen.items()}
    if settings.uses_spatial:
        weight = ratios.get("spatial", f"{settings.spatial_weight:g}")
        losses.append(f"spatial {weight} ({settings.attention_kind}, {settings.normalization} maps)")
    if settings.uses_temporal:
        weight = ratios.get("temporal", f"{settings.temporal_weight:g}")
        losses.append(
            f"temporal {weight} ({settings.memory_mode} ConvLSTM, {settings.memory_channels} channels, "
            f"stride {settings.memory_stride}"
            + (", standardized features" if settings.standardize else "")
            + (", all cells" if settings.cells == "all" else "")
            + (f", {settings.border_frames} border frames left out" if settings.border_frames else "")
            + ")"
        )
    losses += [f"{name} {ratios.get(name, f'{weight:g}')}" for name, weight in settings.chosen_losses.items()]
    losses.append(f"features {settings.feature_layer}, {settings.schedule} over {settings.schedule_steps} steps")
    return "; ".join(losses)


def _ship_run(source: Path, target: Path) -> None:
    """Copy the files of a run that viewers read, without those for resuming, with more compression."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("run.json", "metrics.jsonl", "status.json"):
        shutil.copy(source / name, target / name)
    for folder in [Run(source).validation_folder, *sorted((source / "snapshots").iterdir())]:
        if (folder / "scene.json").exists():
            shutil.copytree(folder, target / folder.relative_to(source))
    for path in sorted(target.rglob("frames/*/*.webp")):
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        pixels.save(path, "WEBP", lossless=True, method=6, quality=100)


def plain_twin(config: RunConfig) -> RunConfig:
    """Return the same training without a teacher, on one thread and up to its last step."""
    return replace(config, teacher=Network(), plain=Network(), plain_run="", stop_after_seconds=0.0, threads=1)


def ship_slim(source: Path) -> None:
    """Copy the run of a plain student, without the parts of its snapshots that are not read."""
    with tempfile.TemporaryDirectory() as home:
        slim = Path(home) / source.name
        shutil.copytree(source, slim)
        _slim(slim)  # before the frames are compressed, which takes minutes: what is in the package is never the whole
        _ship_run(slim, HOME / "runs" / source.name)


def _slim(folder: Path) -> None:
    """Keep the frames, the scores and the maps of equation 2 of each snapshot, and every tenth line of the log."""
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[9::10]), encoding="utf-8")
    for home in [Run(folder).validation_folder, *(folder / "snapshots").iterdir()]:
        with np.load(home / "arrays.npz", allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files if not name.startswith("attention") or KEPT_MAP in name}
        _keep_overlays(home, (KEPT_MAP,), kept)


def _keep_overlays(home: Path, kinds: Sequence[str], arrays: Mapping[str, np.ndarray], **entries: Any) -> None:
    """Keep overlays of some kinds, and these arrays, of a scene, and add entries to ``scene.json``."""
    record = json.loads((home / "scene.json").read_text(encoding="utf-8"))
    record["overlays"] = [one for one in record["overlays"] if one["kind"] in kinds]
    write_atomic(home / "scene.json", json.dumps(record | entries, indent=1))
    for path in (home / "overlays").glob("*"):
        if path.name not in kinds:
            shutil.rmtree(path)
    np.savez_compressed(home / "arrays.npz", **arrays)  # pyright: ignore[reportArgumentType]


def ship_scenes(home: Path, *, compression: int = 6) -> None:
    """Render :data:`SCENES` by :data:`SCENE_METHODS`, in place of the scenes of a folder.

    Args:
        home: folder of the scenes.
        compression: effort of the lossless compression, 0 to 6.
    """
    for name, (clip, title) in SCENES.items():
        scene = render_scene(clip, SCENE_METHODS, home / name, title=title, replace=True, compression=compression)
        kinds = (KEPT_MAP, "memory") if name == SCENE_WITH_MEMORY else (KEPT_MAP,)
        kept = {one.array: round_digits(scene.array(one)) for one in scene.overlays if one.kind in kinds}
        provenance = dict(scene.provenance) | ({} if "memory" in kinds else {"memory": "none"})
        _keep_overlays(scene.folder, kinds, kept, sides=SCENE_SIDES, provenance=provenance)
    for path in home.iterdir():
        if path.name not in SCENES:
            shutil.rmtree(path)


def round_digits(values: np.ndarray) -> np.ndarray:
    """Round to seven binary digits, an error of at most 1/128, so that the numbers take half of the space compressed.

    Example:
        >>> round_digits(np.array([0.0, 1.0, -3.3], np.float16)).tolist()
        [0.0, 1.0, -3.3125]
    """
    mantissa, exponent = np.frexp(values.astype(np.float32))
    return np.ldexp(np.round(mantissa * 128) / 128, exponent).astype(values.dtype)


if __name__ == "__main__":
    tyro.cli(main)
