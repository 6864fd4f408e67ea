"""Temporal share: the quality of a network with its true neighbor frames and with others in their place.

The same weights render the same frames; only the neighbors differ. Where the gain over bicubic does not depend on them,
the network works on single images, whatever its architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet
from workbench.errors import ConfigError, ResultError, unknown_name
from workbench.evaluation.protocols import Protocol
from workbench.evaluation.scores import TemporalShare, mean_score
from workbench.inference.chunks import upscale_window
from workbench.metrics.scorer import Scorer
from workbench.models.bicubic import Bicubic
from workbench.models.video_sr import VideoSR

NEIGHBORS: dict[str, str] = {
    "true": "the frames of the clip",
    "copies": "the scored frame itself",
    "reversed": "the frames of the clip in reversed order of time",
    "far": "frames of the clip a displacement later, or earlier where it ends too soon",
    "other": "the frames of the next clip of the set at the same times, brought to the same size",
}
"""Kinds of neighbors. The scored frame stays in the middle of the window in all of them."""

METRIC = "psnr_y_db"


@dataclass(frozen=True, kw_only=True)
class NeighborSettings:
    """Settings of a measurement of the temporal share.

    Attributes:
        names: keys of :data:`NEIGHBORS`.
        frames_per_clip: maximum number of scored frames of each clip, evenly spaced among those whose windows are
            complete.
        window: frames of a window for networks that depend on the whole clip; the same for all neighbors, so the
            result with true neighbors differs from that of the whole clip. Other networks have their own window.
        displacement: distance in frames of the neighbors ``far``.

    Raises:
        UnknownNameError: no such neighbors.
        ConfigError: no neighbors, neighbors named twice, or a number that is too small or even.
    """

    names: Sequence[str] = tuple(NEIGHBORS)
    frames_per_clip: int = 2
    window: int = 7
    displacement: int = 17

    def __post_init__(self) -> None:
        """Check the settings."""
        allowed = ", ".join(NEIGHBORS)
        for name in self.names:
            if name not in NEIGHBORS:
                raise unknown_name("neighbors", name, NEIGHBORS)
        if not self.names or len(set(self.names)) < len(self.names):
            got = ",".join(self.names) or "none"
            raise ConfigError(f"neighbors: got {got}; want one or more, each once, of {allowed}")
        if self.frames_per_clip < 1:
            raise ConfigError(f"neighbor_frames: got {self.frames_per_clip}; want 1 or more frames of each clip")
        if self.window < 3 or self.window % 2 == 0:
            raise ConfigError(f"neighbor_window: got {self.window}; want an odd number of frames, 3 or more")
        if self.displacement < 1:
            raise ConfigError(f"displacement: got {self.displacement}; want 1 or more frames")


def measure_temporal_share(
    network: VideoSR,
    clips: ClipSet,
    protocol: Protocol,
    settings: NeighborSettings,
    *,
    others: ClipSet | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> TemporalShare:
    """Score the same frames with the same weights from different neighbors.

    With ``t`` the number of a scored frame, the window has at distance ``d`` from its middle, for ``d`` other than 0:

    ============  ===================================================================================
    ``true``      frame ``t + d``
    ``copies``    frame ``t``
    ``reversed``  frame ``t - d``
    ``far``       frame ``t + d + k``, or ``t + d - k`` where the clip ends before; ``k`` is the displacement
    ``other``     frame ``u + d`` of the next clip of the set (of the first for the last); ``u`` is ``t``, or the
                  nearest frame there with a complete window
    ============  ===================================================================================

    Frame ``t`` itself is always at ``d = 0``. Frames of another clip of another size are cropped in low resolution
    around the center, after bicubic enlargement to cover the size where they are smaller.

    Sliding windows have the window of the network. A network that depends on the whole clip gets a clip of
    ``settings.window`` frames, the same for all neighbors. PSNR-Y is computed on 8-bit images, on the pixels and with
    the degradation of the protocol.

    Args:
        network: maps a clip to a clip.
        clips: the set, or some clips of it.
        protocol: see ``evaluation.protocols``; scored are some of the frames that it counts.
        settings: which neighbors, how many frames.
        others: the whole set, for neighbors of another clip; ``clips`` by default.
        device: where to compute; the network's own device by default.
        progress: called as ``progress(clip, done, total)``, counting renderings.

    Raises:
        ConfigError: a clip without a frame whose windows are complete, or no other clip that is long enough.
        ResultError: NaN or infinity in a result; the message names clip, frame and neighbors.
    """
    network.check_upscales()
    length = settings.window if network.temporal_radius is None else 2 * network.temporal_radius + 1
    chosen = {clip.name: _choose_frames(clip, protocol, length, settings) for clip in clips}
    pairs: dict[str, ClipEntry] = {}
    if "other" in settings.names:
        pairs = {clip.name: _other_clip(clip, others or clips, length) for clip in clips}
    done, total = 0, len(settings.names) * sum(map(len, chosen.values()))
    bicubic: dict[str, list[float]] = {}
    psnr_y: dict[str, dict[str, list[float]]] = {name: {} for name in settings.names}
    for clip in clips:
        scorers = {name: _scorer(clip, protocol) for name in settings.names}
        floor = _scorer(clip, protocol)
        for number in chosen[clip.name]:
            ground_truth, windows = _windows(clips, clip, pairs.get(clip.name), number, protocol, length, settings)
            middle_low = next(iter(windows.values()))[length // 2]
            bicubic_frame = upscale_window(Bicubic(scale=network.scale), middle_low[None], [0])
            floor.add(*protocol.crop(bicubic_frame, ground_truth), number=number)
            for name, low in windows.items():
                if progress is not None:
                    progress(f"{clip.name}, neighbors {name}", done, total)
                try:
                    upscaled = upscale_window(network, low, range(length), device=device)
                except ResultError as error:
                    place = f"{clip.name}, frame {number}, neighbors {name}"
                    raise ResultError(error.reason, number, place) from error
                scorers[name].add(*protocol.crop(upscaled, ground_truth), number=number)
                done += 1
        bicubic[clip.name] = floor.curves[METRIC]
        for name, scorer in scorers.items():
            psnr_y[name][clip.name] = scorer.curves[METRIC]
    if progress is not None:
        progress("neighbors", total, total)
    return TemporalShare(
        averaging=protocol.averaging,
        window=length,
        displacement=settings.displacement,
        numbers=chosen,
        other_clips={name: other.name for name, other in pairs.items()},
        bicubic=bicubic,
        psnr_y=psnr_y,
    )


def _choose_frames(clip: ClipEntry, protocol: Protocol, length: int, settings: NeighborSettings) -> list[int]:
    """Return the numbers of the frames to score: evenly spaced among those whose windows are complete."""
    half, shift = length // 2, settings.displacement if "far" in settings.names and length > 1 else 0
    complete = [
        number
        for number in protocol.scored_frames(clip)
        if half <= number < clip.frames - half
        and (number + half + shift < clip.frames or number - half - shift >= 0)
    ]  # fmt: skip
    if not complete:
        far = f", and one {shift} frames away" if shift else ""
        raise ConfigError(
            f"{clip.name}: got {clip.frames} frames; want one with a complete window of {length} frames{far}: score a "
            "longer clip, leave out far, or choose a smaller neighbor_window for a network of the whole clip"
        )
    count = min(settings.frames_per_clip, len(complete))
    return [complete[(2 * place + 1) * len(complete) // (2 * count)] for place in range(count)]


def _other_clip(clip: ClipEntry, clips: ClipSet, length: int) -> ClipEntry:
    """Return the next clip of the set with a complete window; after the last comes the first."""
    names = [one.name for one in clips]
    place = names.index(clip.name)
    following = [*clips.clips[place + 1 :], *clips.clips[:place]]
    other = next((one for one in following if one.frames >= length), None)
    if other is None:
        raise ConfigError(
            f"{clip.name}: got a set of {len(names)} clips; want another one of {length} frames or more for the "
            "neighbors other: leave out other, or score a set of several clips"
        )
    return other


def _windows(
    clips: ClipSet,
    clip: ClipEntry,
    other: ClipEntry | None,
    number: int,
    protocol: Protocol,
    length: int,
    settings: NeighborSettings,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the ground truth, and for each kind of neighbors the window in low resolution, ``(length, h, w, 3)``."""
    half = length // 2

    def read(source: ClipEntry, center: int) -> tuple[np.ndarray, np.ndarray]:
        return clips.pair(source, protocol.degradation, center - half, center + half + 1)

    low, high = read(clip, number)
    windows = {"true": low, "copies": low[[half] * length], "reversed": low[::-1].copy()}
    if "far" in settings.names:
        shift = 0 if length == 1 else settings.displacement
        later = number + half + shift < clip.frames
        windows["far"] = read(clip, number + (shift if later else -shift))[0].copy()
        windows["far"][half] = low[half]
    if other is not None:
        center = min(max(number, half), other.frames - 1 - half)
        windows["other"] = _to_size(read(other, center)[0], low.shape[1], low.shape[2])
        windows["other"][half] = low[half]
    return high[half], {name: windows[name] for name in settings.names}


def _to_size(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop frames around the center, after bicubic enlargement to cover the size where they are smaller."""
    factor = max(height / frames.shape[1], width / frames.shape[2])
    if factor > 1:
        size = max(width, round(frames.shape[2] * factor)), max(height, round(frames.shape[1] * factor))
        frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width].copy()


def _scorer(clip: ClipEntry, protocol: Protocol) -> Scorer:
    return Scorer(clip.name, metrics=(METRIC,), crop_border=protocol.crop_border)


# -- as text --------------------------------------------------------------------------------------------------------


def describe_share(share: TemporalShare) -> str:
    """Return the meaning of the gains, and of each kind of neighbors, in one sentence."""
    kinds = "; ".join(f"{name}: {text}" for name, text in NEIGHBORS.items() if name in share.psnr_y)
    displacement = f" (displacement: {share.displacement} frames)" if "far" in share.psnr_y else ""
    frames = sum(map(len, share.numbers.values()))
    return (
        f"Temporal share: PSNR-Y gain over bicubic of {frames} frames with the same weights and these neighbors in a "
        f"window of {share.window}: {kinds}{displacement}."
    )


def share_table(share: TemporalShare) -> list[list[str]]:
    """Return the cells of a table: a header, a row for each clip, and the mean."""
    kinds = [name for name in NEIGHBORS if name in share.psnr_y]
    both = share.true_minus_copies() is not None

    def row(label: str, frames: str, bicubic: float, gain: Mapping[str, float]) -> list[str]:
        gains = [gain[name] for name in kinds] + ([gain["true"] - gain["copies"]] if both else [])
        return [label, frames, "-" if math.isnan(bicubic) else f"{bicubic:.2f}", *map(signed_db, gains)]

    return [
        ["clip", "frames", "bicubic [dB]", *kinds, *(["true - copies"] if both else [])],
        *(
            row(clip, ", ".join(map(str, numbers)), mean_score(share.bicubic[clip]), share.clip_gain(clip))
            for clip, numbers in share.numbers.items()
        ),
        row("mean", str(sum(map(len, share.numbers.values()))), share.mean(share.bicubic), share.mean_gain()),
    ]


def signed_db(value: float) -> str:
    """Return a difference in dB with its sign; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:+.3f}"
