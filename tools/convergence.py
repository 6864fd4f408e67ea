"""Score students of an experiment during their training: ``python tools/convergence.py --data D --validation-set V``.

Trains variants as ``workbench experiment`` does, and scores the running average of their weights on the validation
clips at regular steps. (The experiment itself scores the weights of the last step, which differ little at the end of
the schedule.) The learning rate falls along a cosine, so a flat end shows that the schedule has ended, not that a
longer one would gain nothing; compare variants with different numbers of steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import tyro

from workbench.atomic_files import write_atomic
from workbench.config import RunConfig
from workbench.data.datasets.clip_set import ClipSet
from workbench.data.datasets.registry import open_set
from workbench.errors import ConfigError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.protocols import PROTOCOLS
from workbench.experiment.variants import find_variant, shared_config, variant_config
from workbench.presets import TEACHER
from workbench.training.accelerator import make_accelerator
from workbench.training.record import averaged_network
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer


def scores_by_step(config: RunConfig, clips: ClipSet, parts: int) -> dict[int, float]:
    """Train a student; return PSNR-Y of its averaged weights, mean over the clips, after each part of the steps."""
    if not 1 <= parts <= config.steps:
        raise ConfigError(f"parts: want 1 to {config.steps}, the number of steps, got {parts}")
    trainer = Trainer(config, make_accelerator(device="cpu", precision=config.precision))
    trainer.open_cache()
    assert trainer.average is not None
    found = {}
    for step in trainer.steps(0):
        if step.number % (config.steps // parts) == 0:
            report = evaluate(averaged_network(trainer.average), clips, PROTOCOLS["folders"])
            found[step.number] = report.mean["psnr_y_db"]
            print(f"step {step.number:,} of {config.steps:,}: {found[step.number]:.3f} dB", flush=True)
    return found


def main(
    *,
    data: Path,
    validation_set: Path,
    variants: str = "plain,plain+steps=4500",
    seeds: int = 1,
    first_seed: int = 0,
    parts: int = 10,
    threads: int = 1,
    cache: Path = Path("cache"),
    out: Path = Path("docs/experiment/convergence.json"),
) -> None:
    """Train variants and write their scores by step; those of other variants and seeds in the file are kept.

    Args:
        data: folder of prepared footage.
        validation_set: folder of clips, each a folder of frames.
        variants: variants, separated by commas, as in ``workbench experiment``.
        seeds: number of seeds.
        first_seed: first seed.
        parts: number of scores of a training, at equal distances.
        threads: CPU threads.
        cache: folder of the teacher's outputs, for example that of the experiment.
        out: file of the scores.
    """
    configure_torch(threads)
    shared = shared_config(data=str(data), teacher=TEACHER, student="vespcn_s", steps=1000)
    clips = open_set("folders", validation_set, scale=shared.data.scale)
    for seed in range(first_seed, first_seed + seeds):
        for name in variants.split(","):
            variant = find_variant(name)
            print(f"{variant.label}, seed {seed}", flush=True)
            found = scores_by_step(variant_config(variant, shared, seed, cache), clips, parts)
            stored = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
            stored.setdefault(variant.name, {})[str(seed)] = found
            write_atomic(out, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
