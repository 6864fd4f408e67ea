"""Effect of the initialization of our small networks: ``python bench/starts.py``; minutes on one core.

A network is trained on the sample clips with the same seed and crops: with its initialization, and without one or both
of its steps ``zero_mean_init_`` (the first layer ignores brightness) and ``icnr_init_`` (pixel-shuffles start as
upsampling). Printed is its loss on unseen crops relative to bicubic's: 1 means that nothing was learned. With a single
seed, factors of two are significant, hundredths are not.
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
from workbench.training.accelerator import make_accelerator
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer

UNSEEN = 10**6
"""First step of crops that are used in no training here."""

STARTS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "no zero mean": ("zero_mean_init_",),
    "no ICNR": ("icnr_init_",),
    "neither": ("zero_mean_init_", "icnr_init_"),
}


def skip(*_: Any) -> None:
    """Do nothing, in place of an omitted step."""


@contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Build networks without these steps, within the context."""
    places = [(module, name) for module in (edvr, vespcn) for name in names if hasattr(module, name)]
    kept: list[Callable[..., None]] = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, skip)
    try:
        yield
    finally:
        for (module, name), function in zip(places, kept, strict=True):
            setattr(module, name, function)


def losses(name: str, leave_out: tuple[str, ...], options: argparse.Namespace) -> list[float]:
    """Return the loss on unseen crops relative to bicubic's, at regular steps."""
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
        trainer = Trainer(replace(config, plain=Network()), make_accelerator(device="cpu"))
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
    parser.add_argument("--every", type=int, default=50, help="steps between two measurements")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    configure_torch(1)
    steps = range(options.every, options.steps + 1, options.every)
    print(f"| | {' | '.join(f'step {step}' for step in steps)} |\n| --- |{' ---: |' * len(steps)}")
    for name in options.networks.split(","):
        for start, leave_out in STARTS.items():
            if name.startswith("vespcn") and "icnr_init_" in leave_out:
                continue  # it has one shuffle only, straight before its last layer, and never aligned its phases
            shares = losses(name, leave_out, options)
            print(f"| {name}, {start} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
