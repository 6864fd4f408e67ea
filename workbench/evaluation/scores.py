"""What a scoring found: numbers a frame, a clip and a set, with all it takes to know what they mean, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from workbench.errors import FolderError
from workbench.evaluation.protocols import Averaging, Protocol
from workbench.metrics.perceptual import LPIPS
from workbench.metrics.scorer import FIDELITY, PERCEPTUAL, TEMPORAL, Scorer
from workbench.metrics.temporal import check_alike
from workbench.scenes import write_atomic

FORMAT = 2
"""Version of what :meth:`Report.to_dict` gives and of ``scores.json``."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a column of numbers means."""

    title: str
    unit: str
    higher_is_better: bool
    digits: int
    """Decimals when printed; JSON keeps them all."""


METRICS: dict[str, Metric] = {
    "psnr_y_db": Metric(title="PSNR-Y", unit="dB", higher_is_better=True, digits=2),
    "ssim_y": Metric(title="SSIM-Y", unit="", higher_is_better=True, digits=4),
    "psnr_rgb_db": Metric(title="PSNR-RGB", unit="dB", higher_is_better=True, digits=2),
    "ssim_rgb": Metric(title="SSIM-RGB", unit="", higher_is_better=True, digits=4),
    "t_diff": Metric(title="T-diff", unit="levels", higher_is_better=False, digits=3),
    "tof": Metric(title="tOF", unit="px", higher_is_better=False, digits=3),
    "warping_error": Metric(title="E-warp", unit="", higher_is_better=False, digits=6),
    "warping_error_floor": Metric(title="E-warp of truth", unit="", higher_is_better=False, digits=6),
    "mae": Metric(title="profile", unit="levels", higher_is_better=False, digits=3),
    "lpips": Metric(title="LPIPS", unit="", higher_is_better=False, digits=4),
    "tlp": Metric(title="tLPx100", unit="", higher_is_better=False, digits=3),
}
"""Every metric a report may hold, in the order of its columns."""


def metrics_of(protocol: Protocol, *, temporal: bool = False, perceptual: bool = False) -> tuple[str, ...]:
    """What is scored under a protocol: its own numbers, and others to lay beside them."""
    rgb = ("ssim_rgb",) if protocol.channel == "rgb" else ()
    return (*FIDELITY, *rgb, *(TEMPORAL if temporal else ()), *(PERCEPTUAL if perceptual else ()))


def score(
    frames: np.ndarray,
    reference: np.ndarray,
    *,
    metrics: Sequence[str] = FIDELITY,
    crop: int = 0,
    network: LPIPS | None = None,
) -> dict[str, list[float]]:
    """Metrics of every frame of one clip that is at hand; see ``metrics.scorer.Scorer`` for clips of any length.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the true clip, the same size.
        metrics: see ``metrics.scorer``: ``FIDELITY``, ``TEMPORAL``, ``PERCEPTUAL``.
        crop: pixels to leave out at every border, for PSNR and SSIM.
        network: for the perceptual ones.

    Returns:
        Metric to its curve over the frames.
    """
    check_alike(frames, reference)
    scorer = Scorer(metrics=metrics, crop=crop, network=network)
    for frame, truth in zip(frames, reference, strict=True):
        scorer.add(frame, truth)
    return scorer.curves


def mean_score(curve: Iterable[float]) -> float:
    """The mean of what is finite; NaN if nothing is.

    Frame 0 of a metric of steps (NaN) does not count, and neither does the PSNR of equal frames (infinite): one such
    frame would make every mean infinite. How many frames are equal is said beside the mean.

    Example:
        >>> mean_score([float("nan"), 1.0, 2.0, float("inf")])
        1.5
    """
    known = [value for value in curve if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


@dataclass(frozen=True, kw_only=True)
class TemporalShare:
    """PSNR-Y of a few frames, rendered with the same weights from different neighbors; see ``evaluation.neighbors``.

    Attributes:
        averaging: that of the protocol.
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
        if self.averaging == "frames":
            return mean_score(value for curve in curves.values() for value in curve)
        return mean_score(map(mean_score, curves.values()))

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
        """Return plain data for JSON; PSNR of frames equal to the truth and what follows from it become None."""
        return plain(
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
class Report:
    """Scores of one method on one set.

    Names are names, never the path of somebody's machine. The numbers are kept as they are: PSNR is ``inf`` where
    frames are equal, what is about the step from the frame before is NaN at the first frame. Means leave both out.

    Attributes:
        protocol: how it was scored.
        network: what was scored.
        data: what the set calls itself.
        selected: whether only some of its clips were scored.
        low: where the low resolution came from.
        windows: what a sliding window saw beyond the ends of a clip; empty for other methods.
        numbers: clip -> numbers of the frames that were scored.
        sizes: clip -> width and height in high resolution.
        per_frame: clip -> metric -> one number a frame.
        equal: clip -> which of these frames are equal to the true ones.
        groups: clip -> the part of the set that it belongs to; empty where the set has none.
        provenance: versions of what computed it.
        temporal_share: what the network gains by its neighbors, where that was measured.
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
        """The metrics it holds, in the order of :data:`METRICS`."""
        held = next(iter(self.per_frame.values()), {})
        return [name for name in METRICS if name in held]

    @property
    def frames(self) -> dict[str, int]:
        """Clip to how many frames were scored."""
        return {clip: len(numbers) for clip, numbers in self.numbers.items()}

    @property
    def equal_frames(self) -> int:
        """How many frames are equal to the true ones: left out of the means of PSNR."""
        return sum(map(sum, self.equal.values()))

    @property
    def per_clip(self) -> dict[str, dict[str, float]]:
        """Clip to the mean of each metric over its frames."""
        return {
            clip: {name: mean_score(curves[name]) for name in self.metrics} for clip, curves in self.per_frame.items()
        }

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric as the protocol averages."""
        return self.average(self.protocol.averaging)

    @property
    def per_group(self) -> dict[str, dict[str, float]]:
        """The means of the parts of the set, by their names."""
        names = dict.fromkeys(group for group in self.groups.values() if group)
        return {
            name: self.average(self.protocol.averaging, [clip for clip in self.groups if self.groups[clip] == name])
            for name in names
        }

    def average(self, averaging: Averaging, clips: Sequence[str] | None = None) -> dict[str, float]:
        """The mean of each metric over some clips (all where left out), by either way of averaging."""
        chosen = list(self.per_frame) if clips is None else clips
        if averaging == "frames":
            return {
                name: mean_score(value for clip in chosen for value in self.per_frame[clip][name])
                for name in self.metrics
            }
        means = self.per_clip
        return {name: mean_score(means[clip][name] for clip in chosen) for name in self.metrics}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which has no infinity and no NaN: **both become None**.

        Where PSNR is None because frames are equal, ``equal`` beside it is true; their count stands beside the means.
        Any other None is the first frame of a metric of steps, or a mean over nothing.
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
            "mean": plain({**self.mean, "equal_frames": self.equal_frames}),
            "averages": {way: plain(self.average(way)) for way in ("clips", "frames")},
            "per_group": plain(self.per_group),
            "per_clip": plain({clip: {**means, "equal_frames": equal[clip]} for clip, means in self.per_clip.items()}),
            "frames": self.frames,
            "sizes": {clip: list(size) for clip, size in self.sizes.items()},
            "groups": dict(self.groups),
            "per_frame": {
                clip: {"number": list(self.numbers[clip]), **plain(curves), "equal": list(self.equal[clip])}
                for clip, curves in self.per_frame.items()
            },
            "provenance": plain(self.provenance),
            **({"temporal_share": self.temporal_share.to_dict()} if self.temporal_share else {}),
        }


def plain(value: Any) -> Any:
    """Plain data for JSON: infinity and NaN become None, mappings dicts, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- scores.json ----------------------------------------------------------------------------------------------------


def read_scores(path: Path) -> list[dict[str, Any]]:
    """The reports in a ``scores.json``, each as :meth:`Report.to_dict` gives it; none where there is no file.

    Raises:
        FolderError: it holds something else, or is of another version.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise FolderError(
            f"{path}: not a file of scores ({error}); name another with --out, or move it away"
        ) from error
    if not isinstance(held, dict) or held.get("format") != FORMAT or not isinstance(held.get("scores"), list):
        raise FolderError(f"{path}: not scores of format {FORMAT}; name another file with --out, or move this one away")
    return held["scores"]


def check_scores(path: Path) -> None:
    """Make sure, before hours of work, that scores can be laid into this file.

    Raises:
        FolderError: it holds something else.
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        read_scores(path)


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


def write_scores(path: Path, reports: Sequence[Report]) -> None:
    """Lay reports into a ``scores.json``: beside what is there, in place of the same method on the same set.

    The same is what agrees in network, set, protocol, clips and where the low resolution came from. The file is
    replaced whole, and processes wait for each other.

    Raises:
        FolderError: the file holds something else.
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        new = [report.to_dict() for report in reports]
        taken = [_same(one) for one in new]
        kept = [one for one in read_scores(path) if _same(one) not in taken]
        write_atomic(path, to_json([*kept, *new]))


def to_json(reports: Sequence[Mapping[str, Any]]) -> str:
    """What a ``scores.json`` holds."""
    return json.dumps({"format": FORMAT, "scores": list(reports)}, indent=1, allow_nan=False) + "\n"


def _same(report: Mapping[str, Any]) -> tuple[Any, ...]:
    protocol, clips = report.get("protocol"), report.get("per_clip")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    return report.get("network"), report.get("data"), name, report.get("low"), tuple(clips or ())
