"""Write the shipped weights with cards, the shipped run and the shipped scenes from finished runs.

    python tools/ship.py --teacher runs/edvr_s     # first: the cards of the students name it
    python tools/ship.py --plain experiment/runs/plain-0 --distilled runs/vespcn_distilled
    python tools/ship.py --demo --teacher runs/my_teacher --plain runs/my_plain --distilled runs/demo
    python tools/ship.py --live-plain     # trains and ships the plain run of the live demo

The commands that made the runs are in ``docs/experiment.md``; those of the demo set are in
``workbench/pretrained/README.md``. ``python tools/figures.py`` writes the scores into the cards.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

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
from workbench.runs import Run
from workbench.training.worker import prepare_run, work

HOME = Path(__file__).resolve().parents[1] / "workbench" / "pretrained"
SET = {"teacher": "edvr_s", "plain": "vespcn_plain", "distilled": "vespcn_distilled"}
ROLES = (
    ("The teacher: a small EDVR without TSA.", "an hour and a half"),
    ("The student, trained on the ground truth alone.", "ten minutes"),
    ("The same student, taught by `{teacher}`.", "ten minutes"),
)
LIVE_PLAIN = "live_demo_plain"
KEPT_MAP = "attention_sum_squares"
RECURRENT = (
    "basicvsr_s",
    "A narrow bidirectional recurrent network with supervised flow: a teacher that uses its neighbor frames.",
    "five hours",
)
"""Name, description and training time of the recurrent teacher."""
SCENES = {
    "bunny": ("bigbuckbunny[98:110, 0:288, 32:352]", "Big Buck Bunny, unseen by all networks"),
    "stretch": ("bigbuckbunny[40:52, 0:144, 96:352]", "Big Buck Bunny stretches, unseen by all networks"),
}

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

Scores, by the commands in `docs/experiment.md`:

<!-- figures: card of {name} -->
<!-- end of figures -->

A small network, trained for {hours} on one CPU core. It shows how distillation works. It is no
evidence of what published networks reach with their own training, or of the paper's results.
"""


def main(
    teacher: Path | None = None,
    plain: Path | None = None,
    distilled: Path | None = None,
    demo: bool = False,
    live_plain: bool = False,
    recurrent: Path | None = None,
) -> None:
    """Write weights, cards, the run and the scenes into the package.

    Args:
        teacher: run folder of the teacher.
        plain: run folder of the student trained alone.
        distilled: run folder of the student trained by the teacher.
        demo: it is the demo set, of the preset `cpu`; it has no scenes.
        recurrent: run folder of the recurrent teacher.
        live_plain: train the plain student of the preset `demo`, and ship its run for the snapshots of the live demo.
    """
    torch.set_num_threads(1)
    if live_plain:
        with tempfile.TemporaryDirectory() as home:
            run = prepare_run(Path(home) / LIVE_PLAIN, plain_twin(PRESETS["demo"]()))
            work(run, lambda step, steps: None if step.number % 100 else print(f"step {step.number} of {steps}"))
            ship_live_plain(run.folder)
    if recurrent is not None:
        _ship_network(recurrent, *RECURRENT)
    names = [f"demo_{role}" if demo else name for role, name in SET.items()]
    for folder, name, (what, hours) in zip((teacher, plain, distilled), names, ROLES, strict=True):
        if folder is not None:
            _ship_network(folder, name, what.format(teacher=names[0]), hours)
    if distilled is None:
        return
    run = Run(distilled)
    save_memory(_memory_of(run), HOME / ("demo_memory.safetensors" if demo else "memory.safetensors"))
    _ship_run(distilled, HOME / "runs" / ("demo" if demo else names[2]))
    if demo:
        return
    shutil.rmtree(HOME / "scenes", ignore_errors=True)
    methods = ("bicubic", "plain", "distilled", "teacher")
    for name, (clip, title) in SCENES.items():
        render_scene(clip, methods, HOME / "scenes" / name, title=title, compression=6)


def _ship_network(folder: Path, name: str, what: str, hours: str) -> None:
    """Write the weights of a run, the average where there is one, and their card."""
    run = Run(folder)
    average = run.weights("average")
    network = load(average if average.is_file() else run.weights())
    save(network, HOME / f"{name}.safetensors", half=True, run=folder.name, steps=run.status().step)
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
            sources.append(f"{', '.join(names)} (sources, licenses and checksums: `docs/data.md`)")
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


def ship_live_plain(source: Path) -> None:
    """Copy the run of the plain student of the live demo, without the parts of its snapshots that are not read."""
    with tempfile.TemporaryDirectory() as home:
        slim = Path(home) / LIVE_PLAIN
        shutil.copytree(source, slim)
        _slim(slim)  # before the frames are compressed, which takes minutes: what is in the package is never the whole
        _ship_run(slim, HOME / "runs" / LIVE_PLAIN)


def _slim(folder: Path) -> None:
    """Keep the frames, the scores and the maps of equation 2 of each snapshot, and every tenth line of the log."""
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[9::10]), encoding="utf-8")
    for home in [Run(folder).validation_folder, *(folder / "snapshots").iterdir()]:
        record = json.loads((home / "scene.json").read_text(encoding="utf-8"))
        record["overlays"] = [one for one in record["overlays"] if one["kind"] == KEPT_MAP]
        write_atomic(home / "scene.json", json.dumps(record, indent=1))
        for path in (home / "overlays").glob("*"):
            if path.name != KEPT_MAP:
                shutil.rmtree(path)
        with np.load(home / "arrays.npz", allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files if not name.startswith("attention") or KEPT_MAP in name}
        np.savez_compressed(home / "arrays.npz", **kept)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    tyro.cli(main)
