"""Make what ships with the package out of finished runs: weights with cards, one run, one scene.

    python tools/ship.py --teacher runs/edvr_tiny --plain runs/vespcn_plain     # the distilled run needs these two
    python tools/ship.py --distilled runs/vespcn_distilled                      # and then the run and the scene

The commands that made the runs are in ``workbench/pretrained/README.md``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import tyro
from PIL import Image

from workbench.config import RunConfig
from workbench.data.samples import find_sample
from workbench.distill.temporal import load_memory, save_memory
from workbench.evaluation.compare import compare
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.protocols import HELD_OUT
from workbench.models.video_sr import VideoSR, count_parameters
from workbench.models.weights import load, save
from workbench.models.zoo import build
from workbench.runs import Run

HOME = Path(__file__).resolve().parents[1] / "workbench" / "pretrained"
SCENE_CLIP = "bigbuckbunny[98:114, 0:288, 32:352]"

CARD = """# {name}

{what}

| | |
| --- | --- |
| network | `{network}`, {parameters:,} parameters, x{scale}, stored in half precision |
| trained on | {clips} ({credits}) |
| degradation | {degradation}: MATLAB bicubic, rounded to 8 bits |
| steps, batch, crop | {steps} steps of {batch} clips of {frames} frames of {crop}x{crop} low-resolution pixels |
| optimiser | {optimiser} |
| distillation | {distillation} |
| seed | {seed} |
| held-out PSNR-Y / SSIM-Y | {psnr:.2f} dB / {ssim:.4f} (bicubic {floor_psnr:.2f} dB / {floor_ssim:.4f}) |
| protocol | `workbench evaluate --network {alias} --protocol held_out`: {held_out}, x4 BI, Y, all frames, no crop |
| licence | Apache-2.0 (weights) |

A small network, trained for less than half an hour on one CPU core, on 346 frames of footage. It shows how distillation
works; it says nothing about what EDVR or VESPCN reach with their own training, and nothing about the paper's results.
{note}"""


def main(teacher: Path | None = None, plain: Path | None = None, distilled: Path | None = None, note: str = "") -> None:
    """Write weights, cards, the run and the scene into the package.

    Args:
        teacher: run folder of the teacher.
        plain: run folder of the student trained alone.
        distilled: run folder of the student trained by the teacher.
        note: a line more for the cards.
    """
    torch.set_num_threads(1)
    floor = evaluate(build("bicubic", scale=4), "", "held_out").mean
    told = (
        (teacher, "edvr_tiny", "teacher", "The teacher: a small EDVR."),
        (plain, "vespcn_plain", "plain", "The student, trained on the ground truth alone."),
        (distilled, "vespcn_distilled", "distilled", "The same student, taught by `edvr_tiny`."),
    )
    for folder, name, alias, what in told:
        if folder is None:
            continue
        run = Run(folder)
        network = load(run.weights())
        scores = evaluate(network, "", "held_out").mean
        card = _card(name, alias, what, run.config(), network, scores, floor, note)
        save(network, HOME / f"{name}.safetensors", half=True, run=folder.name, steps=run.status().step, scores=scores)
        (HOME / f"{name}.md").write_text(card)
    if distilled is None:
        return
    save_memory(load_memory(Run(distilled).weights("memory")), HOME / "memory.safetensors")
    _ship_run(distilled, HOME / "runs" / "vespcn_distilled")
    shutil.rmtree(HOME / "scenes", ignore_errors=True)
    methods = ("bicubic", "plain", "distilled", "teacher")
    compare(SCENE_CLIP, methods, HOME / "scenes" / "bunny", title="Big Buck Bunny, held-out part", effort=6)


def _card(
    name: str,
    alias: str,
    what: str,
    config: RunConfig,
    network: VideoSR,
    scores: dict[str, float],
    floor: dict[str, float],
    note: str,
) -> str:
    data, opt, distillation = config.data, config.optimiser, config.distillation
    credits = {clip.partition("[")[0] for clip in data.clips}
    lessons = (
        f"teacher {config.teacher.name}; spatial {distillation.spatial_weight} ({distillation.mapping}, "
        f"{distillation.normalisation} maps), temporal {distillation.temporal_weight} ({distillation.memory} ConvLSTM, "
        f"{distillation.memory_channels} channels, stride {distillation.memory_stride}), tap {distillation.tap}, "
        f"{distillation.schedule} over {distillation.schedule_steps} steps"
    )
    return CARD.format(
        name=name,
        what=what,
        network=network.recipe["name"],
        parameters=count_parameters(network),
        scale=network.scale,
        clips=", ".join(f"`{clip}`" for clip in data.clips),
        credits="; ".join(f"{find_sample(c).credit}, licence: {find_sample(c).licence}" for c in sorted(credits)),
        degradation=data.degradation,
        steps=config.steps,
        batch=data.batch,
        frames=data.frames,
        crop=data.crop,
        optimiser=f"{opt.name}, {opt.learning_rate:g} to {opt.final_learning_rate:g} (cosine), betas {opt.betas}",
        distillation=lessons if config.distils else "none",
        seed=config.seed,
        psnr=scores["psnr_y_db"],
        ssim=scores["ssim_y"],
        floor_psnr=floor["psnr_y_db"],
        floor_ssim=floor["ssim_y"],
        alias=alias,
        held_out=f"`{HELD_OUT}`",
        note=f"\n{note}\n" if note else "",
    )


def _ship_run(source: Path, target: Path) -> None:
    """Copy what viewers read; leave out what only a resume needs, and compress the pictures harder."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("run.json", "metrics.jsonl", "status.json"):
        shutil.copy(source / name, target / name)
    for folder in [source / "probe", *sorted((source / "snapshots").iterdir())]:
        if (folder / "scene.json").exists():
            shutil.copytree(folder, target / folder.relative_to(source))
    for path in sorted(target.rglob("frames/*/*.webp")):
        with Image.open(path) as picture:
            pixels = picture.convert("RGB")
        pixels.save(path, "WEBP", lossless=True, method=6, quality=100)


if __name__ == "__main__":
    tyro.cli(main)
