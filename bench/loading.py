"""Time of a training waiting for its crops: ``python bench/loading.py``, some minutes; ``--rounds 1 --count 1`` to try.

The same septuplets are stored in four formats: PNGs with and without low resolution, memory-mapped arrays, and tar
files; each is read by the training process itself and by one and two workers. Measured are

- the time of a batch without other work, against a training step of ``edvr_s`` and ``vespcn``,
- the additional time of a step of ``vespcn`` with it, against a batch in memory.

All alternate, round after round; medians. The page cache is warm: a disk can only be slower. Crops, frames and batch
are the defaults of a run.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from workbench.config import Data
from workbench.data.datasets.samples import sample
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.crops import CropSampler
from workbench.data.sampling.pairs import open_pairs
from workbench.data.sampling.shards import ShardSampler, open_shards
from workbench.models.zoo import build
from workbench.training.torch_setup import configure_torch

WORKERS = (0, 1, 2)
NETWORKS = ("edvr_s", "vespcn")
HURRIED = "vespcn"
"""The network of the shorter step, for which the loader matters; the two are also run together."""

ENDLESS = 10**9

Batches = Iterator[tuple[Tensor, Tensor]]


def write_formats(root: Path, frames: int) -> None:
    """Write the first frames of the sample clip in every format, twice, so that two readers of shards have one each."""
    for name in ("one", "two"):
        folder = root / "footage" / name
        folder.mkdir(parents=True)
        for number, frame in enumerate(sample("bigbuckbunny", frames=frames).frames):
            Image.fromarray(frame).save(folder / f"{number:04d}.png")
    for layout in ("folders", "arrays", "shards"):
        settings = PrepareSettings(format=layout, downscale="1", tile_size="448x256", validation_share=0)
        prepare([root / "footage"], root / layout, settings)
    (root / "vimeo").mkdir()
    shutil.copytree(root / "folders" / "sequences", root / "vimeo" / "sequences")
    for part in ("sep_trainlist.txt", "sep_testlist.txt"):
        shutil.copy(root / "folders" / part, root / "vimeo" / part)
    assert not (root / "vimeo" / MANIFEST).exists()


def loader(root: Path, layout: str, workers: int) -> Batches:
    """Yield batches without end; with ``moving`` half of the crops of the arrays move."""
    data = Data(moving_share=0.5 if layout == "moving" else 0.0)
    if layout == "shards":
        crops = ShardSampler(
            open_shards(root / layout), crop_size=data.crop_size, num_frames=data.num_frames, batch_size=data.batch_size
        )
        return iter(DataLoader(crops, batch_size=None, num_workers=workers))
    folder = root / ("arrays" if layout == "moving" else layout)
    pairs = open_pairs(str(folder), scale=data.scale, degradation=data.degradation)
    sampler = CropSampler(
        pairs, crop_size=data.crop_size, num_frames=data.num_frames, batch_size=data.batch_size,
        moving_share=data.moving_share,
    )  # fmt: skip
    return sampler.after(0, ENDLESS, workers=workers)


def training(name: str) -> Callable[[tuple[Tensor, Tensor]], None]:
    """Run one training step."""
    network = build(name)
    optimizer = torch.optim.Adam(network.parameters())

    def step(batch: tuple[Tensor, Tensor]) -> None:
        low, high = batch
        optimizer.zero_grad(set_to_none=True)
        ((network(low).frames - high).square() + 1e-6).sqrt().mean().backward()
        optimizer.step()

    return step


def seconds(work: Callable[[], object], count: int = 1) -> float:
    """Measure the time of one of ``count`` in a row."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--frames", type=int, default=98, help="of the sample clip (default 98: 14 septuplets)")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--count", type=int, default=6, help="batches in a row in each round (default 6)")
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    configure_torch(chosen.threads)
    labels = {
        "vimeo": "PNG, low made",
        "folders": "PNG, low on disk",
        "arrays": "arrays",
        "moving": "arrays, moving",
        "shards": "shards",
    }
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_formats(root, chosen.frames)
        loaders = {(layout, workers): loader(root, layout, workers) for layout in labels for workers in WORKERS}
        steps = {name: training(name) for name in NETWORKS}
        batch = next(loaders["arrays", 0])
        at_hand: dict[str, list[float]] = {name: [] for name in steps}
        alone: dict[tuple[str, int], list[float]] = {key: [] for key in loaders}
        together: dict[tuple[str, int], list[float]] = {key: [] for key in loaders}
        for number in range(chosen.rounds + 1):
            for name, step in steps.items():
                at_hand[name].append(seconds(lambda step=step: step(batch)))
            for (layout, workers), batches in loaders.items():
                list(islice(batches, 2 * workers + 1))  # what the workers have cut in advance is no measure
                alone[layout, workers].append(seconds(lambda batches=batches: next(batches), chosen.count))
                both = seconds(lambda batches=batches: steps[HURRIED](next(batches)), chosen.count)
                together[layout, workers].append(both / at_hand[HURRIED][-1])
            if not number:  # the first round warms up
                for times in (*alone.values(), *at_hand.values(), *together.values()):
                    times.clear()

    data = Data()
    step = {name: statistics.median(times) for name, times in at_hand.items()}
    print(
        f"batch {data.batch_size}, {data.num_frames} frames, crop {data.crop_size} (x{data.scale}), "
        f"{chosen.threads} thread(s);",
        end=" ",
    )
    print("a step with its batch at hand:", ", ".join(f"{name} {s * 1e3:.0f} ms" for name, s in step.items()))
    heads = [*(f"batch / {name} step" for name in step), f"{HURRIED} with / without"]
    print(f"{'':17} workers  ms a batch  " + "  ".join(heads))
    for (layout, workers), times in alone.items():
        batch = statistics.median(times)
        ratios = [*(batch / step[name] for name in step), statistics.median(together[layout, workers])]
        cells = "  ".join(f"{ratio:{len(head)}.3f}" for ratio, head in zip(ratios, heads, strict=True))
        print(f"{labels[layout]:17} {workers:7}  {batch * 1e3:10.1f}  {cells}")


if __name__ == "__main__":
    main()
