"""What do the starts of our small networks save? ``python bench/starts.py``; minutes on one core.

A network learns the sample clips from the same seed and crops: as it starts now, and without one of the two things
done to its first weights: ``zero_mean_init_`` (its first layer begins blind to brightness) and ``icnr_init_`` (its
pixel-shuffles begin as enlargements). Printed is its loss on crops that it never sees, as a share of bicubic's: 1 means
that nothing was learnt. One seed: halves of these numbers mean something, hundredths do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from workbench.config import Data, Network, Optimizer, RunConfig
from workbench.distill.objective import charbonnier
from workbench.models import edvr, vespcn
from workbench.models.video_sr import VideoSR
from workbench.models.zoo import build
from workbench.training.engine import Engine
from workbench.training.machine import configure_torch
from workbench.training.trainer import Trainer

UNSEEN = 10**6
"""Crops of this step and later are drawn by no training here."""

STARTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "sees brightness": ("zero_mean_init_",),
    "phases apart": ("icnr_init_",),
    "neither": ("zero_mean_init_", "icnr_init_"),
}


def nothing(*_: Any) -> None:
    """In place of what is left out."""


@contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Networks built in here start without these."""
    places = [(module, name) for module in (edvr, vespcn) for name in names if hasattr(module, name)]
    kept: list[Callable[..., None]] = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, nothing)
    try:
        yield
    finally:
        for (module, name), function in zip(places, kept, strict=True):
            setattr(module, name, function)


def losses(name: str, leave_out: tuple[str, ...], options: argparse.Namespace) -> list[float]:
    """Loss on unseen crops as a share of bicubic's, at every look."""
    config = RunConfig(
        precision="fp32",
        student=Network(name=name),
        steps=options.steps,
        seed=options.seed,
        data=Data(crop_size=options.crop, batch_size=options.batch, num_frames=5),
        optimizer=Optimizer(learning_rate=options.rate, final_learning_rate=options.rate),
    )
    torch.manual_seed(config.seed)
    with without(leave_out):
        trainer = Trainer(replace(config, plain=Network()), Engine(device="cpu"))
    unseen = [trainer.sampler.at(UNSEEN + number) for number in range(8)]

    def loss(network: VideoSR) -> float:
        with torch.no_grad():
            return sum(charbonnier(network(low).frames, high).item() for low, high in unseen)

    floor, found = loss(build("bicubic")), []
    for step in trainer.steps(0):
        if step.number % options.every == 0:
            found.append(loss(trainer.student) / floor)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="edvr_tiny,vespcn_s", help="separated by commas; edvr_s takes an hour")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50, help="steps between two looks")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    configure_torch(1)
    looks = range(options.every, options.steps + 1, options.every)
    print(f"| | {' | '.join(f'step {look}' for look in looks)} |\n| --- |{' ---: |' * len(looks)}")
    for name in options.networks.split(","):
        for start, leave_out in STARTS.items():
            if name.startswith("vespcn") and "icnr_init_" in leave_out:
                continue  # it has one shuffle only, straight before its last layer, and never aligned its phases
            shares = losses(name, leave_out, options)
            print(f"| {name}, {start} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
