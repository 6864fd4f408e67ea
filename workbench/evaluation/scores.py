"""Results of an evaluation with their conditions, their means over frames, clips and datasets, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench.aliases import METRICS as METRIC_ALIASES
from workbench.aliases import renamed
from workbench.atomic_files import write_atomic
from workbench.errors import FolderError
from workbench.evaluation.protocols import Averaging, Protocol
from workbench.metrics import FIDELITY, METRICS, PERCEPTUAL, TEMPORAL

FORMAT = 3
"""Format version of ``scores.json``. Format 2 is read, too: it has some metrics under other names."""


def metrics_of(protocol: Protocol, *, temporal: bool = False, perceptual: bool = False) -> tuple[str, ...]:
    """Return the metrics that are computed under a protocol: its own, and others for comparison."""
    rgb = ("ssim_rgb",) if protocol.channel == "rgb" else ()
    return (*FIDELITY, *rgb, *(TEMPORAL if temporal else ()), *(PERCEPTUAL if perceptual else ()))


def mean_score(curve: Iterable[float]) -> float:
    """Return the mean of the finite scores; NaN without any.

    Left out are frame 0 of a temporal metric (NaN) and the PSNR of equal frames (infinite), one of which would make
    every mean infinite. The number of equal frames is reported with the mean.

    Example:
        >>> mean_score([float("nan"), 1.0, 2.0, float("inf")])
        1.5
    """
    finite = [value for value in curve if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def average_score(curves: Iterable[Sequence[float]], averaging: Averaging) -> float:
    """Return the mean of the scores of frames, by clips, under an averaging rule.

    Example:
        >>> average_score([[1.0, 2.0, 3.0], [8.0]], "clips"), average_score([[1.0, 2.0, 3.0], [8.0]], "frames")
        (5.0, 3.5)
    """
    if averaging == "frames":
        return mean_score(value for curve in curves for value in curve)
    return mean_score(map(mean_score, curves))


@dataclass(frozen=True, kw_only=True)
class TemporalShare:
    """PSNR-Y of a few frames, rendered with the same weights from different neighbors; see ``evaluation.neighbors``.

    Attributes:
        averaging: averaging rule of the protocol.
        window: frames of a window, the scored frame in the middle.
        displacement: distance in frames of the neighbors ``far``.
        numbers: clip -> numbers of the frames that were scored.
        other_clips: clip -> the clip that the neighbors ``other`` come from; empty where these were not measured.
        bicubic: clip -> PSNR-Y of bicubic, one number a frame.
        psnr_y: neighbors -> clip -> PSNR-Y of the network, one number a frame.
    """

    averaging: Averaging
    window: int
    displacement: int
    numbers: Mapping[str, Sequence[int]]
    other_clips: Mapping[str, str]
    bicubic: Mapping[str, Sequence[float]]
    psnr_y: Mapping[str, Mapping[str, Sequence[float]]]

    def gains(self, neighbors: str) -> dict[str, list[float]]:
        """Return the gain over bicubic in dB, for one kind of neighbors: clip -> one number a frame."""
        psnr_y = self.psnr_y[neighbors]
        return {clip: [a - b for a, b in zip(psnr_y[clip], floor, strict=True)] for clip, floor in self.bicubic.items()}

    def mean(self, curves: Mapping[str, Sequence[float]]) -> float:
        """Return the mean of numbers of frames, by clips, as the protocol averages."""
        return average_score(curves.values(), self.averaging)

    def mean_gain(self) -> dict[str, float]:
        """Return the mean gain over bicubic in dB for each kind of neighbors."""
        return {name: self.mean(self.gains(name)) for name in self.psnr_y}

    def clip_gain(self, clip: str) -> dict[str, float]:
        """Return the mean gain over bicubic in dB on one clip for each kind of neighbors."""
        return {name: mean_score(self.gains(name)[clip]) for name in self.psnr_y}

    def true_minus_copies(self) -> float | None:
        """Return the gain by the true neighbors over copies of the scored frame, in dB; None where not measured."""
        gain = self.mean_gain()
        return gain["true"] - gain["copies"] if {"true", "copies"} <= gain.keys() else None

    def to_dict(self) -> dict[str, Any]:
        """Return data for JSON; PSNR of frames equal to the ground truth, and gains over it, become None."""
        return to_json_value(
            {
                "window": self.window,
                "displacement": self.displacement,
                "other_clips": self.other_clips,
                "bicubic_db": self.mean(self.bicubic),
                "gain_db": self.mean_gain(),
                "true_minus_copies_db": self.true_minus_copies(),
                "per_clip": {
                    clip: {"bicubic_db": mean_score(floor), "gain_db": self.clip_gain(clip)}
                    for clip, floor in self.bicubic.items()
                },
                "per_frame": {
                    clip: {
                        "number": list(numbers),
                        "bicubic_db": self.bicubic[clip],
                        "psnr_y_db": {name: psnr[clip] for name, psnr in self.psnr_y.items()},
                    }
                    for clip, numbers in self.numbers.items()
                },
            }
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Scores of one method on one dataset.

    Names are never paths of a machine. Scores are kept unchanged: PSNR is ``inf`` where frames are equal, temporal
    metrics are NaN at the first frame. Means leave both out.

    Attributes:
        protocol: the protocol.
        network: name of the method.
        data: name of the dataset.
        selected: whether only some of its clips were scored.
        low: origin of the low resolution.
        windows: border rule of a sliding window; empty for other methods.
        numbers: clip -> numbers of the scored frames.
        sizes: clip -> width and height in high resolution.
        per_frame: clip -> metric -> one score a frame.
        equal: clip -> for each scored frame, whether it is equal to the ground truth.
        groups: clip -> the part of the dataset that it belongs to; empty where there are no parts.
        provenance: versions of the libraries, origin of the method.
        temporal_share: gain of the network by its neighbors, where that was measured.
    """

    protocol: Protocol
    network: str
    data: str
    selected: bool = False
    low: str
    windows: str = ""
    numbers: Mapping[str, Sequence[int]]
    sizes: Mapping[str, tuple[int, int]]
    per_frame: Mapping[str, Mapping[str, Sequence[float]]]
    equal: Mapping[str, Sequence[bool]]
    groups: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    temporal_share: TemporalShare | None = None

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of ``METRICS``."""
        curves = next(iter(self.per_frame.values()), {})
        return [name for name in METRICS if name in curves]

    @property
    def frames(self) -> dict[str, int]:
        """Number of scored frames of each clip."""
        return {clip: len(numbers) for clip, numbers in self.numbers.items()}

    @property
    def equal_frames(self) -> int:
        """Number of frames equal to the ground truth, which the means of PSNR leave out."""
        return sum(map(sum, self.equal.values()))

    @property
    def per_clip(self) -> dict[str, dict[str, float]]:
        """Mean of each metric over the frames of each clip."""
        return {
            clip: {name: mean_score(curves[name]) for name in self.metrics} for clip, curves in self.per_frame.items()
        }

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each metric by the averaging rule of the protocol."""
        return self.average(self.protocol.averaging)

    @property
    def per_group(self) -> dict[str, dict[str, float]]:
        """Means over each part of the dataset, by its name."""
        names = dict.fromkeys(group for group in self.groups.values() if group)
        return {
            name: self.average(self.protocol.averaging, [clip for clip in self.groups if self.groups[clip] == name])
            for name in names
        }

    def average(self, averaging: Averaging, clips: Sequence[str] | None = None) -> dict[str, float]:
        """Return the mean of each metric over some clips (all by default), by either averaging rule."""
        chosen = list(self.per_frame) if clips is None else clips
        return {
            name: average_score((self.per_frame[clip][name] for clip in chosen), averaging) for name in self.metrics
        }

    def to_dict(self) -> dict[str, Any]:
        """Return data for JSON, which has neither infinity nor NaN: **both become None**.

        Where PSNR is None because frames are equal, ``equal`` is true. Any other None is the first frame of a temporal
        metric, or a mean over nothing.
        """
        equal = {clip: sum(flags) for clip, flags in self.equal.items()}
        return {
            "protocol": self.protocol.to_dict(),
            "network": self.network,
            "data": self.data,
            "selected": self.selected,
            "low": self.low,
            "windows": self.windows,
            "metrics": {name: asdict(METRICS[name]) for name in self.metrics},
            "mean": to_json_value({**self.mean, "equal_frames": self.equal_frames}),
            "averages": {way: to_json_value(self.average(way)) for way in ("clips", "frames")},
            "per_group": to_json_value(self.per_group),
            "per_clip": to_json_value(
                {clip: {**means, "equal_frames": equal[clip]} for clip, means in self.per_clip.items()}
            ),
            "frames": self.frames,
            "sizes": {clip: list(size) for clip, size in self.sizes.items()},
            "groups": dict(self.groups),
            "per_frame": {
                clip: {"number": list(self.numbers[clip]), **to_json_value(curves), "equal": list(self.equal[clip])}
                for clip, curves in self.per_frame.items()
            },
            "provenance": to_json_value(self.provenance),
            **({"temporal_share": self.temporal_share.to_dict()} if self.temporal_share else {}),
        }


def to_json_value(value: Any) -> Any:
    """Return data for JSON: infinity and NaN become None, mappings dicts, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): to_json_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- scores.json ----------------------------------------------------------------------------------------------------


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Read a ``scores.json``: each result as :meth:`EvaluationResult.to_dict` returns it; none without a file.

    Raises:
        FolderError: it is another file, or of another format version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise FolderError(
            f"{path}: not a file of scores ({error}); name another with --out, or move it away"
        ) from error
    known = isinstance(content, dict) and content.get("format") in (2, FORMAT)
    if not known or not isinstance(content.get("scores"), list):
        raise FolderError(f"{path}: not scores of format {FORMAT}; name another file with --out, or move this one away")
    return content["scores"] if content["format"] == FORMAT else _rename_metrics(content["scores"])


def _rename_metrics(value: Any) -> Any:
    """Return data of format 2 with today's names of metrics."""
    if isinstance(value, list):
        return [_rename_metrics(item) for item in value]
    if isinstance(value, dict):
        return renamed({key: _rename_metrics(item) for key, item in value.items()}, METRIC_ALIASES)
    return value


def check_scores(path: Path) -> None:
    """Check, before hours of work, that scores can be written into this file.

    Raises:
        FolderError: it is another file.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        read_scores(path)


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


def write_scores(path: Path, results: Sequence[EvaluationResult]) -> None:
    """Add results to a ``scores.json``; each replaces the result of the same method on the same dataset.

    Results are the same if network, dataset, protocol, clips and origin of the low resolution agree. The file is
    written atomically, under a lock.

    Raises:
        FolderError: it is another file.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        new = [result.to_dict() for result in results]
        replaced = [_identity(one) for one in new]
        kept = [one for one in read_scores(path) if _identity(one) not in replaced]
        write_atomic(path, to_json([*kept, *new]))


def to_json(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the content of a ``scores.json``."""
    return json.dumps({"format": FORMAT, "scores": list(results)}, indent=1, allow_nan=False) + "\n"


def _identity(result: Mapping[str, Any]) -> tuple[Any, ...]:
    protocol, clips = result.get("protocol"), result.get("per_clip")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    return result.get("network"), result.get("data"), name, result.get("low"), tuple(clips or ())
