"""A small network, random batches and a training of ten steps, shared by the tests of the loop."""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn

from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import WindowOutput
from workbench.training.loop import train


class TinyNetwork(SlidingWindow):
    """Two convolutions, four channels at high resolution."""

    feature_channels = 4

    def __init__(self):
        super().__init__(scale=2, num_frames=1, border="replicate", skip="bilinear")
        self.widen, self.exit = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def per_window(self, *frames, return_features):
        features = F.pixel_shuffle(self.widen(frames[0][:, 0]), 2).tanh()
        return WindowOutput(self.exit(features), features if return_features else None)


def batches(first=1):
    """Yield random batches without end; each is a function of its number."""
    number = first
    while True:
        generator = torch.Generator().manual_seed(number)
        yield torch.rand(2, 3, 3, 6, 6, generator=generator), torch.rand(2, 3, 3, 12, 12, generator=generator)
        number += 1


def make_training(mode="trained", seed=0, **settings):
    """Return a student, its objective, its optimizer and a function that runs the training; all from one seed."""
    torch.manual_seed(seed)
    student, teacher = TinyNetwork(), TinyNetwork()
    memory = TemporalMemory(4, 4, hidden_channels=2, stride=2, standardize=False, border_frames=0, mode=mode, seed=seed)
    objective = Objective(spatial_weight=0.1, temporal_weight=0.1, memory=memory)
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=1e-3)
    defaults = {"steps": 10, "initial_lr": 1e-2, "final_lr": 1e-4, "teacher": teacher} | settings
    return (
        student,
        objective,
        optimizer,
        lambda data=None, **more: train(
            student, data if data is not None else islice(batches(), 10), objective, optimizer, **(defaults | more)
        ),
    )


def copies(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal_weights(network, before):
    return all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def numbers(steps):
    return [(step.number, step.terms, step.total, step.gradient_norm, step.learning_rate) for step in steps]
