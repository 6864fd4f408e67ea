"""Input pipeline at the size of Vimeo-90K: ``python bench/pipeline_scale.py``, some minutes and 2 GB of disk.

64,612 septuplets, as many as its training split has, are written as memory-mapped arrays (one file a septuplet and
resolution) and as tar shards (64 septuplets a file), with frames of 16x16 pixels. Index and files are those of the real
set; reading the frames of the real size is measured by ``loading.py``. Each format is measured in a process of its own:

- start-up: seconds until the data is open and until the first batch, memory of the process, size of the sampler as it
  is sent to a loader process where processes are not forked;
- resume: seconds until the first batch after half an epoch and after ten; it must equal that of a run that was
  resumed two steps earlier;
- shuffle quality in one epoch: share of the septuplets that are seen, rank correlation of the order with that of the
  files, number of files in a batch.

``--write PAGE`` replaces the table in a page, between its two comment lines.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from scipy.stats import spearmanr
from torch import Tensor
from webdataset.writer import TarWriter

from workbench.atomic_files import write_atomic
from workbench.data.preparation.manifest import MANIFEST, Chunk, Manifest, PrepareSettings, Source
from workbench.data.preparation.shots import SEPTUPLET
from workbench.data.sampling.crops import CropSampler, Footage
from workbench.data.sampling.pairs import open_pairs
from workbench.data.sampling.shards import SAMPLES_PER_SHARD, ShardSampler, open_shards

SEPTUPLETS = 64_612
SIDE, SCALE, BATCH = 16, 4, 64
BEGIN, END = "<!-- bench/pipeline_scale.py writes from here -->", "<!-- to here -->"


# -- data -----------------------------------------------------------------------------------------------------------


def frames(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a septuplet in both resolutions, whose values are its number to the base 256."""
    value = (number % 256, number // 256 % 256, number // 65_536)
    high = np.broadcast_to(np.array(value, np.uint8), (SEPTUPLET, SIDE, SIDE, 3))
    return high, high[:, ::SCALE, ::SCALE]


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array))
    return content.getvalue()


def write_arrays(folder: Path, count: int) -> None:
    """Write every septuplet as two arrays."""
    chunks, files = [], {}
    for resolution in ("high", "low"):
        (folder / resolution).mkdir(parents=True)
    for number in range(count):
        name = f"clip-{number:05d}"
        paths = [f"{resolution}/{name}.npy" for resolution in ("high", "low")]
        for path, part in zip(paths, frames(number), strict=True):
            content = npy(part)
            (folder / path).write_bytes(content)
            files[path] = (len(content), "")
        chunks.append(chunk(name, *paths, septuplets=1))
    write_manifest(folder, "arrays", chunks, files)


def write_shards(folder: Path, count: int) -> None:
    """Write the septuplets into tar files."""
    folder.mkdir()
    chunks, files = [], {}
    for first in range(0, count, SAMPLES_PER_SHARD):
        name, numbers = f"train-clip-{first:05d}.tar", range(first, min(first + SAMPLES_PER_SHARD, count))
        with (folder / name).open("wb") as file, TarWriter(file, encoder=False, mtime=0, user="", group="") as tar:
            for number in numbers:
                high, low = frames(number)
                tar.write({"__key__": f"clip-{number:07d}-0", "high.npy": npy(high), "low.npy": npy(low)})
        files[name] = ((folder / name).stat().st_size, "")
        chunks.append(chunk(name.removesuffix(".tar"), name, name, septuplets=len(numbers)))
    write_manifest(folder, "shards", chunks, files)


def chunk(name: str, high: str, low: str, *, septuplets: int) -> Chunk:
    return Chunk(
        name=name, high=high, low=low, first=0, frames=SEPTUPLET, size=(SIDE, SIDE), septuplets=septuplets
    )  # fmt: skip


def write_manifest(folder: Path, kind: Any, chunks: list[Chunk], files: dict[str, tuple[int, str]]) -> None:
    """Write the index of a set that consists of one source."""
    settings = PrepareSettings(format=kind, downscale="1", scale=SCALE, tile_size=f"{SIDE}x{SIDE}", validation_share=0)
    source = Source(
        name="clip", file="clip", sha256="", split="train", size=(SIDE, SIDE), downscale=1, counts={}, damage="",
        chunks=tuple(chunks), files=files,
    )  # fmt: skip
    write_atomic(folder / MANIFEST, Manifest(settings=settings, sources=(source,)).to_json())


# -- measuring ------------------------------------------------------------------------------------------------------


def mebibytes() -> float:
    return psutil.Process().memory_info().rss / 2**20


def measure(folder: Path, kind: str) -> dict[str, float]:
    """Measure one format in this process."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"crop_size": SIDE // SCALE, "num_frames": SEPTUPLET, "batch_size": BATCH}
    empty, began = mebibytes(), time.perf_counter()
    if kind == "arrays":
        pairs: list[Footage] = open_pairs(str(folder), scale=SCALE)
        count, sampler = len(pairs), CropSampler(pairs, **settings)
    else:
        shards = open_shards(folder)
        count, sampler = sum(shard.samples for shard in shards), ShardSampler(shards, **settings)
    numbers: dict[str, float] = {"septuplets": count, "seconds to open": time.perf_counter() - began}
    first_batch(sampler, 0)
    numbers["seconds to the first batch"] = time.perf_counter() - began
    numbers["MiB of memory"] = mebibytes() - empty
    numbers["MiB of the sampler for another process"] = len(pickle.dumps(sampler)) / 2**20
    epoch = count // BATCH
    for name, step in (("half an epoch", epoch // 2), ("ten epochs", 10 * epoch)):
        began = time.perf_counter()
        resumed = first_batch(sampler, step)
        numbers[f"seconds to resume after {name}"] = time.perf_counter() - began
        whole = next(itertools.islice(sampler.after(step - 2, step + 1), 2, None))
        if not all(torch.equal(one, other) for one, other in zip(resumed, whole, strict=True)):
            raise SystemExit(f"{kind}: the batch after step {step} differs in a resumed run")
    began = time.perf_counter()
    for _ in sampler.after(0, 50):
        pass
    numbers["ms a batch"] = (time.perf_counter() - began) / 50 * 1e3
    order = np.fromiter(itertools.islice(clips(sampler), count), np.int64)
    files = order // (SAMPLES_PER_SHARD if kind == "shards" else 1)
    batches = files[: epoch * BATCH].reshape(-1, BATCH)
    numbers["share of the septuplets in an epoch"] = len(set(order.tolist())) / count
    numbers["rank correlation with the files"] = spearmanr(np.arange(len(order)), order).statistic
    numbers["files in a batch"] = float(np.median([len(set(batch.tolist())) for batch in batches]))
    return numbers


def first_batch(sampler: CropSampler | ShardSampler, step: int) -> tuple[Tensor, Tensor]:
    """Return the batch after a step."""
    return next(sampler.after(step, step + 1))


def clips(sampler: CropSampler | ShardSampler) -> Iterator[int]:
    """Yield the number of each septuplet in the order of the batches, by one reader."""
    if isinstance(sampler, CropSampler):
        for step in itertools.count(1):
            for index in range(BATCH):
                yield sampler._draw_any_position(sampler._rng(step, index))[0]
        return
    for _, sample in sampler._septuplets(0, 1, 0):
        yield int(sample["__key__"].split("-")[1])


def table(measured: dict[str, dict[str, float]], written: dict[str, float]) -> str:
    """Return the figures of all formats, one column each."""
    names = list(next(iter(measured.values())))
    lines = [f"| | {' | '.join(measured)} |", f"| --- |{' ---: |' * len(measured)}"]
    lines += [f"| seconds to write | {' | '.join(f'{written[kind]:.0f}' for kind in measured)} |"]
    for name in names:
        lines.append(f"| {name} | {' | '.join(_text(numbers[name]) for numbers in measured.values())} |")
    return "\n".join(lines)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--septuplets", type=int, default=SEPTUPLETS)
    parser.add_argument("--folder", type=Path, help="parent of the temporary data; by default that of the system")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1])))
        return
    measured, written = {}, {}
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for kind, write in (("arrays", write_arrays), ("shards", write_shards)):
            folder, began = Path(temporary) / kind, time.perf_counter()
            write(folder, options.septuplets)
            written[kind] = time.perf_counter() - began
            command = [sys.executable, __file__, "--measure", str(folder), kind]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured[kind] = json.loads(done.stdout.splitlines()[-1])
    text = (
        f"One reader, batch {BATCH}, frames of {SIDE}x{SIDE}, warm page cache, {platform.machine()}; "
        f"`python bench/pipeline_scale.py`.\n\n{table(measured, written)}"
    )
    print(text)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        if page.count(BEGIN) != 1 or page.count(END) != 1:
            raise SystemExit(f"{options.write}: want one line {BEGIN} and one {END}")
        before, rest = page.split(BEGIN)
        write_atomic(options.write, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
