"""Weights by gradient-norm ratio in a training: the ratio is met; in pieces, resumed and cached."""

from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import pytest
import torch

from tests.training.test_loop import Pupil, batches
from workbench.config import Distillation
from workbench.distill.losses import make_loss
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.runs import request_stop
from workbench.training.accelerator import make_accelerator
from workbench.training.gradient_stats import gradient_stats, parameter_gradient
from workbench.training.loop import train
from workbench.training.worker import prepare_run, work

RATIOS = {"spatial": 0.1, "temporal": 0.3, "output_l1": 0.2}


def training(rows, *, every=1, mode="frozen", rate=1e-3, micro_batches=1, steps=8, **settings):
    torch.manual_seed(0)
    student, teacher = Pupil(), Pupil()
    memory = TemporalMemory(4, 4, hidden_channels=2, mode=mode)
    losses = {"output_l1": (0.0, make_loss("output_l1", 4, 4))}
    objective = Objective(ratios=RATIOS, ratio_every=every, memory=memory, losses=losses, **settings)
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=rate)
    steps = train(
        student, rows, objective, optimizer, steps=steps, learning_rate=(rate, rate), teacher=teacher,
        accelerator=make_accelerator(device="cpu", gradient_accumulation_steps=micro_batches),
    )  # fmt: skip
    return student, objective, steps


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_the_ratio_asked_for_is_met(mode):
    """On one batch, without an update, the second step's gradients are those that the first step measured."""
    _, _, steps = training(repeat(next(batches()), 3), mode=mode, rate=0.0, steps=3)
    first, second, third = steps
    assert {name: first.weights[name] for name in RATIOS} == dict.fromkeys(RATIOS, 0.0)
    for step in (second, third):
        for name, wanted in RATIOS.items():
            assert step.diagnostics[f"ratio.{name}"] == pytest.approx(wanted, rel=1e-4)


def test_the_measured_gradients_are_those_that_the_log_watches():
    student, objective, _ = training(())
    low, high = next(batches())
    upscaled = student(low, return_features="hr")
    taught = objective.teacher_targets(Pupil()(low, return_features="hr"))
    terms, _ = objective.terms(upscaled, high, taught)
    watched = gradient_stats(terms, student)
    for name, term in terms.items():
        assert parameter_gradient(term, student).norm().item() == pytest.approx(watched[f"gradient.{name}"])
        scaled = parameter_gradient(term, student, loss_scale=1024.0)
        assert torch.allclose(scaled, parameter_gradient(term, student), rtol=1e-4, atol=1e-9)
    terms["temporal"].backward()
    whole = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in student.parameters()])
    assert whole.norm().item() == pytest.approx(watched["gradient.temporal"], rel=1e-5)


def test_it_measures_at_the_given_interval():
    *_, steps = training(islice(batches(), 8), every=3)
    assert [step.number for step in steps if "ratio.temporal" in step.diagnostics] == [1, 3, 6]


def test_weights_hold_between_measurements():
    *_, steps = training(islice(batches(), 8), every=3)
    seen = [step.weights["temporal"] for step in steps]
    assert seen[0] == 0
    assert seen[1] == seen[2] != seen[3] == seen[4] == seen[5] != seen[6]


def test_micro_batches_have_the_weights_of_the_whole_batch():
    pieces = ((low[i : i + 1], high[i : i + 1]) for low, high in batches() for i in (0, 1))
    whole = list(training(islice(batches(), 4), every=2)[-1])  # before the next: accelerate keeps one state a process
    pieced = list(training(islice(pieces, 8), every=2, micro_batches=2)[-1])
    for ours, theirs in zip(pieced, whole, strict=True):
        assert ours.weights == pytest.approx(theirs.weights, rel=1e-3)
        assert ours.terms == pytest.approx(theirs.terms, rel=1e-3)


# Runs


@pytest.fixture(scope="module")
def config(small):
    taught = Distillation(
        spatial_ratio=0.1, temporal_ratio=0.3, output_ratio=0.2, ratio_every=3, memory_channels=2, cells="all",
        schedule_steps=4,
    )  # fmt: skip
    return replace(small, distillation=taught)


def test_stopped_and_resumed_equals_uninterrupted(config, tmp_path):
    whole, halves = (prepare_run(tmp_path / name, config) for name in ("whole", "halves"))
    work(whole)
    work(halves, lambda done, _steps: request_stop(halves) if done.number == 4 else None)
    assert halves.status().step == 4
    assert work(halves) == "finished"
    wanted = [(row["terms"], row["weights"], row["total"]) for row in whole.metrics()]
    assert [(row["terms"], row["weights"], row["total"]) for row in halves.metrics()] == wanted
    assert wanted[3][1]["temporal"] > 0


def test_cached_and_live_weights_are_equal_within_rounding(config, tmp_path):
    """All compared cells are in the cache: frame and channel axes before the image's."""
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
    for name in ("spatial", "temporal", "output_l1"):
        assert ours["weights"][name] == pytest.approx(theirs["weights"][name], rel=0.02)
    assert ours["weights"]["temporal"] > 0
