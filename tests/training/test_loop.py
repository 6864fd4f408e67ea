"""The training loop as a generator: repeatable, resumable, no update from values that are not finite."""

import json
import math
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch

from tests.training.tiny import TinyNetwork, batches, copies, equal_weights, make_training, numbers
from workbench.aliases import CONVLSTM
from workbench.data.sampling.crops import CropSampler, make_pair
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.models.edvr import EDVR
from workbench.models.vespcn import VESPCN
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import cosine_annealing, train

OLD = {"stride": 4, "standardize": False, "cells": "last", "border_frames": 0}
"""Settings of the temporal loss before format 2. The golden losses were computed with them."""

GOLDEN = Path(__file__).parents[1] / "golden" / "smoke_losses.json"


def test_equal_seeds_give_equal_runs():
    (first, *_, steps), (again, *_, same_steps), (_, *_, other_steps) = (
        make_training(),
        make_training(),
        make_training(seed=1),
    )
    seen = numbers(steps())
    assert [number for number, *_ in seen] == list(range(1, 11))
    assert numbers(same_steps()) == seen
    assert equal_weights(first, again.state_dict())
    assert numbers(other_steps()) != seen


def test_a_paused_generator_continues_without_loss():
    """Nothing is computed between two steps."""
    (student, *_, steps), (_, *_, whole) = make_training(), make_training()
    running = steps()
    first = list(islice(running, 4))
    paused = copies(student)
    assert equal_weights(student, paused)
    assert numbers(first) + numbers(running) == numbers(whole())


def test_a_new_generator_continues_from_a_given_step():
    (_, *_, steps), (_, *_, whole) = make_training(), make_training()
    first = numbers(islice(steps(), 4))
    rest = numbers(steps(islice(batches(5), 6), completed_steps=4))
    assert [number for number, *_ in rest] == [5, 6, 7, 8, 9, 10]
    assert first + rest == numbers(whole())


def test_the_loss_falls_on_one_batch():
    *_, steps = make_training()
    low, high = next(batches())
    rows = ((low, high) for _ in range(60))
    seen = list(steps(rows, steps=60, initial_lr=3e-3, final_lr=3e-3))
    assert seen[-1].total < 0.9 * seen[0].total


def test_the_teacher_is_not_changed():
    torch.manual_seed(0)
    teacher = TinyNetwork().train()
    before = copies(teacher)
    _, *_, steps = make_training()
    list(steps(teacher=teacher))
    assert equal_weights(teacher, before)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_the_memory_changes_unless_it_is_frozen(mode):
    _, objective, _, steps = make_training(mode)
    before = copies(objective.memory)
    list(steps())
    assert equal_weights(objective.memory, before) == (mode == "frozen")


def test_the_memory_stays_frozen_and_one_step_has_a_note_of_it():
    _, objective, _, steps = make_training("trained_then_frozen")
    objective.memory.freeze_below = math.inf
    seen = []
    before = None
    for step in steps():
        seen.append(step.notes)
        before = before or copies(objective.memory)
    assert seen[0][0].startswith("memory frozen: temporal loss")
    assert seen[1:] == [()] * 9
    assert equal_weights(objective.memory, before)


# -- not finite -----------------------------------------------------------------------------------------------------
def training_with_nan(term):
    """Return a training whose fourth batch, teacher features or memory cells are not finite."""
    student, objective, optimizer, steps = make_training()

    def rows():
        for number, (low, high) in enumerate(islice(batches(), 10), 1):
            if number == 4 and term == "reconstruction":
                high = high * float("nan")
            yield low, high

    if term == "spatial":
        objective.eps = 1e-3
        teacher = TinyNetwork()
        calls = []

        def spoil(_module, _inputs, output):
            calls.append(1)
            bad = output.features * (float("inf") if len(calls) == 4 else 1.0)
            return type(output)(frames=output.frames, features=bad)

        teacher.register_forward_hook(spoil)
        return student, objective, optimizer, steps(rows(), teacher=teacher)
    if term == "temporal":
        real, calls = objective.memory.teacher_cells, []

        def spoil(features):
            calls.append(1)
            return real(features) * (float("nan") if len(calls) == 4 else 1.0)

        objective.memory.teacher_cells = spoil
    return student, objective, optimizer, steps(rows())


@pytest.mark.parametrize("term", ["reconstruction", "spatial", "temporal"])
def test_a_term_that_is_not_finite_raises_and_changes_nothing(term):
    student, objective, optimizer, steps = training_with_nan(term)
    assert [step.number for step in islice(steps, 3)] == [1, 2, 3]
    before, memory_before = copies(student), copies(objective.memory)
    moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
    with pytest.raises(FloatingPointError, match=f"step 4: .*{term}.*learning_rate"):
        next(steps)
    assert equal_weights(student, before)
    assert equal_weights(objective.memory, memory_before)
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, after, strict=True))
    assert all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"])


def test_micro_batches_that_make_no_whole_step_are_left_out():
    """Accelerate updates after every second backward pass: a third one would leave its gradient to the next step."""
    student, _, optimizer, steps = make_training(
        accelerator=make_accelerator(device="cpu", gradient_accumulation_steps=2)
    )
    running = steps(islice(batches(), 3))
    assert next(running).number == 1
    before = copies(student)
    assert list(running) == []
    assert equal_weights(student, before)
    assert all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"])


def test_a_gradient_that_is_not_finite_raises_and_changes_nothing():
    student, _, _, steps = make_training()
    running = steps()
    next(running)
    before = copies(student)
    student.exit.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match=r"step 2: gradient .*learning_rate"):
        next(running)
    assert equal_weights(student, before)


# -- settings -------------------------------------------------------------------------------------------------------
def test_a_plain_run_has_one_term_and_needs_no_features():
    torch.manual_seed(0)
    student = TinyNetwork()
    kept = []
    student.register_forward_pre_hook(
        lambda _module, _inputs, named: kept.append(named["return_features"]), with_kwargs=True
    )
    optimizer = torch.optim.Adam(student.parameters())
    for step in train(student, islice(batches(), 3), Objective(), optimizer, steps=3, initial_lr=1e-3, final_lr=1e-3):
        assert list(step.terms) == list(step.weights) == ["reconstruction"]
        assert step.total == pytest.approx(step.terms["reconstruction"])
        assert step.diagnostics == {}
    assert kept == [None] * 3


def test_a_teacher_is_not_run_if_its_terms_have_no_weights():
    calls = []
    teacher = TinyNetwork()
    teacher.register_forward_pre_hook(lambda *_: calls.append(1))
    student = TinyNetwork()
    optimizer = torch.optim.Adam(student.parameters())
    list(
        train(student, islice(batches(), 2), Objective(), optimizer, steps=2, initial_lr=1, final_lr=1, teacher=teacher)
    )
    assert calls == []


def test_terms_are_logged_unweighted():
    _, objective, _, steps = make_training()
    objective.schedule, objective.schedule_steps = "warm_up", 10
    for step in islice(steps(), 5):
        assert step.weights == {
            "reconstruction": 1.0,
            "spatial": pytest.approx(0.1 * step.number / 10),
            "temporal": pytest.approx(0.1 * step.number / 10),
        }
        assert step.total == pytest.approx(sum(step.weights[name] * step.terms[name] for name in step.terms))
        assert 0 < step.diagnostics["collapse_index"] < 1


def test_cosine_schedule_by_hand():
    assert cosine_annealing(1, 5, 1.0, 0.2) == pytest.approx(1.0)
    assert cosine_annealing(2, 5, 1.0, 0.2) == pytest.approx(0.2 + 0.8 * (1 + 2**-0.5) / 2)
    assert cosine_annealing(3, 5, 1.0, 0.2) == pytest.approx(0.6)
    assert cosine_annealing(5, 5, 1.0, 0.2) == pytest.approx(0.2)
    assert cosine_annealing(1, 1, 1.0, 0.2) == pytest.approx(1.0)


def test_the_optimizer_has_the_learning_rate_of_the_step():
    _, _, optimizer, steps = make_training()
    rates = []
    for step in steps():
        assert {group["lr"] for group in optimizer.param_groups} == {step.learning_rate}
        rates.append(step.learning_rate)
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)


def test_the_logged_gradient_norm_is_the_one_before_clipping():
    """With SGD and a learning rate of 1, the update is the clipped gradient."""
    student, objective, _, _ = make_training("frozen")
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    before = copies(student)
    settings = {"steps": 1, "initial_lr": 1.0, "final_lr": 1.0, "teacher": TinyNetwork(), "max_grad_norm": 0.01}
    (step,) = train(student, islice(batches(), 1), objective, optimizer, **settings)
    update_norm = math.sqrt(
        sum((value - before[name]).square().sum().item() for name, value in student.state_dict().items())
    )
    assert step.gradient_norm > 0.02
    assert update_norm == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("bf16", [True, False])
def test_autograd_and_autocast_modes_do_not_leak_between_steps(bf16):
    """Between steps and after closing the generator, gradients are on and autocast is off."""
    student, *_, steps = make_training(accelerator=make_accelerator(device="cpu", precision="bf16" if bf16 else "fp32"))

    def check():
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

    running = steps()
    for _ in range(3):
        next(running)
        check()
        assert student.training
    running.close()
    check()


def test_bf16_runs_the_networks_in_bf16_and_the_losses_in_float32():
    student, *_, steps = make_training(accelerator=make_accelerator(device="cpu", precision="bf16"))
    dtypes = []
    student.exit.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    (bf16_step, *_), (fp32_step, *_) = (
        list(steps(islice(batches(), 1))),
        list(make_training()[-1](islice(batches(), 1))),
    )
    assert dtypes == [torch.bfloat16]
    assert bf16_step.terms.keys() == fp32_step.terms.keys()
    for name, value in fp32_step.terms.items():
        assert bf16_step.terms[name] == pytest.approx(value, rel=0.05)
        assert bf16_step.terms[name] != value
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


# -- golden ---------------------------------------------------------------------------------------------------------
def set_weights_by_name(module, std):
    """Set weights that depend on the names of tensors only, not on the order of the layers.

    The names of the ConvLSTM are those of format 1, with which the golden losses were stored.
    """
    for name, value in module.state_dict().items():
        for old, new in CONVLSTM.items():
            name = name.replace(new, old)
        if value.is_floating_point():
            rng = np.random.default_rng(crc32(name.encode()))
            value.copy_(torch.from_numpy(rng.standard_normal(tuple(value.shape)) * std))
    return module


def golden_losses():
    """Run five steps of VESPCN distilled from EDVR: all terms, warm-up, trained memory, clipping, cosine schedule."""
    t, y, x = np.mgrid[:6, :64, :80].astype(float)
    waves = [np.sin((x + 1.5 * t) / 3) + np.cos(y / 4), np.sin((x + y) / 5 - t), np.cos((x - 1.5 * t) * y / 150)]
    frames = (np.stack(waves, axis=-1) * 60 + 128).clip(0, 255).round().astype(np.uint8)
    sampler = CropSampler([make_pair(frames, scale=4)], crop_size=8, num_frames=3, batch_size=2, seed=0)
    student = set_weights_by_name(VESPCN(skip="bicubic"), 0.03)
    teacher = set_weights_by_name(EDVR(channels=16, groups=4, front_blocks=1, back_blocks=2, skip="bicubic"), 0.05)
    memory = set_weights_by_name(TemporalMemory(64, 64, hidden_channels=4, mode="trained", **OLD), 0.2)
    objective = Objective(
        spatial_weight=0.001, temporal_weight=0.03, normalization="unit", memory=memory,
        schedule="warm_up", schedule_steps=4,
    )  # fmt: skip
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=1e-3, betas=(0.9, 0.99))
    return train(
        student, sampler.after(0, 5), objective, optimizer,
        steps=5, initial_lr=1e-3, final_lr=1e-5, teacher=teacher, max_grad_norm=1.0,
    )  # fmt: skip


def test_golden_losses():
    """A refactoring must not change them. A commit that changes the computation states the reason."""
    golden = json.loads(GOLDEN.read_text())["steps"]
    for step, expected in zip(golden_losses(), golden, strict=True):
        assert step.terms == pytest.approx(expected["terms"], rel=1e-4)
        assert step.total == pytest.approx(expected["total"], rel=1e-4)
        assert step.diagnostics["collapse_index"] == pytest.approx(expected["collapse_index"], rel=1e-3)


def write_golden():
    """Rewrite the file: ``python tests/training/test_loop.py``. The commit gives the reason."""
    steps = [
        {"terms": s.terms, "total": s.total, "collapse_index": s.diagnostics["collapse_index"]} for s in golden_losses()
    ]
    origin = f"tests/training/test_loop.py, golden_losses, torch {torch.__version__}, one CPU thread, float32"
    GOLDEN.write_text(json.dumps({"origin": origin, "steps": steps}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_golden()
