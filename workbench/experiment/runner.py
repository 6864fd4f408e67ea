"""Training and scoring of the variants of an experiment; what is there already is not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from workbench.config import RunConfig
from workbench.data.datasets.clip_set import ClipEntry, ClipSet, InMemoryFrames
from workbench.data.datasets.registry import open_set
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings, sha256_of
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.checksums import checksum_stills
from workbench.data.sampling.pairs import open_pairs
from workbench.errors import DataError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.frame_motion import by_quartile, frame_motion
from workbench.evaluation.neighbors import NeighborSettings, measure_temporal_share
from workbench.evaluation.protocols import PROTOCOLS, Protocol
from workbench.experiment.results import MEAN, NEIGHBORS, QUARTILES, Results, SetScores, same_settings
from workbench.experiment.variants import LOSSES, Variant, cache_config, file_name, variant_config
from workbench.models.video_sr import VideoSR
from workbench.models.weights import checksum, load, locate
from workbench.models.zoo import build
from workbench.runs import Run
from workbench.settings import flatten
from workbench.training.accelerator import make_accelerator
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import MUTABLE_ON_RESUME, Trainer
from workbench.training.worker import graceful_shutdown, prepare_run, work

VALIDATION = "validation"
VID4 = "vid4"
HELD_OUT = "held-out sources"

ScoredSet = tuple[ClipSet, Protocol]
Progress = Callable[[str], None]
"""Called with a message about the current work."""

FILES: dict[str, Callable[[Any], Any]] = {
    "data.clips": lambda folders: [sha256_of(Path(folder) / MANIFEST) for folder in folders],
    "data.stills": lambda folder: checksum_stills(folder).sha256,
    **{
        f"{role}.{weights}": lambda name: checksum(locate(name))
        for role in ("teacher", "student")
        for weights in ("weights", "flow_weights")
    },
}
"""PrepareSettings that name files, and the checksums that are recorded instead."""


def prepare_footage(folder: Path, out: Path, validation: Sequence[str] = ()) -> Path:
    """Return a prepared folder: ``folder`` itself, or ``out`` with the footage of ``folder`` prepared.

    Args:
        folder: prepared footage, or videos and folders of frames.
        out: where footage is prepared.
        validation: sources to hold out; a tenth of them, by a hash of their names, where it is empty.
    """
    if (folder / MANIFEST).is_file():
        return folder
    prepare([folder], out, PrepareSettings(format="arrays", downscale="2", validation=tuple(validation)))
    return out


def held_out_clips(data: str, scale: int = 4) -> ClipSet:
    """Return the validation sources of a prepared folder.

    Raises:
        DataError: it has none.
    """
    entries = []
    for number, pair in enumerate(open_pairs(data, scale=scale, split="validation")):
        frames, height, width = pair.low_shape
        _, high = pair.cut(slice(0, frames), slice(0, height), slice(0, width))
        entries.append(
            ClipEntry(name=f"{number:03d}", frames=frames, size=(width * scale, height * scale), scale=scale,
                      targets=tuple(range(frames)), source=InMemoryFrames(np.ascontiguousarray(high)))
        )  # fmt: skip
    if not entries:
        raise DataError(f"{data}: got no validation sources, expected one or more; prepare it with --validation")
    return ClipSet(name=HELD_OUT, scale=scale, degradation=None, clips=tuple(entries))


def experiment_settings(shared: RunConfig, validation_set: ClipSet | None = None) -> dict[str, Any]:
    """Return the settings of a training step that all variants share, by dotted name, with checksums in place of files.

    Args:
        shared: settings of all variants.
        validation_set: the clips of a folder that variants are scored on; the held-out sources are part of the footage.
    """
    varied = MUTABLE_ON_RESUME | {"seed", *(name for loss in LOSSES.values() for name in (loss.weight, loss.ratio))}
    whole = flatten(shared.to_dict())
    settings = {name: value for name, value in whole.items() if not {name, name.partition(".")[0]} & varied}
    settings |= {name: of(settings[name]) for name, of in FILES.items() if settings[name]}
    return settings | {"validation_set": [sha256_of(Path(str(clip.source))) for clip in validation_set or ()]}


def score_network(
    network: VideoSR,
    sets: Mapping[str, ScoredSet],
    *,
    temporal: Collection[str] = (),
    motion: Mapping[str, Sequence[float]] | None = None,
) -> SetScores:
    """Return the scores of a network on every set, per clip if it has several, and as a mean.

    Args:
        network: the network.
        sets: name -> clips and protocol.
        temporal: names of the sets that are also scored by temporal metrics.
        motion: :func:`set_motion` of sets that are also scored by quartile of motion.
    """
    found: SetScores = {}
    for name, (clips, protocol) in sets.items():
        report = evaluate(network, clips, protocol, temporal=name in temporal)
        parts = report.per_clip if len(clips.clips) > 1 or clips.name != HELD_OUT else {}
        parts |= {MEAN: report.mean}
        if motion is not None and name in motion:
            psnr = [value for curves in report.per_frame.values() for value in curves["psnr_y_db"]]
            parts[QUARTILES] = by_quartile(psnr, motion[name])
        found[name] = {part: _finite(values) for part, values in parts.items()}
    return found


def set_motion(clips: ClipSet, protocol: Protocol) -> list[float]:
    """Return the motion of all scored frames of a set, in order, see :func:`~workbench.evaluation.frame_motion`."""
    return [motion for clip in clips for motion in frame_motion(clip)[protocol.scored_frames(clip)].tolist()]


def neighbor_gains(network: VideoSR, sets: Mapping[str, ScoredSet], neighbors: NeighborSettings) -> SetScores:
    """Return the gain over bicubic in dB with each kind of neighbor frames, on every set."""
    return {
        name: {NEIGHBORS: _finite(measure_temporal_share(network, clips, protocol, neighbors).mean_gain())}
        for name, (clips, protocol) in sets.items()
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def run_experiment(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    shared: RunConfig,
    folder: Path,
    *,
    validation_set: Path | None = None,
    vid4: Path | None = None,
    temporal: Collection[str] = (VALIDATION, VID4),
    neighbors: NeighborSettings | None = None,
    references: bool = True,
    progress: Progress = lambda _: None,
) -> Results:
    """Train and score the variants that are missing, seed by seed, so that the results can be compared at any time.

    A killed experiment continues where it stopped: finished runs are kept, others are resumed, and nothing is scored
    twice. Several jobs may work on one folder at a time, each on other variants.

    Args:
        variants: the variants.
        seeds: seeds of every variant.
        shared: settings of all variants, see :func:`~.variants.shared_config`.
        folder: folder of ``runs/``, ``cache/`` and ``results.json``.
        validation_set: folder of clips that variants are scored on; the held-out sources of the footage where None.
        vid4: folder of Vid4, which variants are scored on as well.
        temporal: sets that are also scored by tOF, T-diff and warping error, which takes longer than the other metrics;
            also for runs scored without them before.
        neighbors: settings of the temporal share, which is measured with them only, also for runs scored before.
        references: whether bicubic and the teacher are scored as well; the teacher takes minutes.
        progress: called with a message before each part of the work.

    Raises:
        ConfigError: the folder contains an experiment with other settings.
    """
    configure_torch(shared.threads)
    scale, path = shared.data.scale, folder / "results.json"
    own = None if validation_set is None else open_set("folders", validation_set, scale=scale)
    settings = experiment_settings(shared, own)
    results = _update(path, settings)
    held_out = held_out_clips(shared.data.clips[0], scale) if own is None else own
    sets: dict[str, ScoredSet] = {VALIDATION: (held_out, PROTOCOLS["folders"])}
    if vid4 is not None:
        sets[VID4] = (open_set("vid4", vid4, scale=scale), PROTOCOLS["vid4"])

    scoring = _Scoring(sets, frozenset(temporal), neighbors)
    networks = {"bicubic": lambda: build("bicubic", scale=scale), "teacher": lambda: load(shared.teacher.weights)}
    for name, make in networks.items() if references else ():
        scored = results.references.get(name, {})
        if not scoring.is_complete(scored):
            progress(f"scoring {name}")
            found = {name: scoring.score_missing(make(), scored)}
            results = _update(path, settings, references=found | {"motion": scoring.mean_motion()})
    total = len(seeds) * len(variants)
    for number, seed in enumerate(seeds):
        for place, variant in enumerate(variants, number * len(variants) + 1):
            scored = _update(path, settings).scores.get(variant.name, {}).get(seed, {})
            if scoring.is_complete(scored):
                continue
            config = variant_config(variant, shared, seed, folder / "cache")
            at = f"run {place:,} of {total:,}, "
            run = _train(run_folder(folder, variant.name, seed), config, lambda text, at=at: progress(at + text))
            progress(f"{at}scoring {variant.name}, seed {seed}")
            found = scoring.score_missing(load(run.weights()), scored)
            results = _update(path, settings, scores={variant.name: {seed: found}})
    return results


@dataclass
class _Scoring:
    """Scores that every network gets."""

    sets: Mapping[str, ScoredSet]
    temporal: Collection[str]
    neighbors: NeighborSettings | None

    @cached_property
    def motion(self) -> dict[str, list[float]]:
        return {name: set_motion(*scored_set) for name, scored_set in self.sets.items()}

    def mean_motion(self) -> SetScores:
        return {name: {QUARTILES: _finite(by_quartile(motion, motion))} for name, motion in self.motion.items()}

    def is_complete(self, scored: SetScores) -> bool:
        return not (self._unscored(scored) or self._without_gains(scored))

    def score_missing(self, network: VideoSR, scored: SetScores) -> SetScores:
        found = score_network(network, self._unscored(scored), temporal=self.temporal, motion=self.motion)
        if self.neighbors is not None:
            for name, gains in neighbor_gains(network, self._without_gains(scored), self.neighbors).items():
                found.setdefault(name, {}).update(gains)
        return found

    def _unscored(self, scored: SetScores) -> dict[str, ScoredSet]:
        means = {name: scored.get(name, {}).get(MEAN, {}) for name in self.sets}
        wanted = {name: "mae" if name in self.temporal else "psnr_y_db" for name in self.sets}  # defined for any clip
        return {name: one for name, one in self.sets.items() if wanted[name] not in means[name]}

    def _without_gains(self, scored: SetScores) -> dict[str, ScoredSet]:
        wanted = set(self.neighbors.names) if self.neighbors is not None else set()
        return {name: one for name, one in self.sets.items() if wanted - scored.get(name, {}).get(NEIGHBORS, {}).keys()}


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Return the run folder of a variant and seed in the folder of an experiment.

    Example:
        >>> run_folder(Path("experiment"), "output_w2+sd_w0.001", 0).name
        'output_w2-sd_w0.001-0'
    """
    return folder / "runs" / file_name(f"{variant}-{seed}")


def _update(
    path: Path,
    settings: Mapping[str, Any],
    *,
    references: Mapping[str, SetScores] | None = None,
    scores: Mapping[str, Mapping[int, SetScores]] | None = None,
) -> Results:
    """Add scores to the results file, which other jobs may write at the same time, and return its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        results = Results.read(path) if path.is_file() else Results(dict(settings))
        same_settings(results.settings, settings, path)
        added = [(results.references.setdefault(name, {}), found) for name, found in (references or {}).items()]
        for name, seeds in (scores or {}).items():
            added += [
                (results.scores.setdefault(name, {}).setdefault(seed, {}), found) for seed, found in seeds.items()
            ]
        for kept, found in added:
            for data, parts in found.items():
                kept.setdefault(data, {}).update(parts)
        if references or scores:
            results.write(path)
    return results


def _fill_cache(config: RunConfig, progress: Progress) -> None:
    """Compute the teacher outputs of all variants that share a cache; one job at a time."""
    folder = Path(config.teacher_cache_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress("waiting for another job that fills the teacher cache")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        Trainer(cache_config(config), make_accelerator(device=config.device, precision=config.precision)).open_cache(
            lambda done, clips: progress(f"filling the teacher cache: {done} of {clips} clips")
        )


def _train(folder: Path, config: RunConfig, progress: Progress) -> Run:
    """Return the finished run of a folder; start or resume its training where it is not finished."""
    run = Run(folder) if (folder / "run.json").is_file() else prepare_run(folder, config)
    if run.status().state != "finished":
        if config.teacher_cache_dir:
            _fill_cache(config, progress)
        progress(f"training {run.name}")
        with graceful_shutdown() as stop_requested:
            state = work(run, lambda step, steps: progress(f"training {run.name}: {step.number:,} of {steps:,} steps"))
        if state == "finished":
            shutil.rmtree(run.checkpoints_folder)
        if state != "finished" or stop_requested():
            raise KeyboardInterrupt
    return run
