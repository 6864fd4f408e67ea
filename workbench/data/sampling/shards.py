"""Shards: training footage in tar files that are read sequentially, for clusters, in the layout of WebDataset.

A sample is a septuplet: two members ``<name>.high.npy`` and ``<name>.low.npy``, uint8 ``(7, H, W, 3)``. They are npy
and not PNG because a reader that decodes PNGs is 19 times slower; PNG would make the files six times smaller.

WebDataset writes the members, groups them to samples, splits the files among machines and readers, and shuffles. Its
decoder is not used, because it unpickles files named ``.pkl`` and ``.pth``. Its reader is not used either: it executes
a name that begins with ``pipe:``, and ignores unknown members. Here a member that is not named in :data:`HANDLERS` is
refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from itertools import count, islice, repeat
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from webdataset.filters import shuffle
from webdataset.shardlists import split_by_node
from webdataset.tariterators import group_by_keys
from webdataset.utils import pytorch_worker_info
from webdataset.writer import TarWriter

from workbench.data.preparation.manifest import MANIFEST, Chunk, Split, read_manifest
from workbench.data.preparation.shots import SEPTUPLET, Window
from workbench.data.sampling.arrays import require_chunks
from workbench.data.sampling.crops import Pair, check_size, random_crop, to_batch
from workbench.data.sampling.file_state import FileState
from workbench.errors import DataError

T = TypeVar("T")

SAMPLES_PER_SHARD = 64
"""Most septuplets in one tar file: 160 MB at 448x256."""

SHUFFLE_BUFFER = 32
"""Septuplets in the shuffle buffer of a reader: 80 MB at 448x256."""


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    if by_columns or kind != np.uint8:
        raise ValueError(f"want uint8 in C order, got {kind}")
    return np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)


HANDLERS: dict[str, Callable[[bytes], np.ndarray]] = {"high.npy": _array, "low.npy": _array}
"""Decoder of a member by the end of its name; members of any other name are refused."""


class ShardWriter:
    """Writer of the septuplets of one source, up to :data:`SAMPLES_PER_SHARD` to a file.

    The same septuplets give the same bytes.

    Args:
        folder: the folder of the files.
        source: name of the source.
        split: split of the source; the names of the files begin with it.
    """

    def __init__(self, folder: Path, source: str, split: Split) -> None:
        self.folder, self.source, self.split = folder, source, split
        self._chunks: list[Chunk] = []
        self._file: IO[bytes] | None = None
        self._samples, self._first, self._size = 0, 0, (0, 0)
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, window: Window, low: np.ndarray, tile: int) -> None:
        """Write a tile of seven frames in both resolutions as one sample."""
        _, height, width, _ = window.frames.shape
        if self._file is None:
            self._file = (self.folder / self._name()).open("wb")
            self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")
            self._samples, self._first, self._size = 0, window.numbers[0], (width, height)
        key = f"{self.source}-{window.numbers[0]:07d}-{tile}"
        self._tar.write({"__key__": key, "high.npy": _npy(window.frames), "low.npy": _npy(low)})
        self._samples += 1
        if self._samples == SAMPLES_PER_SHARD:
            self.close()

    def close(self) -> tuple[Chunk, ...]:
        """Finish the open file, and return all chunks written so far."""
        if self._file is not None:
            with self._file:
                self._tar.close()
            name = self._name()
            chunk = Chunk(
                name=name.removesuffix(".tar"), high=name, low=name, first=self._first, frames=SEPTUPLET,
                size=self._size, septuplets=self._samples,
            )  # fmt: skip
            self._chunks.append(chunk)
            self._file = None
        return tuple(self._chunks)

    def abandon(self) -> None:
        """Close an unfinished file."""
        if self._file is not None:
            self._file.close()

    def _name(self) -> str:
        return f"{self.split}-{self.source}-{len(self._chunks):03d}.tar"


def _npy(frames: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(frames), allow_pickle=False)
    return content.getvalue()


@dataclass(frozen=True)
class Shard:
    """Tar file of a set, with its entry in the manifest."""

    path: Path
    samples: int
    num_bytes: int
    low_size: tuple[int, int]


def is_shard_set(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder was prepared by ``workbench prepare --format shards`` and is complete."""
    folder = Path(folder)
    return (folder / MANIFEST).is_file() and read_manifest(folder).settings.format == "shards"


def open_shards(
    folder: str | os.PathLike[str], split: Split = "train", *, scale: int | None = None, degradation: str | None = None
) -> list[Shard]:
    """Return the tar files of a folder made by ``workbench prepare --format shards``, after a check of their sizes.

    Args:
        folder: the prepared folder.
        split: train or validation.
        scale: required scale; None: any.
        degradation: required family of the low resolution; None: any.

    Raises:
        DataError: the folder was not prepared as shards or is incomplete, the split is empty, the scale or family is
            another one, or a file is missing or truncated.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    settings = manifest.settings
    if settings.format != "shards":
        raise DataError(f"{folder}: want shards, got {settings.format}; prepare it with --format shards")
    manifest.check_degradation(folder, degradation or settings.degradation, scale or settings.scale)
    sizes = manifest.sizes(split)
    shards = [
        Shard(
            folder / chunk.high,
            chunk.septuplets,
            sizes[chunk.high],
            (chunk.size[0] // settings.scale, chunk.size[1] // settings.scale),
        )
        for chunk in require_chunks(manifest, folder, split)
    ]
    for shard in shards:
        FileState.of(shard.path, shard.num_bytes)
    return shards


def read_members(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the members of a tar file as WebDataset groups them: ``fname``, ``data``, ``__url__``.

    Raises:
        DataError: the file is not an uncompressed tar file, is truncated, or has a member that is not named in
            :data:`HANDLERS`.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                named = member.isreg() and not member.issparse() and member.name.partition(".")[2] in HANDLERS
                content = tar.extractfile(member) if named else None
                if content is None:
                    wanted = " or ".join(f"*.{end}" for end in HANDLERS)
                    raise DataError(
                        f"{path}: member {member.name!r} is not a file called {wanted}; nothing else is read"
                    )
                if member.size > path.stat().st_size:
                    raise tarfile.ReadError(f"{member.name} would be larger than the file")
                yield {"fname": member.name, "data": content.read(), "__url__": os.fspath(path)}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: truncated or not a tar file ({error}); copy it again") from error


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the encoded septuplets of a tar file: ``__key__``, ``__url__``, and its two members by their endings.

    Raises:
        DataError: as :func:`read_members`, or two members have one name.
    """
    try:
        yield from group_by_keys(read_members(path), lcase=False)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error.args[0]}") from error


def read_sample(sample: dict[str, Any]) -> Pair:
    """Decode the two arrays of a sample as WebDataset groups it.

    Raises:
        DataError: one is missing or damaged, or their sizes do not match.
    """
    where = f"{sample['__url__']}: {sample['__key__']}"
    try:
        pair = Pair(**{end.removesuffix(".npy"): handler(sample[end]) for end, handler in HANDLERS.items()})
        pair.scale  # noqa: B018 - raises an error where the sizes do not match
    except KeyError as error:
        raise DataError(f"{where}: {error} is missing; copy the file again") from error
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    return pair


@dataclass(eq=False, repr=False)
class ShardSampler(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of crops from shards, for a DataLoader with ``batch_size=None``; :meth:`after` has one.

    In every epoch the files are shuffled and distributed among machines (``RANK``, ``WORLD_SIZE``, or torch's process
    group) and the DataLoader's workers. Each worker reads its files sequentially through a shuffle buffer. The order is
    a function of ``(seed, epoch)`` and of the numbers of machines and workers; the position of a crop is a function of
    ``(seed, epoch, name of the septuplet)`` alone.

    Args:
        shards: from :func:`open_shards`.
        crop_size: side of a crop in low-resolution pixels.
        num_frames: consecutive frames of a crop, 7 at most.
        batch_size: crops per batch; in :meth:`after`, of all processes together.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: with the epoch, decides every draw.
        done: batches of this machine to skip, because a resumed run was trained on them. Of the files before that
            position, only those of the septuplets in the shuffle buffer are read.

    Raises:
        DataError: a septuplet is too short or too small for the crops; at the first batch: there are fewer files than
            readers, or as :func:`read_members` and :func:`read_sample`.

    Example:
        >>> crops = ShardSampler(open_shards("set"), crop_size=32, num_frames=5, batch_size=4)  # doctest: +SKIP
        >>> batches = DataLoader(crops, None, num_workers=2)  # doctest: +SKIP
    """

    shards: list[Shard]
    _: KW_ONLY
    crop_size: int
    num_frames: int
    batch_size: int
    augment: bool = True
    seed: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        for shard in self.shards:
            width, height = shard.low_size
            check_size((SEPTUPLET, height, width), shard.path.name, self.crop_size, self.num_frames)

    def after(
        self, step: int, steps: int, *, workers: int = 0, share: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of the steps after ``step``, up to and including ``steps``.

        Arguments as in :meth:`workbench.data.sampling.crops.StepSampler.after`. The batch of a step depends on the seed
        and on the numbers of processes and workers.
        """
        batches = replace(self, batch_size=len(range(self.batch_size)[share]), done=step)
        return islice(DataLoader(batches, batch_size=None, num_workers=workers), steps - step)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        _, machines, worker, workers = pytorch_worker_info()
        if len(self.shards) < machines * workers:
            raise DataError(
                f"{len(self.shards)} tar files cannot feed {machines} machines with {workers} readers each; take fewer "
                "readers, or prepare more footage"
            )
        worker = (worker + self.done) % workers  # batches come from the workers in turn
        done = (self.done + workers - 1 - worker) // workers * self.batch_size
        septuplets = self._septuplets(worker, workers, done)
        while True:
            yield to_batch([self._crop(epoch, sample) for epoch, sample in islice(septuplets, self.batch_size)])

    def order(self, epoch: int) -> list[Shard]:
        """Return the files of an epoch in the order in which they are distributed."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        return [self.shards[index] for index in order]

    def _septuplets(self, worker: int, workers: int, done: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the epoch and the encoded septuplets of one reader of this machine after ``done`` septuplets."""
        for epoch in count():
            mine = list(islice(split_by_node(self.order(epoch)), worker, None, workers))
            available = sum(shard.samples for shard in mine)
            if done >= available:
                done -= available
                continue
            # The order depends on the counts alone; so the septuplets before the position are known without a read.
            passed = set(islice(self._shuffled(range(available), epoch, worker), done))
            septuplets = self._shuffled(_read(mine, passed), epoch, worker)
            yield from ((epoch, sample) for sample in islice(septuplets, done, None) if sample is not None)
            done = 0

    def _shuffled(self, items: Iterable[T], epoch: int, worker: int) -> Iterator[T]:
        rng = random.Random(f"{self.seed} {epoch} {worker}")
        return shuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER, rng=rng)(iter(items))

    def _crop(self, epoch: int, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        pair = read_sample(sample)
        check_size(pair.low_shape, sample["__key__"], self.crop_size, self.num_frames)
        name = int.from_bytes(hashlib.sha256(sample["__key__"].encode()).digest()[:8])
        return random_crop(
            pair, np.random.default_rng((self.seed, epoch, name)), self.crop_size, self.num_frames, augment=self.augment
        )


def _read(shards: Iterable[Shard], passed: set[int]) -> Iterator[dict[str, Any] | None]:
    """Yield the encoded septuplets of some files; None for each of a file that is not needed, which stays closed.

    Args:
        shards: the files in the order of reading.
        passed: the septuplets that are not needed, counted from 0 over all files.

    Raises:
        DataError: as :func:`read_samples`, or a file has not as many septuplets as the manifest lists.
    """
    first = 0
    for shard in shards:
        numbers = range(first, first + shard.samples)
        first += shard.samples
        if passed.issuperset(numbers):
            yield from repeat(None, shard.samples)
            continue
        found = 0
        for found, sample in enumerate(read_samples(shard.path), 1):  # noqa: B007 - the last count is checked
            yield sample
        if found != shard.samples:
            raise DataError(f"{shard.path}: want {shard.samples} septuplets, got {found}; copy it again")
