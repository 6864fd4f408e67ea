"""Checksums of training data, so that a run is resumed with the same data.

=====================  ==============================================================================
data                   files of the checksum, in this order
=====================  ==============================================================================
sample, video file     the file
folder of frames       its images in natural order
folder of stills       its images and those in its subfolders, in natural order of their paths
pool of stills         its arrays, and the listed checksums of its files
prepared set           the files of one split, as the manifest lists them, and their listed checksums
Vimeo-90K layout       the images of the septuplets in the list of one split
=====================  ==============================================================================

The SHA-256 covers the number of files, their sizes and their content. Above :data:`WHOLE_BYTES` the content is sampled:
:data:`BLOCKS` blocks of :data:`BLOCK_BYTES`, evenly spaced over all bytes, the first and the last included; above
:data:`MANY_FILES` files, as many evenly spaced ones are read. A change of a large file that keeps its size and falls
between the samples is not detected. Names, folders and modification times are not part of the checksum: data may be
moved and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from workbench.data.datasets.clip_set import FrameFolder
from workbench.data.datasets.clips import split_spec
from workbench.data.datasets.samples import SAMPLES, sample_files
from workbench.data.datasets.vimeo import septuplets
from workbench.data.preparation.manifest import MANIFEST, Split, read_manifest
from workbench.data.preparation.vimeo_layout import LISTS
from workbench.data.sampling.pool import is_pool, read_pool
from workbench.data.sampling.stills import still_files
from workbench.data.video.frame_folder import image_files
from workbench.errors import DataError, VideoError

WHOLE_BYTES = 64 * 2**20
BLOCKS = 256
BLOCK_BYTES = 64 * 1024
MANY_FILES = 16_384

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class DataChecksum:
    """Identity of one clip or set: equal where the same frames are read from it.

    Attributes:
        clip: name or path; ignored in comparisons.
        kind: kind of its files: sample, video, frames, stills, pool, arrays, folders, shards or vimeo90k.
        part: crop in brackets after the name.
        files: number of files.
        bytes: size of all files that were read.
        whole: whether all content was read, or samples of it.
        sha256: checksum, see the module.
    """

    clip: str = field(compare=False)
    kind: str
    part: str
    files: int
    bytes: int
    whole: bool
    sha256: str

    def __str__(self) -> str:
        part = f", part [{self.part}]" if self.part else ""
        return f"{self.kind} of {self.files:,} file(s), {self.bytes:,} bytes, sha256 {self.sha256[:12]}{part}"

    @classmethod
    def from_dict(cls, saved: Any) -> DataChecksum:
        """Read a checksum back from JSON.

        Raises:
            DataError: it is damaged.
        """
        try:
            return cls(**saved)
        except TypeError as error:
            raise DataError(f"data: not a checksum of data that can be read ({error})") from error


def checksum_clip(spec: str, split: Split = "train") -> DataChecksum:
    """Return the checksum of a clip or set as :func:`workbench.data.sampling.pairs.open_pairs` reads it.

    Args:
        spec: name or path, with an optional crop in brackets.
        split: split of a prepared set.

    Raises:
        DataError: a prepared set is incomplete, or a sample is not installed.
        VideoError: a file or folder does not exist or cannot be read.
    """
    folder, listed, part = Path(spec), "", ""
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        tables = [source.files for source in manifest.sources if source.split == split]
        kind, listed = manifest.settings.format, json.dumps([list(table.values()) for table in tables])
        files = [folder / path for table in tables for path in table]
    elif (folder / LISTS[split]).is_file():
        entries = septuplets(folder, split="train" if split == "train" else "test", targets="all").clips
        kind, listed = "vimeo90k", f"{len(entries)}"
        sources = [entry.source for entry in _spread(entries, MANY_FILES // len(entries[0].targets))]
        files = [file for source in sources if isinstance(source, FrameFolder) for file in source.files()]
    else:
        name, crop = split_spec(spec)
        part, path = (crop or "").replace(" ", ""), Path(name)
        if name in SAMPLES:
            kind, files = "sample", sample_files(name)
        elif path.is_dir():
            kind, files = "frames", image_files(path)
        else:
            kind, files = "video", [path]
    return _of_files(spec, kind, files, part=part, listed=listed)


def checksum_stills(folder: str) -> DataChecksum:
    """Return the checksum of the still images of a training: a folder with its subfolders, or a pool.

    Raises:
        DataError: the folder does not exist or has no images, or the pool is incomplete.
        VideoError: a file cannot be read.
    """
    if is_pool(folder):
        table = read_pool(folder).files
        files = [Path(folder) / name for name in table if name.endswith(".npy")]
        return _of_files(folder, "pool", files, listed=json.dumps(list(table.values())))
    return _of_files(folder, "stills", still_files(folder))


def _of_files(spec: str, kind: str, files: Sequence[Path], *, part: str = "", listed: str = "") -> DataChecksum:
    try:
        count, num_bytes, whole, digest = len(files), *_digest(_spread(files, MANY_FILES), f"{len(files)} {listed}")
    except OSError as error:
        raise VideoError(f"{error.filename or spec}: cannot be read ({error.strerror})") from error
    return DataChecksum(
        clip=spec, kind=kind, part=part, files=count, bytes=num_bytes, whole=whole and count <= MANY_FILES,
        sha256=digest,
    )  # fmt: skip


def _digest(files: Sequence[Path], head: str) -> tuple[int, bool, str]:
    """Return the bytes of some files together, whether all were read, and the SHA-256 of head, sizes and content."""
    sizes = [os.stat(file).st_size for file in files]
    ends, total = list(accumulate(sizes)), sum(sizes)
    digest = hashlib.sha256(f"{head} {sizes}\n".encode())
    if total <= WHOLE_BYTES:
        for file in files:
            digest.update(file.read_bytes())
        return total, True, digest.hexdigest()
    for number in range(BLOCKS):
        at = number * (total - BLOCK_BYTES) // (BLOCKS - 1)
        index = bisect_right(ends, at)
        with files[index].open("rb") as file:
            file.seek(at - (ends[index] - sizes[index]))
            digest.update(file.read(BLOCK_BYTES))
    return total, False, digest.hexdigest()


def _spread(items: Sequence[_T], most: int) -> list[_T]:
    """Return at most ``most`` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]
