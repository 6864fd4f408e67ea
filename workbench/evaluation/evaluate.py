"""Score a network on a dataset under a named protocol.

Clips may have any length: both resolutions are streamed, and only the scores are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import crop_to_scale
from workbench.errors import ConfigError, DataError, ShapeError
from workbench.evaluation.neighbors import NeighborSettings, measure_temporal_share
from workbench.evaluation.protocols import Protocol, find_protocol
from workbench.evaluation.rendering import render_frames
from workbench.evaluation.scores import EvaluationResult, TemporalShare, metrics_of
from workbench.metrics import TEMPORAL
from workbench.metrics.perceptual import LPIPS
from workbench.metrics.scorer import Scorer
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.process import library_versions

ClipRenderer = Callable[[ClipEntry, Sequence[int]], Iterator[np.ndarray]]
"""Function of a clip and the numbers of its scored frames; yields these frames, restored, in order."""

ProgressCallback = Callable[[str, int, int], None]
"""Called as ``progress(clip, done, total)``, with frames of the whole dataset: before every clip and after every
frame."""

FLOW = {
    "tof": "Farneback: pyramid 0.5, 3 levels, window 15, 3 iterations, neighborhood 5, sigma 1.2",
    "warping_error": "DIS, preset medium, both directions, of the ground truth",
}


def evaluate(
    network: VideoSR,
    data: str | os.PathLike[str] | ClipSet,
    protocol: Protocol | str,
    *,
    name: str | None = None,
    note: str = "",
    device: str | torch.device | None = None,
    temporal: bool = False,
    perceptual: LPIPS | None = None,
    clips: Sequence[str] = (),
    lr_dir: str | None = None,
    neighbors: NeighborSettings | None = None,
    progress: ProgressCallback | None = None,
) -> EvaluationResult:
    """Upscale the low resolution of every clip of a dataset, and score the 8-bit result against the ground truth.

    Memory does not grow with the length of a clip, except for networks that depend on the whole of it
    (``temporal_radius`` None): these get its low resolution at once, since cutting it would change the score.

    Args:
        network: maps a clip to a clip; see ``models.video_sr``.
        data: folder of the dataset, or the clip; the protocol's default where it is empty. Or an open dataset.
        protocol: one of ``PROTOCOLS``, or its name.
        name: name of the network in the result; its zoo name, or its class, by default.
        note: origin of the network for the result: weights and their checksum.
        device: where to compute; the network's own device by default.
        temporal: whether to compute the temporal metrics too; they take longer than all others together.
        perceptual: network for LPIPS and tLP, which are computed with it only.
        clips: names of the clips to score; all by default.
        lr_dir: folder of the low resolution on disk, see ``data.datasets.registry.open_set``; made here by default.
        neighbors: settings of the temporal share, see ``evaluation.neighbors``, which is measured with them only.
        progress: called before every clip and after every frame.

    Raises:
        UnknownNameError: no such protocol or clip.
        DataError: the dataset is not that of the protocol, or its low resolution is of another family.
        ConfigError: the network has another scale than the protocol, or is a privileged teacher; the protocol scores
            single frames and ``temporal`` is set.
        ShapeError: the network's frames are of another size than the ground truth.
        ResultError: NaN or infinity in a frame; the message names clip and frame.
    """
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    network.check_upscales()
    if network.scale != chosen.scale:
        raise ConfigError(
            f"protocol {chosen.name!r}: scores x{chosen.scale}, but the network enlarges x{network.scale}"
        )
    whole = open_clips(chosen, data, lr_dir)
    opened = whole.only(clips) if clips else whole
    opened.check_degradation(chosen.degradation)
    share = None
    if neighbors is not None:
        share = measure_temporal_share(
            network, opened, chosen, neighbors, others=whole, device=device, progress=progress
        )  # fmt: skip

    def render(clip: ClipEntry, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return render_frames(network, clip, numbers, degradation=chosen.degradation, device=device)

    with _border(network, chosen) as windows:
        return score_clips(
            render,
            opened,
            chosen,
            name=name or network.name,
            note=note,
            low=f"{chosen.degradation}, {'from disk' if opened.degradation else 'made here'}",
            windows=windows,
            temporal=temporal,
            perceptual=perceptual,
            selected=bool(clips),
            share=share,
            progress=progress,
        )


def open_clips(protocol: Protocol, data: str | os.PathLike[str] | ClipSet, lr_dir: str | None = None) -> ClipSet:
    """Open the dataset of a protocol, or check the scale of one that is open; see :func:`evaluate`."""
    if isinstance(data, ClipSet):
        if data.scale != protocol.scale:
            raise ConfigError(
                f"protocol {protocol.name!r}: scores x{protocol.scale}, {data.name} is open for x{data.scale}"
            )
        if lr_dir is not None:
            raise ConfigError(
                f"{data.name}: already open; name its low resolution when it is opened, not here: {lr_dir}"
            )
        return data
    path = os.fspath(data) or protocol.data
    if not path:
        raise DataError(f"protocol {protocol.name!r}: {protocol.description} Name the folder of its data")
    opened = open_set(protocol.data_set, path, scale=protocol.scale, low=lr_dir, **protocol.options)
    if protocol.data_set == "clip":  # named by the argument, which may be a path
        short = Path(path).name
        opened = replace(opened, name=short, clips=tuple(replace(clip, name=short) for clip in opened))
    return opened


@contextmanager
def _border(network: VideoSR, protocol: Protocol) -> Iterator[str]:
    """Set a sliding window's border rule to the protocol's, where it has one; yields the rule in effect."""
    if not isinstance(network, SlidingWindow):
        yield ""
        return
    own = network.border
    network.border = protocol.border or own
    try:
        yield network.border
    finally:
        network.border = own


def score_clips(
    render: ClipRenderer,
    clips: ClipSet,
    protocol: Protocol,
    *,
    name: str,
    low: str,
    note: str = "",
    windows: str = "",
    temporal: bool = False,
    perceptual: LPIPS | None = None,
    selected: bool = False,
    progress: ProgressCallback | None = None,
    share: TemporalShare | None = None,
) -> EvaluationResult:
    """Score the rendered frames of every clip; arguments as in :func:`evaluate` and ``EvaluationResult``."""
    if temporal and protocol.frames != "all":
        raise ConfigError(
            f"protocol {protocol.name!r}: scores single frames, so there are no steps from frame to frame; leave "
            f"temporal away ({', '.join(TEMPORAL)}), or choose a protocol that scores all frames"
        )
    metrics = metrics_of(protocol, temporal=temporal, perceptual=perceptual is not None)
    scored = {clip.name: protocol.scored_frames(clip) for clip in clips}
    total, done = sum(map(len, scored.values())), 0
    scorers: dict[str, Scorer] = {}
    for clip in clips:
        if progress is not None:
            progress(clip.name, done, total)
        scorer = Scorer(clip.name, metrics=metrics, crop_border=protocol.crop_border, network=perceptual)
        numbers = scored[clip.name]
        for number, (frame, ground_truth) in zip(numbers, _pairs(render, clip, numbers), strict=True):
            scorer.add(*protocol.crop(frame, ground_truth), number=number)
            done += 1
            if progress is not None:
                progress(clip.name, done, total)
        scorers[clip.name] = scorer
    return EvaluationResult(
        protocol=protocol,
        network=name,
        data=clips.name,
        selected=selected,
        low=low,
        windows=windows,
        numbers=scored,
        sizes={clip.name: (clip.low_size[0] * clip.scale, clip.low_size[1] * clip.scale) for clip in clips},
        per_frame={name: scorer.curves for name, scorer in scorers.items()},
        equal={name: scorer.equal for name, scorer in scorers.items()},
        groups={clip.name: clip.group for clip in clips if clip.group},
        provenance={
            **({"method": note} if note else {}),
            **library_versions("torch", "numpy", "opencv-python-headless"),
            **(FLOW if temporal else {}),
        },
        temporal_share=share,
    )


def _pairs(render: ClipRenderer, clip: ClipEntry, numbers: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a rendered frame and its ground truth for each of the numbers."""
    wanted = frozenset(numbers)
    if len(numbers) == 1:
        references: Iterator[np.ndarray] = iter(clip.high(numbers[0], numbers[0] + 1))
    else:
        references = (frame for number, frame in enumerate(clip.stream()) if number in wanted)
    cropped = (crop_to_scale(frame, clip.scale) for frame in references)
    done = 0
    for pair in zip(render(clip, numbers), cropped, strict=False):
        yield pair
        done += 1
    if done != len(numbers):
        raise ShapeError(f"{clip.name}: want {len(numbers)} frames, got {done}")
