"""Waits for the device: one a step in the loop, none in networks and losses; batches that are made ahead of a step."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.tiny import KINDS, TINY
from tests.training.test_loop import TinyNetwork, batches
from workbench.config import Optimizer
from workbench.data.sampling.true_flow import stack_flows
from workbench.distill.losses import make_loss
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.models.zoo import build
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import train
from workbench.training.trainer import ExponentialAverage, Trainer

READS = {
    getattr(Tensor, name)
    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "unique", "__array__", "__bool__", "__float__", "__int__")
} | {torch.nonzero, torch.unique}
"""Calls that wait for a GPU, since they read what it computes."""


class CountReads(TorchFunctionMode):
    """Counter of reads from the device; tensors that are in main memory with a GPU too are exempt."""

    def __init__(self, *, exempt=()):
        super().__init__()
        self.exempt, self.count = {id(tensor) for tensor in exempt}, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function in READS and id(args[0]) not in self.exempt
        return function(*args, **(kwargs or {}))


class FindTransfers(TorchDispatchMode):
    """List of operations that move data to the device ``meta``, or use data of main memory there, and wait for it."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kinds = {part.device.type for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor) and part.ndim}
        target = kwargs.get("device")
        waits = target is not None and {target.type} != kinds and kinds and not kwargs.get("non_blocking")
        if waits or len(kinds) > 1:
            self.found.append(str(operation))
        return operation(*args, **kwargs)


@contextmanager
def on_meta(monkeypatch):
    """Compute on the device ``meta``, which has no values: an operation that reads one raises an error."""
    with FindTransfers() as transfers:
        yield
    assert transfers.found == []


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_step_reads_from_the_device_once(micro_batches):
    """With every term, the gradients' ratios and norms, a running average and clipping."""
    student, teacher = TinyNetwork(), TinyNetwork()
    memory = TemporalMemory(4, 4, hidden_channels=2, stride=2, mode="trained")
    losses = {"output_l1": (0.1, make_loss("output_l1", 4, 4)), "fitnets": (0.1, make_loss("fitnets", 4, 4))}
    objective = Objective(spatial_weight=0.1, ratios={"temporal": 0.3}, ratio_every=2, memory=memory, losses=losses)
    average = ExponentialAverage(student, 0.999)
    optimizer = torch.optim.SGD([*student.parameters(), *objective.parameters()], lr=1e-3)
    rows = [
        (low[i::micro_batches], high[i::micro_batches])
        for low, high in islice(batches(), 6)
        for i in range(micro_batches)
    ]
    steps = train(
        student, rows, objective, optimizer, steps=6, initial_lr=1e-3, final_lr=1e-3, teacher=teacher,
        max_grad_norm=1.0, ema_model=average, gradient_stats_every=3,
        accelerator=make_accelerator(device="cpu", gradient_accumulation_steps=micro_batches),
    )  # fmt: skip
    counts = []
    for _ in range(6):
        with CountReads(exempt=[average.n_averaged]) as reads:
            step = next(steps)
        counts.append(reads.count)
    assert counts == [1] * 6
    assert "gradient.temporal" in step.diagnostics
    assert "ratio.temporal" in step.diagnostics


@pytest.mark.parametrize("name", KINDS)
def test_no_network_waits_for_its_device(name, monkeypatch):
    network = build(name, **TINY[name]).to("meta")
    size = (2, 3, 3, 16 * network.scale, 16 * network.scale)
    low, high = torch.empty(2, 3, 3, 16, 16, device="meta"), torch.empty(size, device="meta")
    layer = "hr" if network.feature_channels else None
    with on_meta(monkeypatch):
        student = network.train()(network.select_input(low, high), return_features=layer).frames
        if student.requires_grad:
            student.sum().backward()
        with torch.no_grad():
            teacher = network.eval()(network.select_input(low, high), return_features=layer).frames
    assert student.shape == teacher.shape == size


@pytest.mark.parametrize("name", ["vespcn", "edvr_s"])
def test_the_terms_of_a_step_do_not_wait(name, monkeypatch):
    """All losses, and the error of flow or offsets against the true flow."""
    student, teacher = build(name).train(), build("edvr_s").eval()
    memory = TemporalMemory(student.feature_channels, teacher.feature_channels)
    names = ("output_l1", "fitnets", "frequency", "frame_difference", "teacher_better_l1")
    losses = {each: (0.1, make_loss(each, student.feature_channels, teacher.feature_channels)) for each in names}
    objective = Objective(spatial_weight=0.1, temporal_weight=0.1, flow_weight=0.1, memory=memory, losses=losses)
    flow = stack_flows([None, None], frames=5, height=16, width=16)
    student, teacher, objective, flow = (part.to(torch.device("meta")) for part in (student, teacher, objective, flow))
    low, high = torch.empty(2, 5, 3, 16, 16, device="meta"), torch.empty(2, 5, 3, 64, 64, device="meta")
    with on_meta(monkeypatch):
        terms, diagnostics = objective.compute_terms(
            student(low, return_features="hr"), high, teacher(low, return_features="hr"), low, flow
        )
        torch.stack(list(terms.values())).sum().backward()
    assert {"flow", "temporal", *names} <= terms.keys()
    assert diagnostics["collapse_index"].is_meta


def test_the_average_of_a_network_by_hand():
    """After n steps at most (1 + n) / (10 + n) of the average is kept: 2/11 after one."""
    network = torch.nn.Conv2d(1, 1, 1)
    average, first = ExponentialAverage(network, 0.999), network.weight.clone()
    average.update_parameters(network)
    assert torch.equal(average.module.weight, first)
    with torch.no_grad():
        network.weight.add_(1.0)
    average.update_parameters(network)
    assert torch.allclose(average.module.weight, first + 9 / 11)
    assert average.n_averaged.item() == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_made_ahead_are_the_same(small, workers):
    config = replace(
        small, steps=4, data=replace(small.data, batch_size=2, num_workers=workers),
        optimizer=Optimizer(gradient_accumulation_steps=2),
    )  # fmt: skip
    made, draws = [], []
    for ahead in (False, True):
        trainer = Trainer(config, make_accelerator(device="cpu", gradient_accumulation_steps=2))
        trainer.makes_batches_ahead = ahead
        rows = [(batch.low, batch.high, torch.rand(1)) for batch in trainer._batches(0)]
        made.append([torch.cat([low.flatten(), high.flatten()]) for low, high, _ in rows])
        draws.append([drawn for *_, drawn in rows])
    assert len(made[0]) == 8
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
    assert draws[0] == draws[1]


def test_the_next_batch_is_made_during_a_step(small, monkeypatch):
    trainer = Trainer(replace(small, steps=6), make_accelerator(device="cpu"))
    trainer.makes_batches_ahead = True
    asked, real = [], trainer.sampler.at
    monkeypatch.setattr(trainer.sampler, "at", lambda step, share: asked.append(step) or real(step, share))
    rows = trainer._batches(0)
    next(rows)
    for _ in range(1000):
        if len(asked) > 2:
            break
        torch.randn(100, 100) @ torch.randn(100, 100)
    rows.close()
    assert asked[:3] == [1, 2, 3]
    assert len(asked) <= 5, "two wait in the queue, one with the thread"


def test_a_frozen_memory_stays_frozen_after_loading():
    """A checkpoint has the objective as a whole."""

    def objective():
        return Objective(temporal_weight=0.1, memory=TemporalMemory(4, 4, mode="trained_then_frozen", freeze_below=0.5))

    first, again = objective(), objective()
    first.memory.freeze_if_below(0.1)
    again.load_state_dict(first.state_dict())
    assert again.memory.is_frozen
    assert not any(parameter.requires_grad for parameter in again.memory.lstm.parameters())
