"""How a network is scored: which data, which degradation, which frames, which channel, which average.

These choices move a score by more than most papers gain, so they have a name, are kept together, and are stored
beside every number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.data.datasets import clip_folders, load_clip, vid4
from workbench.data.degrade import degrade
from workbench.data.video import read_frames
from workbench.errors import ConfigError, DataError, ShapeError, unknown_name
from workbench.inference import upscale
from workbench.metrics.fidelity import Channel, psnr_db, ssim
from workbench.metrics.temporal import t_diff, tof
from workbench.models.video_sr import VideoSR

FORMAT = 1
"""Version of what :meth:`Report.to_dict` gives."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a column of numbers means."""

    title: str
    unit: str
    higher_is_better: bool


METRICS: dict[str, Metric] = {
    "psnr_y_db": Metric(title="PSNR-Y", unit="dB", higher_is_better=True),
    "ssim_y": Metric(title="SSIM-Y", unit="", higher_is_better=True),
    "psnr_rgb_db": Metric(title="PSNR-RGB", unit="dB", higher_is_better=True),
    "t_diff": Metric(title="T-diff", unit="levels", higher_is_better=False),
    "tof": Metric(title="tOF", unit="px", higher_is_better=False),
}
"""Every metric a report may hold, in the order of its columns."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way of scoring. All frames of every clip count, the mean is over the frames of a clip, then over clips.

    ``layout`` says how clips are found in the data (:data:`LAYOUTS`), ``channel`` which numbers are the protocol's
    own (others are given beside them), ``crop`` how many pixels are left out at every border, and ``data`` where the
    clips are unless the caller says otherwise.
    """

    name: str
    description: str
    layout: str
    degradation: str = "bi"
    scale: int = 4
    channel: Channel = "y"
    crop: int = 0
    data: str = ""


HELD_OUT = "bigbuckbunny[96:132, :, 0:352]"
"""A stretch and a part of the sample clip that no shipped network was trained on (see the cards beside the weights)."""

LAYOUTS: dict[str, Callable[[str | os.PathLike[str]], Mapping[str, str | Path]]] = {
    "folders": clip_folders,
    "vid4": vid4,
    "clip": lambda spec: {os.fspath(spec): os.fspath(spec)},
}
"""How the clips of a data set are found: data -> name of each clip and where it is, for ``data.datasets.load_clip``."""

PROTOCOLS: dict[str, Protocol] = {
    "vid4": Protocol(
        name="vid4",
        description="the whole Vid4, x4 from bicubic (BI), luma, all frames, no border left out; "
        "mean of the clips' means",
        layout="vid4",
    ),
    "folders": Protocol(
        name="folders",
        description="any folder of folders of frames, x4 from bicubic (BI), luma, all frames, no border left out; "
        "mean of the clips' means",
        layout="folders",
    ),
    "held_out": Protocol(
        name="held_out",
        description="the part of the sample clip that the shipped networks have not seen, x4 from bicubic (BI), luma, "
        "all its frames, no border left out",
        layout="clip",
        data=HELD_OUT,
    ),
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none; the nearest is suggested.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of one network on one set, with all it takes to know what they mean.

    ``network`` and ``data`` are names (never the path of somebody's machine). The numbers are kept as they are: PSNR is
    ``inf`` where frames are equal, temporal metrics are NaN at frame 0.
    """

    protocol: Protocol
    network: str
    data: str
    frames: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    per_frame: dict[str, dict[str, list[float]]]
    per_clip: dict[str, dict[str, float]]
    mean: dict[str, float]
    provenance: dict[str, Any]

    @property
    def metrics(self) -> list[str]:
        """The metrics it holds, in the order of :data:`METRICS`."""
        return [name for name in METRICS if name in self.mean]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which has no infinity and no NaN: **both become None**.

        A PSNR of None therefore means equal frames (or a mean over some), None at frame 0 of a temporal metric that
        there is no frame before it.
        """
        return {
            "format": FORMAT,
            "protocol": asdict(self.protocol),
            "network": self.network,
            "data": self.data,
            "frames": dict(self.frames),
            "sizes": {clip: list(size) for clip, size in self.sizes.items()},
            "metrics": {name: asdict(METRICS[name]) for name in self.metrics},
            "mean": _plain(self.mean),
            "per_clip": _plain(self.per_clip),
            "per_frame": _plain(self.per_frame),
            "provenance": _plain(self.provenance),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score(
    frames: np.ndarray,
    reference: np.ndarray,
    *,
    crop: int = 0,
    temporal: bool = False,
    reference_flow: np.ndarray | None = None,
) -> dict[str, list[float]]:
    """Every metric of every frame of one clip.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the true clip, the same size.
        crop: pixels to leave out at every border, for PSNR and SSIM.
        temporal: also T-diff and tOF, over the whole picture; optical flow makes these slow.
        reference_flow: ``metrics.temporal.flow`` of the reference, where it is at hand.

    Returns:
        Metric to its curve over the frames.
    """
    curves = {
        "psnr_y_db": psnr_db(frames, reference, channel="y", crop=crop),
        "ssim_y": ssim(frames, reference, channel="y", crop=crop),
        "psnr_rgb_db": psnr_db(frames, reference, channel="rgb", crop=crop),
    }
    if temporal:
        curves["t_diff"] = t_diff(frames, reference)
        curves["tof"] = tof(frames, reference, reference_flow=reference_flow)
    return {name: curve.tolist() for name, curve in curves.items()}


def mean_score(curve: list[float]) -> float:
    """The mean of one curve; frame 0 of a temporal metric, which is NaN, does not count. NaN if nothing does.

    Example:
        >>> mean_score([float("nan"), 1.0, 2.0])
        1.5
    """
    known = [value for value in curve if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def evaluate(
    network: VideoSR,
    data: str | os.PathLike[str],
    protocol: Protocol | str,
    *,
    name: str | None = None,
    device: str | torch.device | None = None,
    temporal: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Degrade every clip of a set, let the network restore it, and score what comes out, as 8-bit pictures.

    Args:
        network: maps a clip to a clip; see ``models.video_sr``.
        data: the folder of the set, or the clip; the protocol's own where it is empty.
        protocol: one of :data:`PROTOCOLS`, by name or itself.
        name: what to call the network in the report; its zoo name, or its class, where left out.
        device: where to run it; where it is, if left out.
        temporal: also T-diff and tOF, which take longer than the rest together.
        progress: called as ``progress(clip, done, clips)`` before every clip and once at the end.

    Returns:
        The report.

    Raises:
        UnknownNameError: no such protocol.
        DataError: the set is not what the protocol wants.
        ConfigError: the network enlarges by another factor than the protocol.
        ShapeError: the network's pictures are of another size than the true ones.
    """
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    if network.scale != chosen.scale:
        raise ConfigError(
            f"protocol {chosen.name!r}: scores x{chosen.scale}, but the network enlarges x{network.scale}"
        )
    data = data or chosen.data
    if not data:
        raise DataError(f"protocol {chosen.name!r}: {chosen.description}; say where its data is")
    clips = LAYOUTS[chosen.layout](data)
    per_frame: dict[str, dict[str, list[float]]] = {}
    frames: dict[str, int] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for done, (clip, where) in enumerate(clips.items()):
        if progress is not None:
            progress(clip, done, len(clips))
        high = _whole_pixels(read_frames(where) if isinstance(where, Path) else load_clip(where).frames, chosen.scale)
        low = degrade(high, chosen.degradation, chosen.scale)
        restored = upscale(network, low, device=device)
        if restored.shape != high.shape:
            raise ShapeError(f"{clip}: want {high.shape} from the network, got {restored.shape}")
        per_frame[clip] = score(restored, high, crop=chosen.crop, temporal=temporal)
        frames[clip], sizes[clip] = len(high), (high.shape[2], high.shape[1])
    if progress is not None:
        progress("", len(clips), len(clips))
    per_clip = {clip: {key: mean_score(curve) for key, curve in curves.items()} for clip, curves in per_frame.items()}
    metrics = next(iter(per_frame.values()))
    return Report(
        protocol=chosen,
        network=name or network.recipe.get("name", type(network).__name__),
        data=os.fspath(data) if chosen.layout == "clip" else Path(os.path.abspath(data)).name,
        frames=frames,
        sizes=sizes,
        per_frame=per_frame,
        per_clip=per_clip,
        mean={key: mean_score([scores[key] for scores in per_clip.values()]) for key in metrics},
        provenance={library: version(library) for library in ("workbench", "torch", "numpy", "opencv-python-headless")},
    )


def _whole_pixels(frames: np.ndarray, scale: int) -> np.ndarray:
    """The part of a clip that its low-resolution version shows: last rows and columns cropped to a multiple."""
    height, width = frames.shape[1:3]
    return frames[:, : height - height % scale, : width - width % scale]
