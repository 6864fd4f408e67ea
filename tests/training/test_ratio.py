"""Loss weights by gradient-norm ratio in a training: the ratio, micro-batches, resumed and cached runs."""

from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import pytest
import torch

from tests.training.tiny import TinyNetwork, batches
from workbench.distill.losses import make_loss
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.distillation_config import Distillation, GradientRatios
from workbench.runs import request_stop
from workbench.training.accelerator import make_accelerator
from workbench.training.gradient_stats import gradient_stats, parameter_gradient
from workbench.training.loop import train
from workbench.training.worker import prepare_run, work

RATIOS = {"spatial": 0.1, "temporal": 0.3, "output_l1": 0.2}


def training(data, *, every=1, mode="frozen", rate=1e-3, micro_batches=1, steps=8, log_every=0, **settings):
    torch.manual_seed(0)
    student, teacher = TinyNetwork(), TinyNetwork()
    memory = TemporalMemory(4, 4, hidden_channels=2, mode=mode)
    losses = {"output_l1": (0.0, make_loss("output_l1", 4, 4))}
    objective = Objective(ratios=RATIOS, ratio_every=every, memory=memory, losses=losses, **settings)
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=rate)
    steps = train(
        student, data, objective, optimizer, steps=steps, initial_lr=rate, final_lr=rate, teacher=teacher,
        gradient_stats_every=log_every,
        accelerator=make_accelerator(device="cpu", gradient_accumulation_steps=micro_batches),
    )  # fmt: skip
    return student, objective, steps


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_the_measured_ratio_is_the_one_of_the_settings(mode):
    """With one batch and no update, the gradients of the second step are those that the first step measured."""
    _, _, steps = training(repeat(next(batches()), 3), mode=mode, rate=0.0, steps=3)
    first, second, third = steps
    assert {name: first.weights[name] for name in RATIOS} == dict.fromkeys(RATIOS, 0.0)
    for step in (second, third):
        for name, expected in RATIOS.items():
            assert step.diagnostics[f"ratio.{name}"] == pytest.approx(expected, rel=1e-4)


def test_measured_gradients_equal_the_logged_ones():
    student, objective, _ = training(())
    low, high = next(batches())
    upscaled = student(low, return_features="hr")
    targets = objective.teacher_targets(TinyNetwork()(low, return_features="hr"))
    terms, _ = objective.compute_terms(upscaled, high, targets)
    logged = gradient_stats({name: parameter_gradient(term, student) for name, term in terms.items()})
    for name, term in terms.items():
        assert parameter_gradient(term, student).norm().item() == pytest.approx(logged[f"gradient.{name}"].item())
        scaled = parameter_gradient(term, student, loss_scale=1024.0)
        assert torch.allclose(scaled, parameter_gradient(term, student), rtol=1e-4, atol=1e-9)
    terms["temporal"].backward()
    whole = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in student.parameters()])
    assert whole.norm().item() == pytest.approx(logged["gradient.temporal"].item(), rel=1e-5)


def test_logged_gradients_are_those_of_the_whole_batch():
    """The log of one batch and of its two halves is the same, and its norms are those that set the weights."""
    low, high = next(batches())
    logs = []
    for data in ([(low, high)], [(low[:1], high[:1]), (low[1:], high[1:])]):
        *_, steps = training(data, micro_batches=len(data), log_every=1)
        logs.append({name: value for name, value in next(steps).diagnostics.items() if "." in name})
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)
    assert "gradient.temporal" in logs[0]


def test_ratios_are_measured_at_the_given_interval():
    *_, steps = training(islice(batches(), 8), every=3)
    assert [step.number for step in steps if "ratio.temporal" in step.diagnostics] == [1, 3, 6]


def test_weights_are_constant_between_measurements():
    *_, steps = training(islice(batches(), 8), every=3)
    weights = [step.weights["temporal"] for step in steps]
    assert weights[0] == 0
    assert weights[1] == weights[2] != weights[3] == weights[4] == weights[5] != weights[6]


def test_micro_batches_and_the_whole_batch_have_equal_weights():
    micro = ((low[i : i + 1], high[i : i + 1]) for low, high in batches() for i in (0, 1))
    whole = list(training(islice(batches(), 4), every=2)[-1])  # first, since accelerate has one state per process
    split = list(training(islice(micro, 8), every=2, micro_batches=2)[-1])
    for ours, theirs in zip(split, whole, strict=True):
        assert ours.weights == pytest.approx(theirs.weights, rel=1e-3)
        assert ours.terms == pytest.approx(theirs.terms, rel=1e-3)


@pytest.fixture(scope="module")
def config(small):
    distillation = Distillation(
        ratios=GradientRatios(spatial=0.1, temporal=0.3, output_l1=0.2, flow_l1=0.1), ratio_every=3, memory_channels=2,
        cells="all", schedule_steps=4,
    )  # fmt: skip
    return replace(small, distillation=distillation)


def test_a_resumed_run_equals_an_uninterrupted_one(config, tmp_path):
    whole, halves = (prepare_run(tmp_path / name, config) for name in ("whole", "halves"))
    work(whole)
    work(halves, lambda done, _steps: request_stop(halves) if done.number == 4 else None)
    assert halves.status().step == 4
    assert work(halves) == "finished"
    expected = [(row["terms"], row["weights"], row["total"]) for row in whole.metrics()]
    assert [(row["terms"], row["weights"], row["total"]) for row in halves.metrics()] == expected
    assert expected[3][1]["temporal"] > 0


def test_cached_and_live_weights_are_equal_within_rounding(config, tmp_path):
    """The cache contains all cells in the loss, with axes of frame and channel."""
    fixed = replace(
        config,
        steps=2,
        data=replace(config.data, num_frames=5, num_fixed_crops=2, augmentations_per_crop=1, batch_size=2),
    )
    live, kept = prepare_run(tmp_path / "live", fixed), tmp_path / "cache"
    work(live)
    cached = prepare_run(tmp_path / "cached", replace(fixed, teacher_cache_dir=str(kept)))
    work(cached)
    side = fixed.data.crop_size * 4 // fixed.distillation.memory_stride
    assert np.load(kept / "cells.npy").shape == (2, 3, 2, side, side)
    ours, theirs = cached.metrics()[1], live.metrics()[1]
    for name in ("spatial", "temporal", "output_l1", "flow_l1"):
        assert ours["weights"][name] == pytest.approx(theirs["weights"][name], rel=0.02)
    assert ours["weights"]["temporal"] > 0
