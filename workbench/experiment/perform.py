"""Do the rows of the experiment: train what is missing, score what is trained, keep the numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from workbench.config import RunConfig
from workbench.data.datasets.clip_set import ClipEntry, ClipSet, InMemoryFrames
from workbench.data.preparation.manifest import MANIFEST, Settings, sha256_of
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.pairs import open_pairs
from workbench.errors import DataError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.protocols import PROTOCOLS, Protocol
from workbench.experiment.results import Results, Scores, same_conditions
from workbench.experiment.rows import Row, config_of, filling
from workbench.models.video_sr import VideoSR
from workbench.models.weights import checksum, load, locate
from workbench.models.zoo import build
from workbench.runs import Run
from workbench.training.engine import Engine
from workbench.training.machine import configure_torch
from workbench.training.trainer import Trainer
from workbench.training.worker import graceful_shutdown, prepare_run, work

VALIDATION = "validation"
VID4 = "vid4"

Told = Callable[[str], None]
"""Told in words what is being done."""


def footage_of(folder: Path, out: Path, validation: Sequence[str] = ()) -> Path:
    """A prepared folder: the one that came, or what is made of the footage in it.

    Args:
        folder: prepared already, or films and folders of frames.
        out: where to prepare it.
        validation: sources to hold out; a tenth by a hash of their names where none is named.
    """
    if (folder / MANIFEST).is_file():
        return folder
    prepare([folder], out, Settings(form="arrays", shrink="2", validation=tuple(validation)))
    return out


def sets_of(data: str, vid4: Path | None, scale: int = 4) -> dict[str, tuple[ClipSet | Path, Protocol]]:
    """What rows are scored on: the validation sources of a prepared folder, and Vid4 where it is at hand.

    Raises:
        DataError: the folder holds no validation sources.
    """
    entries = []
    for number, pair in enumerate(open_pairs(data, scale=scale, split="validation")):
        frames, height, width = pair.low_shape
        _, high = pair.cut(slice(0, frames), slice(0, height), slice(0, width))
        name = f"{number:03d}"
        size = (width * scale, height * scale)
        entries.append(
            ClipEntry(name=name, frames=frames, size=size, scale=scale, targets=tuple(range(frames)),
                      source=InMemoryFrames(np.ascontiguousarray(high)))
        )  # fmt: skip
    if not entries:
        raise DataError(f"{data}: no validation sources; prepare it with --validation")
    found: dict[str, tuple[ClipSet | Path, Protocol]] = {
        VALIDATION: (
            ClipSet(name=VALIDATION, scale=scale, degradation=None, clips=tuple(entries)),
            PROTOCOLS["folders"],
        )
    }
    return found | ({VID4: (vid4, PROTOCOLS["vid4"])} if vid4 is not None else {})


def conditions(shared: RunConfig) -> dict[str, Any]:
    """What all rows share, in words and checksums: no path of somebody's machine."""
    data, teacher = shared.data, shared.teacher
    return {
        "footage": [sha256_of(Path(spec) / MANIFEST) for spec in data.clips],
        "teacher": {"name": teacher.name, "sha256": checksum(locate(teacher.weights))},
        "student": shared.student.name,
        "steps": shared.steps,
        "batch": data.batch_size,
        "frames": data.num_frames,
        "crop": data.crop_size,
        "fixed": [data.num_fixed_crops, data.augmentations_per_crop, data.fixed_crops_seed],
        "learning_rate": [shared.optimizer.learning_rate, shared.optimizer.final_learning_rate],
    }


def scores_of(
    network: VideoSR, sets: Mapping[str, tuple[ClipSet | Path, Protocol]], *, temporal: Collection[str] = ()
) -> Scores:
    """Scores of one network on every set, clip by clip and as a mean; on those in ``temporal`` with time's too."""
    found: Scores = {}
    for name, (data, protocol) in sets.items():
        report = evaluate(network, data, protocol, temporal=name in temporal)
        clips = report.per_clip if name != VALIDATION else {}
        found[name] = {clip: _finite(values) for clip, values in clips.items()} | {"mean": _finite(report.mean)}
    return found


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def perform(
    rows: Sequence[Row],
    seeds: Sequence[int],
    shared: RunConfig,
    folder: Path,
    *,
    vid4: Path | None = None,
    temporal: Collection[str] = (VALIDATION, VID4),
    references: bool = True,
    told: Told = lambda _: None,
) -> Results:
    """Train and score what is missing, seed after seed, so that what is there at any moment can be compared.

    Killed and started again it goes on where it was: finished runs stay, others are resumed, scores are never made
    twice. Several jobs may work on one folder at a time, each on other rows.

    Args:
        rows: which.
        seeds: of each row.
        shared: what all have in common, see ``rows.base``.
        folder: for ``runs/`` and ``results.json``.
        vid4: the folder of Vid4; without it rows are scored on the validation split only.
        temporal: the sets on which also tOF, T-diff, warping error and profile distance are scored, which take longer
            than the rest.
        references: whether bicubic and the teacher are scored, too; the teacher takes longer than all else of that.
        told: is told what is being done.

    Raises:
        ConfigError: the folder holds another experiment.
    """
    configure_torch(shared.threads)
    path = folder / "results.json"
    wanted = conditions(shared)
    results = _kept(path, wanted)
    sets = sets_of(shared.data.clips[0], vid4, shared.data.scale)
    teacher = shared.teacher
    for name, make in {
        "bicubic": lambda: build("bicubic", scale=shared.data.scale),
        "teacher": lambda: load(teacher.weights),
    }.items():
        missing = {key: sets[key] for key in sets.keys() - results.references.get(name, {}).keys()}
        if missing and references:
            told(f"scoring {name}")
            results = _kept(path, wanted, {name: scores_of(make(), missing, temporal=temporal)})
    for seed in seeds:
        for row in rows:
            held = _kept(path, wanted).scores.get(row.name, {}).get(seed, {})
            missing = {key: sets[key] for key in sets.keys() - held.keys()}
            if not missing:
                continue
            config = config_of(row, shared, seed)
            if config.teacher_cache_dir:
                _fill(config, told)
            run = _trained(folder / "runs" / f"{row.name}-{seed}", config, told)
            told(f"scoring {row.name}, seed {seed}")
            found = scores_of(load(run.weights()), missing, temporal=temporal)
            results = _kept(path, wanted, rows={row.name: {seed: found}})
    return results


def _kept(
    path: Path,
    wanted: Mapping[str, Any],
    references: Mapping[str, Scores] | None = None,
    rows: Mapping[str, Mapping[int, Scores]] | None = None,
) -> Results:
    """The results on disk, with what is new put in: jobs that do other rows may write the same file meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        results = Results.read(path) if path.is_file() else Results(dict(wanted))
        same_conditions(results.conditions, wanted, path)
        for name, scores in (references or {}).items():
            results.references.setdefault(name, {}).update(scores)
        for name, seeds in (rows or {}).items():
            for seed, scores in seeds.items():
                results.scores.setdefault(name, {}).setdefault(seed, {}).update(scores)
        if references or rows:
            results.write(path)
    return results


def _fill(config: RunConfig, told: Told) -> None:
    """Let the teacher answer for all rows that ask the same; one job at a time."""
    folder = Path(config.teacher_cache_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    told("waiting for another job that asks the teacher")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        Trainer(filling(config), Engine(device=config.device, precision=config.precision)).open_cache(
            lambda done, clips: told(f"asking the teacher once for all: {done} of {clips} clips")
        )


def _trained(folder: Path, config: RunConfig, told: Told) -> Run:
    """A finished run, whatever there was of it before."""
    run = Run(folder) if (folder / "run.json").is_file() else prepare_run(folder, config)
    if run.status().state != "finished":
        told(f"training {run.name}")
        with graceful_shutdown() as stop_requested:
            state = work(run, lambda step, steps: told(f"training {run.name}: {step.number} of {steps}"))
        if state == "finished":
            shutil.rmtree(run.checkpoints_folder)
        if state != "finished" or stop_requested():
            raise KeyboardInterrupt
    return run
