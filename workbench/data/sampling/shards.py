"""Training footage in tar files that are read from one end to the other, for clusters: WebDataset's layout.

A sample is a septuplet: two members ``<name>.high.npy`` and ``<name>.low.npy``, uint8 ``(7, H, W, 3)``. They are npy
and not PNG because a reader that decodes PNGs is 19 times slower; PNG would make the files six times smaller.

WebDataset writes the members, groups them to samples, splits the files among machines and readers, and shuffles. Its
decoder is not used: it unpickles what is called ``.pkl`` and ``.pth``. Nor does it open the files: it runs a name that
begins with ``pipe:``, and passes over members that it does not know. Here a member that is not named in
:data:`HANDLERS` is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from webdataset.filters import shuffle
from webdataset.shardlists import split_by_node
from webdataset.tariterators import group_by_keys
from webdataset.utils import pytorch_worker_info
from webdataset.writer import TarWriter

from workbench.data.degradation.families import degrade
from workbench.data.preparation.manifest import MANIFEST, Piece, Settings, Split, read_manifest
from workbench.data.preparation.shots import Window
from workbench.data.sampling.arrays import some_pieces
from workbench.data.sampling.crops import Pair, check_footage, check_size, random_crop, to_batch
from workbench.errors import DataError

SEPTUPLET = 7
"""Frames of a sample."""

SAMPLES = 64
"""Septuplets of one tar file at most: 160 MB at 448x256."""

SHUFFLE = 32
"""Septuplets that a reader holds to mix them: 80 MB at 448x256."""


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    if by_columns or kind != np.uint8:
        raise ValueError(f"want uint8 in C order, got {kind}")
    return np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)


HANDLERS: dict[str, Callable[[bytes], np.ndarray]] = {"high.npy": _array, "low.npy": _array}
"""How a member is read, by the end of its name; members of any other name are refused."""


class ShardWriter:
    """Writes the septuplets of one source, :data:`SAMPLES` to a file. The same septuplets give the same bytes.

    Args:
        folder: where the files come.
        source: name of the source.
        settings: of the set.
        split: which the source belongs to; the names of the files begin with it.
    """

    def __init__(self, folder: Path, source: str, settings: Settings, split: Split) -> None:
        self.folder, self.source, self.settings, self.split = folder, source, settings, split
        self._pieces: list[Piece] = []
        self._file: IO[bytes] | None = None
        self._samples, self._first, self._size = 0, 0, (0, 0)
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, window: Window, tile: int) -> np.ndarray:
        """Write a tile of seven frames, a sample of its own; returns its low resolution."""
        _, height, width, _ = window.frames.shape
        if self._file is None:
            self._file = (self.folder / self._name()).open("wb")
            self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")
            self._samples, self._first, self._size = 0, window.numbers[0], (width, height)
        low = degrade(window.frames, self.settings.degradation, self.settings.scale)
        key = f"{self.source}-{window.numbers[0]:07d}-{tile}"
        self._tar.write({"__key__": key, "high.npy": _npy(window.frames), "low.npy": _npy(low)})
        self._samples += 1
        if self._samples == SAMPLES:
            self.close()
        return low

    def close(self) -> tuple[Piece, ...]:
        """Finish the file that is open, and say what was written so far."""
        if self._file is not None:
            with self._file:
                self._tar.close()
            name = self._name()
            piece = Piece(
                name=name.removesuffix(".tar"), high=name, low=name, first=self._first, frames=7, size=self._size,
                septuplets=self._samples,
            )  # fmt: skip
            self._pieces.append(piece)
            self._file = None
        return tuple(self._pieces)

    def abandon(self) -> None:
        """Let go of the file; what is in it is of no use."""
        if self._file is not None:
            self._file.close()

    def _name(self) -> str:
        return f"{self.split}-{self.source}-{len(self._pieces):03d}.tar"


def _npy(frames: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(frames), allow_pickle=False)
    return content.getvalue()


@dataclass(frozen=True)
class Shard:
    """One tar file of a set, and what the manifest says of it."""

    path: Path
    samples: int
    num_bytes: int
    low_size: tuple[int, int]


def holds_shards(folder: str | os.PathLike[str]) -> bool:
    """Whether it is a finished folder that ``workbench prepare --form shards`` made."""
    folder = Path(folder)
    return (folder / MANIFEST).is_file() and read_manifest(folder).settings.form == "shards"


def open_shards(
    folder: str | os.PathLike[str], split: Split = "train", *, scale: int | None = None, degradation: str | None = None
) -> list[Shard]:
    """The tar files of a folder that ``workbench prepare --form shards`` made, after a look at their sizes.

    Args:
        folder: where they are.
        split: train or validation.
        scale: what their low resolution must be smaller by; None: whatever it is.
        degradation: the family that it must be of; None: whatever it is.

    Raises:
        DataError: not such a folder, not finished, an empty split, another scale or family, or a file that is missing
            or cut off.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    settings = manifest.settings
    if settings.form != "shards":
        raise DataError(f"{folder}: holds {settings.form}, not shards; prepare it with --form shards")
    wanted = (degradation or settings.degradation, scale or settings.scale)
    if wanted != (settings.degradation, settings.scale):
        raise DataError(
            f"{folder}: its low resolution is {settings.degradation} x{settings.scale}, and {wanted[0]} x{wanted[1]} "
            "is wanted; set data.degradation and data.scale to what it has, or prepare it anew"
        )
    sizes = {path: size for source in manifest.sources for path, (size, _) in source.files.items()}
    shards = [
        Shard(
            folder / piece.high,
            piece.septuplets,
            sizes[piece.high],
            (piece.size[0] // settings.scale, piece.size[1] // settings.scale),
        )
        for piece in some_pieces(manifest, folder, split)
    ]
    for shard in shards:
        there = shard.path.stat().st_size if shard.path.is_file() else None
        if there != shard.num_bytes:
            what = "is missing" if there is None else f"has {there:,} of {shard.num_bytes:,} bytes"
            raise DataError(f"{shard.path}: {what}; copy it again, or run `workbench prepare` again, which mends it")
    return shards


def members(path: Path) -> Iterator[dict[str, Any]]:
    """The members of a tar file one after the other, as WebDataset groups them: ``fname``, ``data``, ``__url__``.

    Raises:
        DataError: not an uncompressed tar file, cut off, or a member that is not named in :data:`HANDLERS`.
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
        raise DataError(f"{path}: cut off or not a tar file ({error}); copy it again") from error


def samples(path: Path) -> Iterator[dict[str, Any]]:
    """The septuplets of a tar file, not decoded: ``__key__``, ``__url__``, and its two members by their endings.

    Raises:
        DataError: as :func:`members` does, or two members of one name.
    """
    try:
        yield from group_by_keys(members(path), lcase=False)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error.args[0]}") from error


def read_sample(sample: dict[str, Any]) -> Pair:
    """The two arrays of a sample as WebDataset groups it.

    Raises:
        DataError: one is missing or damaged, or their sizes do not go together.
    """
    where = f"{sample['__url__']}: {sample['__key__']}"
    try:
        pair = Pair(**{end.removesuffix(".npy"): handler(sample[end]) for end, handler in HANDLERS.items()})
        pair.scale  # noqa: B018 - raises where the two do not go together
    except KeyError as error:
        raise DataError(f"{where}: {error} is missing beside it") from error
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    return pair


class ShardCrops(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of crops out of shards, for a DataLoader with ``batch_size=None``.

    Every epoch the files come in another order; they are dealt out to machines (``RANK``, ``WORLD_SIZE``, or torch's
    process group) and to the DataLoader's workers; each reads its own from one end to the other and mixes a few dozen
    septuplets. All of it is a function of ``(seed, epoch)``, and of how many machines and workers there are. The place
    of a crop is a function of ``(seed, epoch, name of the septuplet)`` alone.

    Args:
        shards: from :func:`open_shards`.
        crop: side of a crop in low-resolution pixels.
        frames: consecutive frames of a crop, 7 at most.
        batch: crops a batch.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: with the epoch, decides every draw.
        done: batches of this machine that were trained on before (a resumed run); they are passed over. No more is
            read for that than a part of one epoch.

    Raises:
        DataError: at the first batch: fewer files than readers, a septuplet too small for the crops, or what
            :func:`members` and :func:`read_sample` say.

    Example:
        >>> batches = DataLoader(ShardCrops(open_shards("set"), crop=32, frames=5, batch=4), None, num_workers=2)
        ... # doctest: +SKIP
    """

    def __init__(
        self,
        shards: list[Shard],
        *,
        crop: int,
        frames: int,
        batch: int,
        augment: bool = True,
        seed: int = 0,
        done: int = 0,
    ) -> None:
        super().__init__()
        self.shards, self.crop, self.frames, self.batch = shards, crop, frames, batch
        self.augment, self.seed, self.done = augment, seed, done

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        _, machines, worker, workers = pytorch_worker_info()
        if len(self.shards) < machines * workers:
            raise DataError(
                f"{len(self.shards)} tar files cannot feed {machines} machines with {workers} readers each; take fewer "
                "readers, or prepare more footage"
            )
        worker = (worker + self.done) % workers  # batches come from the workers in turn; the next is now the first's
        done = (self.done + workers - 1 - worker) // workers * self.batch
        septuplets = self._septuplets(worker, workers, done)
        while True:
            yield to_batch([self._crop(epoch, sample) for epoch, sample in islice(septuplets, self.batch)])

    def order(self, epoch: int) -> list[Shard]:
        """The files of an epoch, in the order in which they are dealt out."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        return [self.shards[index] for index in order]

    def _septuplets(self, worker: int, workers: int, done: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """What one reader of this machine reads after ``done`` septuplets, not decoded yet, epoch after epoch."""
        for epoch in count():
            mine = list(islice(split_by_node(self.order(epoch)), worker, None, workers))
            held = sum(shard.samples for shard in mine)
            if done >= held:
                done -= held
                continue
            content = (sample for shard in mine for sample in samples(shard.path))
            dice = random.Random(f"{self.seed} {epoch} {worker}")
            mixed = shuffle(SHUFFLE, initial=SHUFFLE, rng=dice)(content)
            yield from ((epoch, sample) for sample in islice(mixed, done, None))
            done = 0

    def _crop(self, epoch: int, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        pair = read_sample(sample)
        check_footage(pair, sample["__key__"], self.crop, self.frames)
        name = int.from_bytes(hashlib.sha256(sample["__key__"].encode()).digest()[:8])
        return random_crop(
            pair, np.random.default_rng((self.seed, epoch, name)), self.crop, self.frames, augment=self.augment
        )


class ShardSampler:
    """Batches of crops out of shards, step by step, as :class:`workbench.data.sampling.crops.CropSampler` gives them.

    The batches of a step depend on how many processes and workers there are, and on nothing else but the seed.

    Args:
        shards: from :func:`open_shards`.
        crop: side of a crop in low-resolution pixels.
        frames: consecutive frames of a crop.
        batch: crops a step, of all processes together.
        augment: flip, transpose and reverse in time, each with probability 1/2.
        seed: decides every draw.

    Raises:
        DataError: a file whose septuplets are too short or too small for the crops.
    """

    def __init__(
        self, shards: list[Shard], *, crop: int, frames: int, batch: int, augment: bool = True, seed: int = 0
    ) -> None:
        for shard in shards:
            width, height = shard.low_size
            check_size((SEPTUPLET, height, width), shard.path.name, crop, frames)
        self.shards, self.crop, self.frames, self.batch = shards, crop, frames, batch
        self.augment, self.seed = augment, seed

    def after(
        self, step: int, steps: int, *, workers: int = 0, share: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the steps after ``step``, up to and including ``steps``; see ``CropSampler.after``."""
        crops = ShardCrops(
            self.shards,
            crop=self.crop,
            frames=self.frames,
            batch=len(range(self.batch)[share]),
            augment=self.augment,
            seed=self.seed,
            done=step,
        )
        yield from islice(DataLoader(crops, batch_size=None, num_workers=workers), steps - step)
