"""Scores of an experiment by variant and seed, stored in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.aliases import EXPERIMENT_SETTINGS, METRICS, VARIANTS, renamed
from workbench.errors import ConfigError, FolderError
from workbench.experiment.comparisons import Difference, paired
from workbench.scenes import write_atomic
from workbench.settings import differences, flatten

FORMAT = 2

SetScores = dict[str, dict[str, dict[str, float]]]
"""Set -> clip, or ``mean`` -> metric -> score."""


@dataclass
class Results:
    """Scores by variant and seed, and the settings that they were made with.

    Attributes:
        settings: settings that all variants share, by dotted name, with checksums in place of files; other settings are
            another experiment.
        scores: variant -> seed -> :data:`SetScores`.
        references: scores of bicubic and of the teacher.
    """

    settings: dict[str, Any]
    scores: dict[str, dict[int, SetScores]] = field(default_factory=dict)
    references: dict[str, SetScores] = field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """Names of the sets with any scores."""
        every = [*self.references.values(), *(one for seeds in self.scores.values() for one in seeds.values())]
        return list(dict.fromkeys(name for scores in every for name in scores))

    def values(self, variant: str, data: str, metric: str, clip: str = "mean") -> dict[int, float]:
        """Return the scores of a variant on a clip of a set, by seed; seeds without one are left out."""
        found = {
            seed: scores.get(data, {}).get(clip, {}).get(metric)
            for seed, scores in sorted(self.scores.get(variant, {}).items())
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def against(self, variant: str, other: str, data: str, metric: str) -> Difference | None:
        """Return the paired difference of two variants over their common seeds; None for fewer than two."""
        ours, theirs = self.values(variant, data, metric), self.values(other, data, metric)
        seeds = sorted(ours.keys() & theirs.keys())
        return paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]) if len(seeds) > 1 else None

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        variants = {
            name: {str(seed): one for seed, one in sorted(seeds.items())} for name, seeds in self.scores.items()
        }
        record = {"format": FORMAT, "settings": self.settings, "references": self.references, "variants": variants}
        write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file that :meth:`write` wrote, now or in format 1.

        Raises:
            FolderError: no such file, or a file of another format.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format"] == 1:
                record = _from_format_1(record)
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}, expected 1 or {FORMAT}")
            scores = {
                name: {int(seed): one for seed, one in seeds.items()} for name, seeds in record["variants"].items()
            }
            return cls(record["settings"], scores, record["references"])
        except FileNotFoundError as error:
            raise FolderError(f"{path}: no such file; `workbench experiment` writes it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(f"{path}: not a file of scores of an experiment ({error!r})") from error


def _from_format_1(record: Mapping[str, Any]) -> dict[str, Any]:
    def renamed_metrics(sets: SetScores) -> SetScores:
        return {
            name: {clip: renamed(scores, METRICS) for clip, scores in clips.items()} for name, clips in sets.items()
        }

    settings: dict[str, Any] = {"validation_set": []}
    for name, value in flatten(record["conditions"]).items():
        today = EXPERIMENT_SETTINGS[name].split()
        settings |= dict(zip(today, value, strict=True)) if len(today) > 1 else {today[0]: value}
    variants = {
        VARIANTS[name]: {seed: renamed_metrics(sets) for seed, sets in seeds.items()}
        for name, seeds in record["rows"].items()
    }
    references = {name: renamed_metrics(sets) for name, sets in record["references"].items()}
    return {"format": FORMAT, "settings": settings, "references": references, "variants": variants}


def same_settings(stored: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Make sure that two experiments share all settings that both have recorded.

    Raises:
        ConfigError: names each setting that differs.
    """
    if differing := differences(stored, wanted):
        text = "; ".join(f"{name}: got {new!r}, expected {old!r}" for name, (old, new) in differing.items())
        raise ConfigError(f"{path}: contains scores with other settings ({text}); name another folder (--out)")
