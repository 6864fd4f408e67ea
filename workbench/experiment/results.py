"""Scores of an experiment by variant and seed, stored in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.atomic_files import write_atomic
from workbench.errors import ConfigError, FolderError
from workbench.experiment.comparisons import Difference, paired
from workbench.settings import differences

FORMAT = 2

MEAN, QUARTILES, NEIGHBORS = "mean", "motion quartiles", "neighbors"

PartScores = dict[str, dict[str, float]]
SetScores = dict[str, PartScores]
"""Set -> clip, or ``mean`` -> metric -> score. ``motion quartiles`` have the PSNR-Y of the frames of each quartile,
``neighbors`` the gain in PSNR-Y over bicubic with each kind of neighbor frames."""


@dataclass
class Results:
    """Scores by variant and seed, and the settings that they were made with.

    Attributes:
        settings: settings that all variants share, by dotted name, with checksums in place of files; other settings are
            another experiment.
        scores: variant -> seed -> :data:`SetScores`.
        references: scores of bicubic and of the teacher; ``motion`` has the mean motion of the frames of each quartile.
    """

    settings: dict[str, Any]
    scores: dict[str, dict[int, SetScores]] = field(default_factory=dict)
    references: dict[str, SetScores] = field(default_factory=dict)

    def _every(self) -> Iterator[SetScores]:
        yield from self.references.values()
        for seeds in self.scores.values():
            yield from seeds.values()

    @property
    def sets(self) -> list[str]:
        """Names of the sets with any scores."""
        return list(dict.fromkeys(name for scores in self._every() for name in scores))

    def reference(self, name: str, data: str) -> list[PartScores]:
        """Return the scores of a reference on a set, as those of a single seed; empty without any."""
        found = self.references.get(name, {}).get(data)
        return [found] if found else []

    def clips(self, data: str) -> list[str]:
        """Return the names of the clips of a set that have scores."""
        names = dict.fromkeys(clip for scores in self._every() for clip in scores.get(data, {}))
        return [name for name in names if name not in (MEAN, QUARTILES, NEIGHBORS)]

    def values(self, variant: str, data: str, metric: str, clip: str = MEAN) -> dict[int, float]:
        """Return the scores of a variant on a clip of a set, by seed; seeds without one are left out."""
        found = {
            seed: scores.get(data, {}).get(clip, {}).get(metric)
            for seed, scores in sorted(self.scores.get(variant, {}).items())
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def shares(self, variant: str, data: str) -> dict[int, float]:
        """Return the temporal share of a variant in dB, by seed; seeds without a measurement are left out."""
        true, copies = (self.values(variant, data, kind, NEIGHBORS) for kind in ("true", "copies"))
        return {seed: true[seed] - copies[seed] for seed in true.keys() & copies.keys()}

    def against(self, variant: str, other: str, data: str, metric: str, clip: str = MEAN) -> Difference | None:
        """Return the paired difference of two variants over their common seeds; None for fewer than two."""
        ours, theirs = self.values(variant, data, metric, clip), self.values(other, data, metric, clip)
        return paired_by_seed(ours, theirs)

    def share_against(self, variant: str, other: str, data: str) -> Difference | None:
        """Return the paired difference of the temporal shares of two variants; None for fewer than two seeds."""
        return paired_by_seed(self.shares(variant, data), self.shares(other, data))

    def over_clips(self, variant: str, other: str, data: str, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the differences of two variants, and the teacher's lead over the other one, each ``(seeds, clips)``.

        The lead is NaN without scores of the teacher. None with fewer than two common seeds, or than two clips.
        """
        clips = self.clips(data)
        names = (variant, other)
        found = [{clip: self.values(name, data, metric, clip) for clip in clips} for name in names]
        seeds = sorted(set.intersection(*(set(values) for one in found for values in one.values()))) if clips else []
        if min(len(seeds), len(clips)) < 2:
            return None
        ours, theirs = (np.array([[one[clip][seed] for clip in clips] for seed in seeds]) for one in found)
        teacher = self.references.get("teacher", {}).get(data, {})
        return ours - theirs, np.array([teacher.get(clip, {}).get(metric, np.nan) for clip in clips]) - theirs

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        variants = {
            name: {str(seed): one for seed, one in sorted(seeds.items())} for name, seeds in self.scores.items()
        }
        record = {"format": FORMAT, "settings": self.settings, "references": self.references, "variants": variants}
        write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file that :meth:`write` wrote.

        Raises:
            FolderError: no such file, or a file of another format.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}, expected {FORMAT}")
            scores = {
                name: {int(seed): one for seed, one in seeds.items()} for name, seeds in record["variants"].items()
            }
            return cls(record["settings"], scores, record["references"])
        except FileNotFoundError as error:
            raise FolderError(f"{path}: no such file; `workbench experiment` writes it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(f"{path}: not a file of scores of an experiment ({error!r})") from error


def paired_by_seed(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Return the paired difference over the common seeds; None for fewer than two.

    Example:
        >>> paired_by_seed({0: 2.0, 1: 4.0, 2: 9.0}, {1: 1.0, 0: 1.0}).mean
        2.0
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if len(seeds) > 1 else None


def same_settings(stored: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Make sure that two experiments share all settings that both have recorded.

    Raises:
        ConfigError: names each setting that differs.
    """
    if differing := differences(stored, wanted):
        text = "; ".join(f"{name}: got {new!r}, expected {old!r}" for name, (old, new) in differing.items())
        raise ConfigError(f"{path}: contains scores with other settings ({text}); name another folder (--out)")
