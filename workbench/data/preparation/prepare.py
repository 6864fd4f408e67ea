"""A person's own footage becomes a training set, source by source, so that a job that was killed goes on where it was.

Every source is decoded frame by frame, shrunk to hide the artefacts of its coding, cut at its cuts, and freed of what
is black, repeated or still (:mod:`workbench.data.preparation.shots`). A folder of frames is also cut where frame
numbers are missing. What is left is written in pieces of seven frames; a
source appears whole, with its checksums, or not at all. The same footage and settings give the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout

from workbench.data.degradation.families import downscale_bi
from workbench.data.preparation.contact_sheet import write_contact_sheet
from workbench.data.preparation.manifest import (
    MANIFEST,
    WORK,
    Manifest,
    Settings,
    Source,
    describe_files,
    is_whole,
    parse_source,
    read_manifest,
)
from workbench.data.preparation.shots import SEPTUPLET, filter_windows, motion_score, septuplets
from workbench.data.preparation.sources import Found, find_sources
from workbench.data.preparation.vimeo_layout import SeptupletWriter, first_group, groups_of, write_lists, write_note
from workbench.data.sampling.arrays import ArrayWriter
from workbench.data.sampling.footage_motion import MotionRecorder, summarize_motion
from workbench.data.sampling.shards import ShardWriter
from workbench.errors import BusyError, DataError, VideoError
from workbench.scenes import write_atomic
from workbench.tensors import to_float, to_uint8

COUNTS = ("frames", "cuts", "gaps", "black", "repeated", "still", "rest", "still_tiles")
"""What is counted of a source, see :class:`workbench.data.preparation.manifest.Source`."""

OURS = re.compile(
    r"(high|low|motion)/[^/]+\.npy|(low/)?sequences/\d+/\d+/im\d\.png|low/degradation\.json|(train|validation)-[^/]+\.tar"
    r"|sep_(train|test)list\.txt|contact_sheet\.png"
)
"""Files that may be removed from a folder that is prepared anew."""

PNG_SHARE = 0.7
"""Of the raw size, at most, in ordinary footage; only for the look at the free space."""

OnDamage = Literal["raise", "keep"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far :func:`prepare` is.

    Args:
        stage: looking, preparing or finishing.
        source: the one at hand.
        done: sources that are done.
        sources: how many there are.
        frames: read so far, of those that had to be read.
        expected: how many have to be read altogether.
        septuplets: written so far.
    """

    stage: Literal["looking", "preparing", "finishing"]
    source: str
    done: int
    sources: int
    frames: int = 0
    expected: int = 0
    septuplets: int = 0


Observer = Callable[[Progress], None]


def prepare(
    footage: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    on_damage: OnDamage = "raise",
    observe: Observer | None = None,
) -> Manifest:
    """Make a training set of footage; a job that was stopped or killed goes on with its next source.

    A folder that is done is looked over, checksum by checksum, and left as it is; what is damaged in it is made again,
    sources that are new are added and those that are no longer wanted removed.

    Args:
        footage: video files, folders of pictures, folders that hold either.
        out: the folder to write; new, empty, or of an earlier call with the same settings.
        settings: see there.
        on_damage: of a file that is cut off or damaged, ``keep`` the good frames and note it, or ``raise``.
        observe: called before every frame.

    Returns:
        What ``manifest.json`` says.

    Raises:
        DataError: no footage, nothing usable in it, sources of one name, a folder that holds something else or was
            made with other settings, not enough space, or a folder that cannot be written to. Sources that are done
            stay; nothing is half-written.
        VideoError: a source that cannot be read.
        ConfigError: a source that is too small for the tiles wanted.
        UnknownNameError: a validation source that is not there.
        BusyError: somebody else is preparing this folder.
    """
    settings, out, observe = settings or Settings(), Path(out), observe or (lambda progress: None)

    def looking(source: str, done: int, sources: int) -> None:
        observe(Progress(stage="looking", source=source, done=done, sources=sources))

    before, finished = _before(out, settings)
    found = find_sources([Path(path) for path in footage], out, settings, looking)
    kept = _kept(found, before, out, settings)
    if finished and len(kept) == len(found) == len(before) and is_whole(out, finished.files):
        return finished
    _check_space(out, [clip for clip in found if clip.name not in kept], settings)
    fresh = not out.exists()
    try:
        (out / WORK).mkdir(parents=True, exist_ok=True)
        with FileLock(out / WORK / "lock").acquire(timeout=0):
            manifest = _work(found, kept, out, settings, on_damage, observe)
        shutil.rmtree(out / WORK)
        return manifest
    except Timeout as error:
        raise BusyError(f"{out}: somebody else is preparing it; wait for that job or stop it") from error
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); free space or choose another folder, then run the "
            "same again: sources that are done stay"
        ) from error
    finally:
        shutil.rmtree(out / WORK / "now", ignore_errors=True)
        if not list(out.glob(f"{WORK}/*.json")):  # not even a beginning
            shutil.rmtree(out / WORK, ignore_errors=True)
            if fresh and out.is_dir() and not any(out.iterdir()):
                out.rmdir()


# Before the work


def _before(out: Path, settings: Settings) -> tuple[dict[str, Source], Manifest | None]:
    """What an earlier call has left: its sources, and its manifest if it came to its end."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; want a folder to write to")
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out)
        _check_same(out, manifest.settings.to_dict(), settings)
        return {source.name: source for source in manifest.sources}, manifest
    if not (out / WORK).is_dir():
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out}: holds something that was not prepared here; choose a new or an empty folder")
        return {}, None
    records: dict[str, Source] = {}
    for path in sorted((out / WORK).glob("*.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            settings_then, source = said["settings"], parse_source(said["source"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete {out} and prepare it anew") from error
        _check_same(out, settings_then, settings)
        records[source.name] = source
    return records, None


def _check_same(out: Path, before: Mapping[str, object], settings: Settings) -> None:
    now = settings.to_dict()
    other = [f"{name} {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]]
    if other:
        raise DataError(
            f"{out}: was made with other settings ({'; '.join(other)}); choose another folder, or delete it"
        )


def _kept(found: Sequence[Found], before: Mapping[str, Source], out: Path, settings: Settings) -> dict[str, Source]:
    """The sources that are done and as they should be.

    Septuplets in folders are numbered through, so there nothing is kept behind a source that has to be made.
    """
    kept: dict[str, Source] = {}
    for clip in found:
        source, groups = before.get(clip.name), sum(groups_of(source.pieces) for source in kept.values())
        fits = (
            source is not None
            and (source.sha256, source.split, source.shrink) == (clip.sha256, clip.split, clip.shrink)
            and source.gaps == clip.missing
            and is_whole(out, source.files)
        )
        if settings.form == "folders" and not (fits and source and first_group(source.pieces) in (None, groups + 1)):
            break
        if fits and source:
            kept[clip.name] = source
    return kept


def _check_space(out: Path, todo: Sequence[Found], settings: Settings) -> None:
    raw = sum(clip.frames * sum(tile.height * tile.width * 3 for tile in clip.tiles) for clip in todo)
    wanted = raw * (1 + 1 / settings.scale**2) * (SEPTUPLET / settings.stride)
    wanted *= PNG_SHARE if settings.form == "folders" else 1
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise DataError(
            f"{out}: up to {wanted / 1e9:,.1f} GB will be written, and {free / 1e9:,.1f} GB are free; free some, "
            "choose another folder, take less footage, or shrink it more"
        )


# The work


def _work(
    found: Sequence[Found], kept: Mapping[str, Source], out: Path, settings: Settings, on_damage: OnDamage,
    observe: Observer,
) -> Manifest:  # fmt: skip
    for path in (out / WORK).glob("*.json"):
        path.unlink()
    for source in kept.values():
        _record(out, source, settings)
    (out / MANIFEST).unlink(missing_ok=True)
    _sweep(out, {path for source in kept.values() for path in source.files})
    sources: list[Source] = []
    progress = Progress(
        stage="preparing", source="", done=0, sources=len(found),
        expected=sum(clip.frames for clip in found if clip.name not in kept),
    )  # fmt: skip
    for number, clip in enumerate(found):
        written = sum(source.septuplets for source in sources)
        progress = replace(progress, source=clip.name, done=number, septuplets=written)
        source = kept.get(clip.name)
        if source is None:
            groups = sum(groups_of(source.pieces) for source in sources)
            source, progress = _prepare_one(clip, out, settings, groups, on_damage, progress, observe)
            _record(out, source, settings)
        sources.append(source)
    manifest = Manifest(settings=settings, sources=tuple(sources), versions=_versions())
    if not manifest.septuplets():
        shutil.rmtree(out / WORK)
        counts = sum((Counter(source.counts) for source in sources), Counter[str]())
        raise DataError(
            f"nothing usable in the footage: of {counts['frames']} frames {counts['black']} are black, "
            f"{counts['repeated']} repeated, {counts['still']} still, and {counts['rest']} are left in stretches of "
            f"fewer than {SEPTUPLET} between {counts['cuts']} cuts and {counts['gaps']} gaps in the frame numbers; "
            "lower black_below, repeat_below or still_below, or take other footage"
        )
    observe(replace(progress, stage="finishing", done=len(found), septuplets=manifest.septuplets()))
    files = [write_contact_sheet(out, manifest)]
    if settings.form == "folders":
        files += [*write_lists(out, manifest), write_note(out, settings, manifest.versions)]
    moved = [source for source in sources if source.split == "train" and source.motion]
    motion = summarize_motion([np.load(out / source.motion_file, allow_pickle=False) for source in moved])
    manifest = replace(manifest, files=describe_files(out, files), motion=motion)
    write_atomic(out / MANIFEST, manifest.to_json())
    return manifest


def _prepare_one(
    clip: Found, out: Path, settings: Settings, groups: int, on_damage: OnDamage, progress: Progress, observe: Observer
) -> tuple[Source, Progress]:
    """Write one source under a hidden name, and move it to its place when it is whole."""
    now = out / WORK / "now"
    shutil.rmtree(now, ignore_errors=True)
    counts, damage, begun, written = Counter[str](), "", progress.frames, progress.septuplets

    def frames() -> Iterator[np.ndarray]:
        nonlocal damage, progress
        try:
            for frame in clip.clip.stream():
                observe(progress)
                yield _shrunk(frame, clip.shrink)
                progress = replace(progress, frames=begun + counts["frames"])
        except VideoError as error:
            if on_damage == "raise" or not counts["frames"]:
                raise
            damage = str(error).removeprefix(f"{clip.path}: ")

    writer, recorder = _writer(now, clip, settings, groups), MotionRecorder(joined=settings.form == "arrays")
    try:
        for window in septuplets(filter_windows(frames(), settings, counts, gaps=clip.gaps), settings.stride):
            for number, tile in enumerate(clip.tiles):
                part = tile.of(window)
                if settings.tile and settings.form != "arrays" and motion_score(part.luma) < settings.still_below:
                    counts["still_tiles"] += 1
                    continue
                recorder.add(writer.add(part, number), window.stretch, number)
                written += 1
            progress = replace(progress, septuplets=written)
        pieces = writer.close()
    finally:
        writer.abandon()
    motion = recorder.motion()
    source = Source(
        name=clip.name, file=clip.path.name, sha256=clip.sha256, split=clip.split, size=clip.size, shrink=clip.shrink,
        counts={name: counts[name] for name in COUNTS}, damage=damage, gaps=clip.missing,
        pieces=pieces, files={}, motion=None if motion is None else summarize_motion([motion]),
    )  # fmt: skip
    if motion is not None:
        (now / source.motion_file).parent.mkdir()
        np.save(now / source.motion_file, motion)
    source = replace(source, files=describe_files(now, [path for path in now.rglob("*") if path.is_file()]))
    for path in source.files:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(now / path, out / path)
    return source, replace(progress, frames=begun + clip.frames)


def _writer(folder: Path, clip: Found, settings: Settings, groups: int) -> ArrayWriter | SeptupletWriter | ShardWriter:
    if settings.form == "arrays":
        return ArrayWriter(folder, clip.name, settings)
    if settings.form == "folders":
        return SeptupletWriter(folder, settings, groups=groups)
    return ShardWriter(folder, clip.name, settings, clip.split)


def _shrunk(frame: np.ndarray, factor: int) -> np.ndarray:
    """One frame ``(H, W, 3)`` made smaller; float32 will do here, where nothing is compared with MATLAB's."""
    if factor == 1:
        return frame
    return to_uint8(downscale_bi(to_float(np.array(frame[None])), factor, quantise=True))[0]


def _record(out: Path, source: Source, settings: Settings) -> None:
    """Note that a source is done."""
    said = {"settings": settings.to_dict(), "source": asdict(source)}
    write_atomic(out / WORK / f"{source.name}.json", json.dumps(said, ensure_ascii=False))


def _sweep(out: Path, keep: set[str]) -> None:
    """Remove what an earlier call has written and nobody needs; files of others stay."""
    for path in sorted(out.rglob("*"), reverse=True):
        relative = path.relative_to(out).as_posix()
        if path.is_file() and OURS.fullmatch(relative) and relative not in keep:
            path.unlink()
        elif path.is_dir() and re.match(r"(high|low|motion|sequences)(/|$)", relative) and not any(path.iterdir()):
            path.rmdir()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("workbench", "av", "numpy", "opencv-python-headless", "pillow", "torch")}
