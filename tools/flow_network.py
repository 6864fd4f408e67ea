"""Train the compact flow network on still images under a moving camera, and ship its weights.

    python tools/flow_network.py --stills FOLDER

VESPCN and ``basicvsr_s`` contain this network; a training starts from these weights with
``--student.flow-weights pretrained:flow``. Progress goes to stderr.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import tyro

from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.stills import open_stills
from workbench.models.layers.flow import end_point_error
from workbench.models.vespcn import MotionCompensation
from workbench.models.weights import save_tensors
from workbench.tensors import to_float
from workbench.training.loop import cosine_annealing
from workbench.training.torch_setup import configure_torch

OUT = Path(__file__).resolve().parents[1] / "workbench" / "pretrained" / "flow.safetensors"
EARLY, EARLY_EPS, EPS = 0.2, 2.0, 0.01
"""Share of the steps with a loss that is rounded at 2 pixels, and so nearly quadratic: with the sharp loss, frames that
move little keep the flow at zero for longer. The rounding of the loss after it is a hundredth of a pixel."""

HELD_OUT = 100
"""Clips for the reported error, excluded from training."""


def main(
    stills: Path,
    out: Path = OUT,
    clips: int = 5000,
    steps: int = 16000,
    batch: int = 16,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
) -> None:
    """Train the network and save its weights.

    Args:
        stills: folder of still images.
        out: the file to write, in half precision.
        clips: rendered first, and kept in memory.
        steps: of the training.
        batch: pairs of frames a step.
        learning_rate: at the first step; a cosine leads to a hundredth of it.
        seed: of the clips, the initial weights and the batches.
    """
    configure_torch(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    before, after, true, visible = render_pairs(stills, clips, seed)
    network = MotionCompensation(flow_gain=8.0)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    started, errors = time.process_time(), []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = cosine_annealing(step, steps, learning_rate, learning_rate / 100)
        chosen = rng.integers(HELD_OUT, clips, batch) + clips * rng.integers(0, 2, batch)
        flow = network.flow(to_float(before[chosen])[0], to_float(after[chosen])[0])
        error = end_point_error(flow, true[chosen], visible[chosen], eps=EPS if step > EARLY * steps else EARLY_EPS)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
        if step % 250 == 0:
            seconds = time.process_time() - started
            print(f"step {step}: end-point error {np.mean(errors[-250:]):.3f}, {seconds:.0f} s", file=sys.stderr)
    with torch.inference_mode():
        test = slice(0, HELD_OUT)
        flow = network.eval().flow(to_float(before[test])[0], to_float(after[test])[0])
        error = end_point_error(flow, true[test], visible[test], eps=0).item()
        zero = end_point_error(0 * flow, true[test], visible[test], eps=0).item()
    print(f"{out}: held-out end-point error {error:.3f} px, of zero flow {zero:.3f} px", file=sys.stderr)
    tensors = {name: value.half() for name, value in network.state_dict().items()}
    save_tensors(out, tensors, {"network": "compact flow", "steps": str(steps), "seed": str(seed)})


def render_pairs(stills: Path, clips: int, seed: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    """Render pairs of frames ``(N, H, W, 3)``, their true flow and the visible pixels, in both directions."""
    settings = MotionSettings(crop_size=32, num_frames=2, min_speed=0.1)
    sampler = MotionSampler(open_stills(stills, min_side=settings.min_still_side), settings, seed=seed)
    rendered = [sampler.clip(1, index) for index in range(clips)]
    first, second = (np.stack([clip.low[number] for clip in rendered]) for number in (0, 1))
    flow = [getattr(clip.flow, name) for name in ("to_next", "to_previous") for clip in rendered]
    hidden = [getattr(clip.flow, name) for name in ("hidden_next", "hidden_previous") for clip in rendered]
    return (
        np.concatenate((first, second)),
        np.concatenate((second, first)),
        torch.from_numpy(np.concatenate(flow)),
        torch.from_numpy(~np.concatenate(hidden)),
    )


if __name__ == "__main__":
    tyro.cli(main)
