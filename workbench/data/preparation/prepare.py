"""Preparation of a training set from footage, source by source, so that a killed job continues with its next source.

Every source is decoded frame by frame, downscaled to hide compression artifacts, split at its cuts, and filtered of
black, repeated and still frames (:mod:`workbench.data.preparation.shots`). A folder of frames is also split where frame
numbers are missing. The rest is written in windows of seven frames. A source appears whole, with its checksums, or not
at all. The same footage and settings give the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from workbench.aliases import PREPARE_SETTINGS, PREPARED_SOURCE, renamed
from workbench.atomic_files import write_atomic
from workbench.data.degradation.families import degrade
from workbench.data.degradation.identify import INFO_FILE, DegradationInfo, write_info
from workbench.data.preparation.contact_sheet import write_contact_sheet
from workbench.data.preparation.manifest import (
    MANIFEST,
    WORK,
    Manifest,
    PrepareSettings,
    Source,
    describe_files,
    is_whole,
    read_manifest,
)
from workbench.data.preparation.output import (
    check_free_space,
    check_output,
    check_settings,
    exclusive,
    parsing,
    read_json,
)
from workbench.data.preparation.shots import SEPTUPLET, filter_windows, motion_score, septuplets
from workbench.data.preparation.sources import FoundSource, find_sources
from workbench.data.preparation.vimeo_layout import SeptupletWriter, count_groups, first_group, write_lists
from workbench.data.sampling.arrays import ArrayWriter
from workbench.data.sampling.footage_motion import MotionRecorder, summarize_motion
from workbench.data.sampling.shards import ShardWriter
from workbench.errors import DataError, VideoError
from workbench.process import library_versions
from workbench.settings import from_json
from workbench.tensors import to_float, to_uint8

COUNTS = ("frames", "cuts", "gaps", "black", "repeated", "still", "rest", "still_tiles")
"""Counts of a source, see :class:`workbench.data.preparation.manifest.Source`."""

WRITTEN_FILES = re.compile(
    r"(high|low|motion)/[^/]+\.npy|(low/)?sequences/\d+/\d+/im\d\.png|low/degradation\.json|(train|validation)-[^/]+\.tar"
    r"|sep_(train|test)list\.txt|contact_sheet\.png"
)
"""Paths of files that a preparation writes, and may remove when it is run again."""

PNG_SHARE = 0.7
"""Upper limit of the size of PNGs of ordinary footage, relative to raw frames; for the check of the free space."""

OnDamage = Literal["raise", "keep"]


@dataclass(frozen=True, kw_only=True)
class PrepareProgress:
    """Progress of :func:`prepare`.

    Args:
        stage: inspecting, preparing or finishing.
        source: name of the current source.
        done: number of finished sources.
        sources: number of all sources.
        frames: number of frames read so far.
        expected: number of frames to read.
        septuplets: number of septuplets written so far.
    """

    stage: Literal["inspecting", "preparing", "finishing"]
    source: str
    done: int
    sources: int
    frames: int = 0
    expected: int = 0
    septuplets: int = 0


Observer = Callable[[PrepareProgress], None]


def prepare(
    footage: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: PrepareSettings | None = None,
    *,
    on_damage: OnDamage = "raise",
    observe: Observer | None = None,
) -> Manifest:
    """Prepare a training set from footage; a job that was stopped or killed continues with its next source.

    The checksums of a finished folder are verified; damaged sources are prepared again, new sources are added, and
    sources that are no longer part of the footage are removed.

    Args:
        footage: video files, folders of images, or folders that contain either.
        out: the folder to write; new, empty, or of an earlier call with the same settings.
        settings: settings of the set; the defaults where left out.
        on_damage: for a truncated or damaged file: ``keep`` the good frames and record the damage, or ``raise``.
        observe: called before every frame.

    Returns:
        The content of ``manifest.json``.

    Raises:
        DataError: there is no footage, no usable frame or two sources of one name; the folder has other content, other
            settings or cannot be written to; or the disk has too little space. Finished sources are kept.
        VideoError: a source cannot be read.
        ConfigError: a source is too small for the tiles.
        UnknownNameError: a validation source does not exist.
        BusyError: another job is preparing this folder.
    """
    settings, out, observe = settings or PrepareSettings(), Path(out), observe or (lambda progress: None)

    def inspecting(source: str, done: int, sources: int) -> None:
        observe(PrepareProgress(stage="inspecting", source=source, done=done, sources=sources))

    before, finished = _earlier_state(out, settings)
    found = find_sources([Path(path) for path in footage], out, settings, inspecting)
    kept = _finished_sources(found, before, out, settings)
    if finished and len(kept) == len(found) == len(before) and is_whole(out, finished.files):
        return finished
    check_free_space(
        out,
        _estimated_bytes([clip for clip in found if clip.name not in kept], settings),
        "take less footage, or downscale it more",
    )
    created = not out.exists()
    try:
        with exclusive(out, out / WORK / "lock"):
            manifest = _prepare_all(found, kept, out, settings, on_damage, observe)
        shutil.rmtree(out / WORK)
        return manifest
    finally:
        shutil.rmtree(out / WORK / "now", ignore_errors=True)
        if not list(out.glob(f"{WORK}/*.json")):  # no source is finished
            shutil.rmtree(out / WORK, ignore_errors=True)
            if created and out.is_dir() and not any(out.iterdir()):
                out.rmdir()


# Before the work


def _earlier_state(out: Path, settings: PrepareSettings) -> tuple[dict[str, Source], Manifest | None]:
    """Return the sources that an earlier call has finished, and its manifest if it is complete."""
    check_output(out, resumable=(out / MANIFEST).is_file() or (out / WORK).is_dir())
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out)
        check_settings(out, manifest.settings.to_dict(), settings.to_dict())
        return {source.name: source for source in manifest.sources}, manifest
    records: dict[str, Source] = {}
    for path in sorted((out / WORK).glob("*.json")):
        with parsing(path):
            saved = read_json(path)
            check_settings(out, renamed(saved["settings"], PREPARE_SETTINGS), settings.to_dict())
            source: Source = from_json(Source, renamed(saved["source"], PREPARED_SOURCE))
        records[source.name] = source
    return records, None


def _finished_sources(
    found: Sequence[FoundSource], before: Mapping[str, Source], out: Path, settings: PrepareSettings
) -> dict[str, Source]:
    """Return the finished sources that are undamaged.

    Septuplets in folders are numbered consecutively, so none is kept after a source that has to be prepared.
    """
    kept: dict[str, Source] = {}
    for clip in found:
        source, groups = before.get(clip.name), sum(count_groups(source.chunks) for source in kept.values())
        fits = (
            source is not None
            and (source.sha256, source.split, source.downscale) == (clip.sha256, clip.split, clip.downscale)
            and source.gaps == clip.missing
            and is_whole(out, source.files)
        )
        if settings.format == "folders" and not (fits and source and first_group(source.chunks) in (None, groups + 1)):
            break
        if fits and source:
            kept[clip.name] = source
    return kept


def _estimated_bytes(todo: Sequence[FoundSource], settings: PrepareSettings) -> float:
    raw = sum(clip.frames * sum(tile.height * tile.width * 3 for tile in clip.tiles) for clip in todo)
    written = raw * (1 + 1 / settings.scale**2) * (SEPTUPLET / settings.stride)
    return written * (PNG_SHARE if settings.format == "folders" else 1)


# The work


def _prepare_all(
    found: Sequence[FoundSource], kept: Mapping[str, Source], out: Path, settings: PrepareSettings, on_damage: OnDamage,
    observe: Observer,
) -> Manifest:  # fmt: skip
    for path in (out / WORK).glob("*.json"):
        path.unlink()
    for source in kept.values():
        _record(out, source, settings)
    (out / MANIFEST).unlink(missing_ok=True)
    _remove_stale_files(out, {path for source in kept.values() for path in source.files})
    sources: list[Source] = []
    progress = PrepareProgress(
        stage="preparing", source="", done=0, sources=len(found),
        expected=sum(clip.frames for clip in found if clip.name not in kept),
    )  # fmt: skip
    for number, clip in enumerate(found):
        written = sum(source.septuplets for source in sources)
        progress = replace(progress, source=clip.name, done=number, septuplets=written)
        source = kept.get(clip.name)
        if source is None:
            groups = sum(count_groups(source.chunks) for source in sources)
            source, progress = _prepare_one(clip, out, settings, groups, on_damage, progress, observe)
            _record(out, source, settings)
        sources.append(source)
    manifest = Manifest(
        settings=settings,
        sources=tuple(sources),
        versions=library_versions("av", "numpy", "opencv-python-headless", "pillow", "torch"),
    )
    if not manifest.septuplets():
        shutil.rmtree(out / WORK)
        counts = sum((Counter(source.counts) for source in sources), Counter[str]())
        raise DataError(
            f"the footage has no usable frames: of {counts['frames']} frames {counts['black']} are black, "
            f"{counts['repeated']} repeated, {counts['still']} still, and {counts['rest']} are in segments of fewer "
            f"than {SEPTUPLET} between {counts['cuts']} cuts and {counts['gaps']} gaps in the frame numbers; lower "
            "black_below, repeat_below or still_below, or take other footage"
        )
    observe(replace(progress, stage="finishing", done=len(found), septuplets=manifest.septuplets()))
    files = [write_contact_sheet(out, manifest)]
    if settings.format == "folders":
        info = DegradationInfo(
            family=settings.degradation, scale=settings.scale, source="sequences", versions=manifest.versions
        )
        write_info(out / "low", info)
        files += [*write_lists(out, manifest), out / "low" / INFO_FILE]
    moved = [source for source in sources if source.split == "train" and source.motion]
    motion = summarize_motion([np.load(out / source.motion_file, allow_pickle=False) for source in moved])
    manifest = replace(manifest, files=describe_files(out, files), motion=motion)
    write_atomic(out / MANIFEST, manifest.to_json())
    return manifest


def _prepare_one(
    clip: FoundSource,
    out: Path,
    settings: PrepareSettings,
    groups: int,
    on_damage: OnDamage,
    progress: PrepareProgress,
    observe: Observer,
) -> tuple[Source, PrepareProgress]:
    """Write one source to the work folder, and move it to its place when it is whole."""
    now = out / WORK / "now"
    shutil.rmtree(now, ignore_errors=True)
    counts, damage, begun, written = Counter[str](), "", progress.frames, progress.septuplets

    def frames() -> Iterator[np.ndarray]:
        nonlocal damage, progress
        try:
            for frame in clip.clip.stream():
                observe(progress)
                yield _downscaled(frame, clip.downscale)
                progress = replace(progress, frames=begun + counts["frames"])
        except VideoError as error:
            if on_damage == "raise" or not counts["frames"]:
                raise
            damage = str(error).removeprefix(f"{clip.path}: ")

    writer, recorder = _writer(now, clip, settings, groups), MotionRecorder(joined=settings.format == "arrays")
    try:
        for window in septuplets(filter_windows(frames(), settings, counts, gaps=clip.gaps), settings.stride):
            for number, tile in enumerate(clip.tiles):
                part = tile.of(window)
                if (
                    settings.tile_shape
                    and settings.format != "arrays"
                    and motion_score(part.luma) < settings.still_below
                ):
                    counts["still_tiles"] += 1
                    continue
                low = degrade(part.frames, settings.degradation, settings.scale)
                writer.add(part, low, number)
                recorder.add(low, window.segment, number)
                written += 1
            progress = replace(progress, septuplets=written)
        chunks = writer.close()
    finally:
        writer.abandon()
    motion = recorder.motion()
    source = Source(
        name=clip.name, file=clip.path.name, sha256=clip.sha256, split=clip.split, size=clip.size,
        downscale=clip.downscale, counts={name: counts[name] for name in COUNTS}, damage=damage, gaps=clip.missing,
        chunks=chunks, files={}, motion=None if motion is None else summarize_motion([motion]),
    )  # fmt: skip
    if motion is not None:
        (now / source.motion_file).parent.mkdir()
        np.save(now / source.motion_file, motion)
    source = replace(source, files=describe_files(now, [path for path in now.rglob("*") if path.is_file()]))
    for path in source.files:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(now / path, out / path)
    return source, replace(progress, frames=begun + clip.frames)


def _writer(
    folder: Path, clip: FoundSource, settings: PrepareSettings, groups: int
) -> ArrayWriter | SeptupletWriter | ShardWriter:
    if settings.format == "arrays":
        return ArrayWriter(folder, clip.name)
    if settings.format == "folders":
        return SeptupletWriter(folder, groups=groups)
    return ShardWriter(folder, clip.name, clip.split)


def _downscaled(frame: np.ndarray, factor: int) -> np.ndarray:
    """Downscale one frame ``(H, W, 3)`` in float32, which does not match MATLAB bit by bit."""
    if factor == 1:
        return frame
    return to_uint8(degrade(to_float(np.array(frame[None])), "bi", factor, quantize=True))[0]


def _record(out: Path, source: Source, settings: PrepareSettings) -> None:
    """Record a finished source."""
    saved = {"settings": settings.to_dict(), "source": asdict(source)}
    write_atomic(out / WORK / f"{source.name}.json", json.dumps(saved, ensure_ascii=False))


def _remove_stale_files(out: Path, keep: set[str]) -> None:
    """Remove files of an earlier call that are no longer part of the set; other files are left alone."""
    for path in sorted(out.rglob("*"), reverse=True):
        relative = path.relative_to(out).as_posix()
        if path.is_file() and WRITTEN_FILES.fullmatch(relative) and relative not in keep:
            path.unlink()
        elif path.is_dir() and re.match(r"(high|low|motion|sequences)(/|$)", relative) and not any(path.iterdir()):
            path.rmdir()
