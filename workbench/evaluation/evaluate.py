"""Score a network, or pictures that another program made, on a data set under a named protocol.

Clips of any length: both resolutions are streamed, and only the numbers are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder
from workbench.data.datasets.registry import open_set
from workbench.data.degradation.families import degrade
from workbench.data.video.frame_folder import list_pictures, read_picture, size_of
from workbench.data.video.frame_numbers import describe_mismatch, match_frames
from workbench.errors import ConfigError, DataError, ResultError, ShapeError
from workbench.evaluation.neighbors import NeighborSettings, measure_temporal_share
from workbench.evaluation.protocols import Protocol, center_crop, find_protocol
from workbench.evaluation.scores import Report, TemporalShare, metrics_of
from workbench.inference.chunks import chunks, upscale_stream, upscale_window
from workbench.metrics.perceptual import LPIPS
from workbench.metrics.scorer import TEMPORAL, Scorer
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.windows import window_indices
from workbench.tensors import to_uint8

Restore = Callable[[ClipEntry, Sequence[int]], Iterator[np.ndarray]]
"""A clip and the numbers of its frames that count -> these frames, restored, one after the other."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(clip, done, total)``, counting frames of the whole set: before every clip and after
every frame."""

READ_FRAMES = 16
"""Frames are read and shrunk at most so many at a time."""

FLOW = {
    "tof": "Farneback: pyramid 0.5, 3 levels, window 15, 3 iterations, neighborhood 5, sigma 1.2",
    "warping_error": "DIS, preset medium, both directions, of the true clip",
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
    low: str | None = None,
    neighbors: NeighborSettings | None = None,
    progress: Progress | None = None,
) -> Report:
    """Give a network the low resolution of every clip of a set, and score what comes out, as 8-bit pictures.

    Memory does not grow with the length of a clip, but for networks that depend on the whole of it (``reach`` None):
    these get its low resolution at once, since cutting it would be another score.

    Args:
        network: maps a clip to a clip; see ``models.video_sr``.
        data: the folder of the set, or the clip; the protocol's own where it is empty. Or a set that is already open,
            which is then taken as it is.
        protocol: one of ``PROTOCOLS``, by name or itself.
        name: what to call the network in the report; its zoo name, or its class, where left out.
        note: where it comes from, for the report: weights and their checksum.
        device: where to run it; where it is, if left out.
        temporal: also what is about the steps from frame to frame; this takes longer than the rest together.
        perceptual: also LPIPS and tLP by this network.
        clips: only these; all where empty.
        low: where the low resolution lies on disk, see ``data.datasets.open_set``; made here where left out.
        neighbors: also the temporal share, see ``evaluation.neighbors``, measured first.
        progress: told how far it is.

    Returns:
        The report.

    Raises:
        UnknownNameError: no such protocol or clip.
        DataError: the set is not what the protocol wants, or its low resolution is of another family.
        ConfigError: the network enlarges by another factor than the protocol, or is a privileged teacher; the protocol
            scores no steps.
        ShapeError: the network's pictures are of another size than the true ones.
        ResultError: NaN or infinity in a picture; the message names clip and frame.
    """
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    network.check_upscales()
    if network.scale != chosen.scale:
        raise ConfigError(
            f"protocol {chosen.name!r}: scores x{chosen.scale}, but the network enlarges x{network.scale}"
        )
    whole = _open(chosen, data, low)
    opened = whole.only(clips) if clips else whole
    opened.check_degradation(chosen.degradation)
    share = None
    if neighbors is not None:
        share = measure_temporal_share(
            network, opened, chosen, neighbors, others=whole, device=device, progress=progress
        )  # fmt: skip

    def restore(clip: ClipEntry, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return _upscaled(network, clip, numbers, chosen.degradation, device)

    with _border(network, chosen) as windows:
        return _score(
            restore,
            opened,
            chosen,
            name=name or network.recipe.get("name", type(network).__name__),
            note=note,
            low=f"{chosen.degradation}, {'from disk' if opened.degradation else 'made here'}",
            windows=windows,
            temporal=temporal,
            perceptual=perceptual,
            selected=bool(clips),
            share=share,
            progress=progress,
        )


def score_pictures(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] | ClipSet,
    protocol: Protocol | str,
    *,
    name: str | None = None,
    temporal: bool = False,
    perceptual: LPIPS | None = None,
    clips: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Score frames that another program made: ``FOLDER/<clip>/*.png``, clips called as in the set.

    A folder contains an image for every frame that the protocol counts. Frames are matched by the numbers in the file
    names (``0003.png`` and ``im3.png`` are the same frame), names without numbers as they are. The frames of a video
    are numbered from 0, or all of them from 1.

    Args:
        folder: of the images.
        data: the set, as for :func:`evaluate`.
        protocol: one of ``PROTOCOLS``, by name or itself.
        name: what to call the method; the folder's name where left out.
        temporal: see :func:`evaluate`.
        perceptual: see :func:`evaluate`.
        clips: only these; all where empty.
        progress: told how far it is.

    Raises:
        DataError: a clip without a folder, frames without an image, or images that are not a frame; all are named.
        VideoError: an image that cannot be read, or two images of one frame.
        ShapeError: an image of another size than the true one; the message names clip and frame.
    """
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; want one folder of images per clip, {root}/<clip>/*.png")
    whole = _open(chosen, data, None)
    opened = whole.only(clips) if clips else whole
    matches = {clip.name: _match(root / clip.name, clip, chosen) for clip in opened}
    faults = [fault for _, fault in matches.values() if fault]
    if faults:
        raise DataError(f"{root}: not the frames of {opened.name}: {'; '.join(faults[:8])}")

    def restore(clip: ClipEntry, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        files, _ = matches[clip.name]
        for image in (read_picture(files[number]) for number in numbers):
            yield _whole_pixels(image, clip.scale) if size_of(image) == "{}x{}".format(*clip.size) else image

    return _score(
        restore,
        opened,
        chosen,
        name=name or root.resolve().name,
        note="pictures of another program",
        low="not known",
        windows="",
        temporal=temporal,
        perceptual=perceptual,
        selected=bool(clips),
        progress=progress,
    )


def _match(folder: Path, clip: ClipEntry, protocol: Protocol) -> tuple[dict[int, Path], str]:
    """Match the images of another program to the frames of a clip by the numbers in their names.

    Returns:
        Frame number to image, for the frames that count, and a description of what is missing or surplus.
    """
    if not folder.is_dir():
        return {}, f"{clip.name} is missing"
    files, counted = list_pictures(folder), protocol.counted(clip)
    stems = [file.stem for file in files]
    if isinstance(clip.source, FrameFolder):
        namings = [[file.stem for file in clip.source.files()]]
    else:  # the frames have no names: counted from 0, or all of them from 1, as FFmpeg numbers them
        namings = [[f"{number:08d}" for number in range(first, first + clip.frames)] for first in (0, 1)]
    match = match_frames(namings[0], stems)
    if len(namings) > 1 and len(stems) == clip.frames:
        match = next((other for names in namings if not describe_mismatch(other := match_frames(names, stems))), match)
    missing = [namings[0][number] for number in counted if match.positions[number] is None]
    fault = describe_mismatch(match._replace(missing=missing))
    if missing and not match_frames(namings[0], stems, allow_offset=True).missing:
        fault += f"; numbered from {stems[0]}, the ground truth from {namings[0][0]}: rename them"
    found = {number: files[at] for number in counted if (at := match.positions[number]) is not None}
    return found, f"{clip.name}: {fault}" if fault else ""


def _open(protocol: Protocol, data: str | os.PathLike[str] | ClipSet, low: str | None) -> ClipSet:
    if isinstance(data, ClipSet):
        opened = data
        if data.scale != protocol.scale:
            raise ConfigError(
                f"protocol {protocol.name!r}: scores x{protocol.scale}, {data.name} is open for x{data.scale}"
            )
        if low is not None:
            raise ConfigError(f"{data.name}: already open; name its low resolution when it is opened, not here: {low}")
    else:
        where = os.fspath(data) or protocol.data
        if not where:
            raise DataError(f"protocol {protocol.name!r}: {protocol.description} Say where its data is")
        opened = open_set(protocol.data_set, where, scale=protocol.scale, low=low, **protocol.options)
        if protocol.data_set == "clip":  # called by what was typed, which may be a path
            short = Path(where).name
            opened = replace(opened, name=short, clips=tuple(replace(clip, name=short) for clip in opened))
    return opened


@contextmanager
def _border(network: VideoSR, protocol: Protocol) -> Iterator[str]:
    """While the block runs, sliding windows obey the protocol's rule, if it has one; yields the rule that holds."""
    if not isinstance(network, SlidingWindow):
        yield ""
        return
    own = network.border
    network.border = protocol.border or own
    try:
        yield network.border
    finally:
        network.border = own


# -- frames in, frames out ------------------------------------------------------------------------------------------


def _upscaled(
    network: VideoSR, clip: ClipEntry, numbers: Sequence[int], family: str, device: str | torch.device | None
) -> Iterator[np.ndarray]:
    """The frames of those numbers, as the network makes them from the whole clip."""
    device = device or next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    first = 0  # of the stretch that is worked on
    try:
        if isinstance(network, SlidingWindow) and 2 * len(numbers) <= clip.frames:
            for number in numbers:
                first = number
                yield _one_frame(network, clip, number, family, device)
            return
        wanted = frozenset(numbers)
        if network.temporal_radius is None:
            whole = np.stack(list(_low_frames(clip, family)))
            made: Iterable[np.ndarray] = (
                frame for chunk in chunks(network, whole, device=device) for frame in to_uint8(chunk.upscaled.frames)
            )
        else:
            made = upscale_stream(network, _low_frames(clip, family), device=device)
        for number, frame in enumerate(made):
            first = number + 1
            if number in wanted:
                yield frame
    except ResultError as error:
        number = first + error.frame
        reason = str(error).partition(": ")[2]
        raise ResultError(f"{clip.name}, frame {number}: {reason}", number) from error


def _one_frame(
    network: SlidingWindow, clip: ClipEntry, number: int, family: str, device: str | torch.device
) -> np.ndarray:
    """One frame of a clip from the window that it is made of, and no other."""
    window = window_indices(clip.frames, network.num_frames, network.border, first=number, last=number + 1)
    first, last = int(window.min()), int(window.max()) + 1
    return upscale_window(network, _low(clip, first, last, family), (window[0] - first).tolist(), device=device)


def _low(clip: ClipEntry, first: int, last: int, family: str) -> np.ndarray:
    """Low-resolution frames: from disk where the set was opened with them, else made."""
    if clip.has_low:
        return clip.low(first, last)
    return degrade(_whole_pixels(clip.high(first, last), clip.scale), family, clip.scale)


def _low_frames(clip: ClipEntry, family: str) -> Iterator[np.ndarray]:
    """All low-resolution frames, one after the other."""
    if clip.has_low:
        for first in range(0, clip.frames, READ_FRAMES):
            yield from clip.low(first, first + READ_FRAMES)
        return
    frames = _truth(clip)
    while stretch := list(islice(frames, READ_FRAMES)):
        yield from degrade(np.stack(stretch), family, clip.scale)


def _truth(clip: ClipEntry) -> Iterator[np.ndarray]:
    """All high-resolution frames, one after the other, less what does not fill a low-resolution pixel."""
    for frame in clip.stream():
        yield _whole_pixels(frame, clip.scale)


def _whole_pixels(frames: np.ndarray, scale: int) -> np.ndarray:
    """The part of ``(..., H, W, 3)`` that its low-resolution version shows: last rows and columns are cropped."""
    height, width = frames.shape[-3:-1]
    return frames[..., : height - height % scale, : width - width % scale, :]


# -- scores ---------------------------------------------------------------------------------------------------------


def _score(
    restore: Restore,
    clips: ClipSet,
    protocol: Protocol,
    *,
    name: str,
    note: str,
    low: str,
    windows: str,
    temporal: bool,
    perceptual: LPIPS | None,
    selected: bool,
    progress: Progress | None,
    share: TemporalShare | None = None,
) -> Report:
    if temporal and protocol.frames != "all":
        raise ConfigError(
            f"protocol {protocol.name!r}: scores single frames, so there are no steps from frame to frame; leave "
            f"temporal away ({', '.join(TEMPORAL)}), or choose a protocol that scores all frames"
        )
    metrics = metrics_of(protocol, temporal=temporal, perceptual=perceptual is not None)
    counted = {clip.name: protocol.counted(clip) for clip in clips}
    total, done = sum(map(len, counted.values())), 0
    scorers: dict[str, Scorer] = {}
    for clip in clips:
        if progress is not None:
            progress(clip.name, done, total)
        scorer = Scorer(clip.name, metrics=metrics, crop=protocol.crop, network=perceptual)
        for number, (frame, truth) in zip(counted[clip.name], _pairs(restore, clip, counted[clip.name]), strict=True):
            if protocol.centre and frame.shape == truth.shape:
                frame, truth = center_crop(frame), center_crop(truth)
            scorer.add(frame, truth, number=number)
            done += 1
            if progress is not None:
                progress(clip.name, done, total)
        scorers[clip.name] = scorer
    libraries = ("workbench", "torch", "numpy", "opencv-python-headless")
    return Report(
        protocol=protocol,
        network=name,
        data=clips.name,
        selected=selected,
        low=low,
        windows=windows,
        numbers=counted,
        sizes={clip.name: _kept_size(clip) for clip in clips},
        per_frame={name: scorer.curves for name, scorer in scorers.items()},
        equal={name: scorer.equal for name, scorer in scorers.items()},
        groups={clip.name: clip.group for clip in clips if clip.group},
        provenance={
            **({"method": note} if note else {}),
            **{library: version(library) for library in libraries},
            **(FLOW if temporal else {}),
        },
        temporal_share=share,
    )


def _pairs(restore: Restore, clip: ClipEntry, numbers: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A restored frame and the true one, for each of the numbers."""
    wanted = frozenset(numbers)
    if len(numbers) == 1:
        truth: Iterator[np.ndarray] = iter(_whole_pixels(clip.high(numbers[0], numbers[0] + 1), clip.scale))
    else:
        truth = (frame for number, frame in enumerate(_truth(clip)) if number in wanted)
    done = 0
    for pair in zip(restore(clip, numbers), truth, strict=False):
        yield pair
        done += 1
    if done != len(numbers):
        raise ShapeError(f"{clip.name}: want {len(numbers)} frames, got {done}")


def _kept_size(clip: ClipEntry) -> tuple[int, int]:
    return clip.low_size[0] * clip.scale, clip.low_size[1] * clip.scale
