"""Score frames that another program made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder
from workbench.data.degradation.families import crop_to_scale
from workbench.data.video.frame_folder import list_images, read_image, size_of
from workbench.data.video.frame_numbers import describe_mismatch, match_frames
from workbench.errors import DataError
from workbench.evaluation.evaluate import ProgressCallback, open_clips, score_clips
from workbench.evaluation.protocols import Protocol, find_protocol
from workbench.evaluation.scores import EvaluationResult
from workbench.metrics.perceptual import LPIPS


def score_predictions(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str] | ClipSet,
    protocol: Protocol | str,
    *,
    name: str | None = None,
    temporal: bool = False,
    perceptual: LPIPS | None = None,
    clips: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> EvaluationResult:
    """Score the frames ``FOLDER/<clip>/*.png``, with clips named as in the dataset.

    A folder contains an image for every frame that the protocol scores. Frames are matched by the numbers in the file
    names (``0003.png`` and ``im3.png`` are the same frame); names without numbers must be equal. The frames of a video
    are numbered from 0, or all of them from 1.

    Args:
        folder: root folder of the images.
        data: the dataset, as for :func:`workbench.evaluation.evaluate.evaluate`.
        protocol: one of ``PROTOCOLS``, or its name.
        name: name of the method; the folder's name by default.
        temporal: whether to compute the temporal metrics too.
        perceptual: network for LPIPS and tLP, which are computed with it only.
        clips: names of the clips to score; all by default.
        progress: called after every frame.

    Raises:
        DataError: a clip without a folder, frames without an image, or images that are not a frame; all are named.
        VideoError: an image that cannot be read, or two images of one frame.
        ShapeError: an image of another size than the ground truth; the message names clip and frame.
    """
    chosen = find_protocol(protocol) if isinstance(protocol, str) else protocol
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; want one folder of images per clip, {root}/<clip>/*.png")
    opened = open_clips(chosen, data)
    opened = opened.only(clips) if clips else opened
    matches = {clip.name: _match(root / clip.name, clip, chosen) for clip in opened}
    faults = [fault for _, fault in matches.values() if fault]
    if faults:
        raise DataError(f"{root}: not the frames of {opened.name}: {'; '.join(faults[:8])}")

    def read(clip: ClipEntry, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        files, _ = matches[clip.name]
        for image in (read_image(files[number]) for number in numbers):
            yield crop_to_scale(image, clip.scale) if size_of(image) == "{}x{}".format(*clip.size) else image

    return score_clips(
        read,
        opened,
        chosen,
        name=name or root.resolve().name,
        note="frames of another program",
        low="not known",
        temporal=temporal,
        perceptual=perceptual,
        selected=bool(clips),
        progress=progress,
    )


def _match(folder: Path, clip: ClipEntry, protocol: Protocol) -> tuple[dict[int, Path], str]:
    """Match the images of another program to the frames of a clip by the numbers in their names.

    Returns:
        Frame number to image, for the scored frames, and a description of missing and surplus images.
    """
    if not folder.is_dir():
        return {}, f"{clip.name} is missing"
    files, scored = list_images(folder), protocol.scored_frames(clip)
    stems = [file.stem for file in files]
    if isinstance(clip.source, FrameFolder):
        namings = [[file.stem for file in clip.source.files()]]
    else:  # frames without names: numbered from 0, or all of them from 1, as FFmpeg numbers them
        namings = [[f"{number:08d}" for number in range(first, first + clip.frames)] for first in (0, 1)]
    match = match_frames(namings[0], stems)
    if len(namings) > 1 and len(stems) == clip.frames:
        match = next((other for names in namings if not describe_mismatch(other := match_frames(names, stems))), match)
    missing = [namings[0][number] for number in scored if match.positions[number] is None]
    fault = describe_mismatch(match._replace(missing=missing))
    if missing and not match_frames(namings[0], stems, allow_offset=True).missing:
        fault += f"; numbered from {stems[0]}, the ground truth from {namings[0][0]}: rename them"
    found = {number: files[at] for number in scored if (at := match.positions[number]) is not None}
    return found, f"{clip.name}: {fault}" if fault else ""
