"""The loop as a generator: equal from equal seeds, resumable, harmless when something is not finite."""

import json
import math
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from workbench.aliases import CONVLSTM
from workbench.data.sampling.crops import CropSampler, make_pair
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.models.edvr import EDVR
from workbench.models.sliding_window import SlidingWindow
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import WindowOutput
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import cosine, train

OLD = {"stride": 4, "standardize": False, "cells": "last", "border_frames": 0}
"""Settings of the temporal term before format 2, which the golden losses are of."""

GOLDEN = Path(__file__).parents[1] / "golden" / "smoke_losses.json"


class Pupil(SlidingWindow):
    """Two convolutions, four channels at high resolution."""

    feature_channels = 4

    def __init__(self):
        super().__init__(scale=2, num_frames=1, border="replicate", skip="bilinear")
        self.widen, self.exit = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def per_window(self, *pieces, return_features):
        features = F.pixel_shuffle(self.widen(pieces[0][:, 0]), 2).tanh()
        return WindowOutput(self.exit(features), features if return_features else None)


def batches(first=1):
    """An endless row of random clips; each a function of its number."""
    number = first
    while True:
        dice = torch.Generator().manual_seed(number)
        yield torch.rand(2, 3, 3, 6, 6, generator=dice), torch.rand(2, 3, 3, 12, 12, generator=dice)
        number += 1


def lesson(mode="trained", seed=0, **settings):
    """A student with everything that teaches it, all from one seed; and the steps."""
    torch.manual_seed(seed)
    student, teacher = Pupil(), Pupil()
    memory = TemporalMemory(4, 4, hidden_channels=2, stride=2, standardize=False, border_frames=0, mode=mode, seed=seed)
    objective = Objective(spatial_weight=0.1, temporal_weight=0.1, memory=memory)
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=1e-3)
    wanted = {"steps": 10, "learning_rate": (1e-2, 1e-4), "teacher": teacher} | settings
    return (
        student,
        objective,
        optimizer,
        lambda rows=None, **more: train(
            student, rows if rows is not None else islice(batches(), 10), objective, optimizer, **(wanted | more)
        ),
    )


def copies(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(network, before):
    return all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def numbers(steps):
    return [(step.number, step.terms, step.total, step.gradient_norm, step.learning_rate) for step in steps]


def test_equal_seeds_are_equal_runs():
    (first, *_, steps), (again, *_, same_steps), (_, *_, other_steps) = lesson(), lesson(), lesson(seed=1)
    seen = numbers(steps())
    assert [number for number, *_ in seen] == list(range(1, 11))
    assert numbers(same_steps()) == seen
    assert same(first, again.state_dict())
    assert numbers(other_steps()) != seen


def test_twenty_now_and_the_rest_later():
    """Stopping to ask is a pause: nothing is computed until somebody asks again, and nothing is lost."""
    (student, *_, steps), (_, *_, whole) = lesson(), lesson()
    going = steps()
    first = list(islice(going, 4))
    paused = copies(student)
    assert same(student, paused)
    assert numbers(first) + numbers(going) == numbers(whole())


def test_a_new_generator_goes_on_from_where_the_old_one_stopped():
    (_, *_, steps), (_, *_, whole) = lesson(), lesson()
    first = numbers(islice(steps(), 4))
    rest = numbers(steps(islice(batches(5), 6), done=4))
    assert [number for number, *_ in rest] == [5, 6, 7, 8, 9, 10]
    assert first + rest == numbers(whole())


def test_it_learns():
    *_, steps = lesson()
    low, high = next(batches())
    rows = ((low, high) for _ in range(60))
    seen = list(steps(rows, steps=60, learning_rate=(3e-3, 3e-3)))
    assert seen[-1].total < 0.9 * seen[0].total


def test_the_teacher_is_left_as_it_is():
    torch.manual_seed(0)
    teacher = Pupil().train()
    before = copies(teacher)
    _, *_, steps = lesson()
    list(steps(teacher=teacher))
    assert same(teacher, before)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_the_memory_learns_only_where_it_may(mode):
    _, objective, _, steps = lesson(mode)
    before = copies(objective.memory)
    list(steps())
    assert same(objective.memory, before) == (mode == "frozen")


def test_the_memory_is_frozen_for_good_and_that_is_told_once():
    _, objective, _, steps = lesson("trained_then_frozen")
    objective.memory.freeze_below = math.inf
    seen = []
    before = None
    for step in steps():
        seen.append(step.notes)
        before = before or copies(objective.memory)
    assert seen[0][0].startswith("memory frozen: temporal loss")
    assert seen[1:] == [()] * 9
    assert same(objective.memory, before)


# -- not finite -----------------------------------------------------------------------------------------------------


def poisoned(term):
    """A lesson whose fourth batch, or teacher, is not finite."""
    student, objective, optimizer, steps = lesson()

    def rows():
        for number, (low, high) in enumerate(islice(batches(), 10), 1):
            if number == 4 and term == "reconstruction":
                high = high * float("nan")
            yield low, high

    if term == "spatial":
        objective.eps = 1e-3
        teacher = Pupil()
        asked = []

        def spoil(_module, _inputs, output):
            asked.append(1)
            bad = output.features * (float("inf") if len(asked) == 4 else 1.0)
            return type(output)(frames=output.frames, features=bad)

        teacher.register_forward_hook(spoil)
        return student, objective, optimizer, steps(rows(), teacher=teacher)
    if term == "temporal":
        real, asked = objective.memory.teacher_cells, []

        def spoil(features):
            asked.append(1)
            return real(features) * (float("nan") if len(asked) == 4 else 1.0)

        objective.memory.teacher_cells = spoil
    return student, objective, optimizer, steps(rows())


@pytest.mark.parametrize("term", ["reconstruction", "spatial", "temporal"])
def test_what_is_not_finite_is_named_and_moves_nothing(term):
    student, objective, optimizer, steps = poisoned(term)
    assert [step.number for step in islice(steps, 3)] == [1, 2, 3]
    before, memory_before = copies(student), copies(objective.memory)
    moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
    with pytest.raises(FloatingPointError, match=f"step 4: .*{term}.* not finite .*learning_rate below"):
        next(steps)
    assert same(student, before)
    assert same(objective.memory, memory_before)
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, after, strict=True))


def test_a_gradient_that_is_not_finite_moves_nothing():
    student, _, _, steps = lesson()
    going = steps()
    next(going)
    before = copies(student)
    student.exit.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        FloatingPointError, match=r"step 2: gradient not finite while the terms are .*learning_rate below"
    ):
        next(going)
    assert same(student, before)


# -- settings -------------------------------------------------------------------------------------------------------


def test_a_plain_run_has_one_term_and_asks_for_no_features():
    torch.manual_seed(0)
    student = Pupil()
    kept = []
    student.register_forward_pre_hook(
        lambda _module, _inputs, named: kept.append(named["return_features"]), with_kwargs=True
    )
    optimizer = torch.optim.Adam(student.parameters())
    for step in train(student, islice(batches(), 3), Objective(), optimizer, steps=3, learning_rate=(1e-3, 1e-3)):
        assert list(step.terms) == list(step.weights) == ["reconstruction"]
        assert step.total == pytest.approx(step.terms["reconstruction"])
        assert step.diagnostics == {}
    assert kept == [None] * 3


def test_a_teacher_without_weights_on_its_terms_is_not_asked():
    asked = []
    teacher = Pupil()
    teacher.register_forward_pre_hook(lambda *_: asked.append(1))
    student = Pupil()
    optimizer = torch.optim.Adam(student.parameters())
    list(train(student, islice(batches(), 2), Objective(), optimizer, steps=2, learning_rate=(1, 1), teacher=teacher))
    assert asked == []


def test_terms_are_logged_unweighted():
    _, objective, _, steps = lesson()
    objective.schedule, objective.schedule_steps = "warm_up", 10
    for step in islice(steps(), 5):
        assert step.weights == {
            "reconstruction": 1.0,
            "spatial": pytest.approx(0.1 * step.number / 10),
            "temporal": pytest.approx(0.1 * step.number / 10),
        }
        assert step.total == pytest.approx(sum(step.weights[name] * step.terms[name] for name in step.terms))
        assert 0 < step.diagnostics["collapse_index"] < 1


def test_half_a_cosine_by_hand():
    assert cosine(1, 5, 1.0, 0.2) == pytest.approx(1.0)
    assert cosine(2, 5, 1.0, 0.2) == pytest.approx(0.2 + 0.8 * (1 + 2**-0.5) / 2)
    assert cosine(3, 5, 1.0, 0.2) == pytest.approx(0.6)
    assert cosine(5, 5, 1.0, 0.2) == pytest.approx(0.2)
    assert cosine(1, 1, 1.0, 0.2) == pytest.approx(1.0)


def test_every_step_moves_at_its_own_rate():
    _, _, optimizer, steps = lesson()
    rates = []
    for step in steps():
        assert {group["lr"] for group in optimizer.param_groups} == {step.learning_rate}
        rates.append(step.learning_rate)
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)


def test_a_clipped_gradient_is_told_as_it_was():
    """SGD with rate 1: the step is the gradient, cut to the length asked for; the log has its length before."""
    student, objective, _, _ = lesson("frozen")
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    before = copies(student)
    settings = {"steps": 1, "learning_rate": (1.0, 1.0), "teacher": Pupil(), "max_grad_norm": 0.01}
    (step,) = train(student, islice(batches(), 1), objective, optimizer, **settings)
    moved = math.sqrt(sum((value - before[name]).square().sum().item() for name, value in student.state_dict().items()))
    assert step.gradient_norm > 0.02
    assert moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("bf16", [True, False])
def test_no_mode_leaks_to_whoever_asks(bf16):
    """Between steps gradients are on and autocast is off, whatever happens inside; also after dropping the steps."""
    student, *_, steps = lesson(accelerator=make_accelerator(device="cpu", precision="bf16" if bf16 else "fp32"))

    def check():
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

    going = steps()
    for _ in range(3):
        next(going)
        check()
        assert student.training
    going.close()
    check()


def test_bf16_runs_the_networks_in_bf16_and_the_losses_in_float32():
    student, *_, steps = lesson(accelerator=make_accelerator(device="cpu", precision="bf16"))
    kinds = []
    student.exit.register_forward_hook(lambda _module, _inputs, output: kinds.append(output.dtype))
    (halved, *_), (exact, *_) = (list(steps(islice(batches(), 1))), list(lesson()[-1](islice(batches(), 1))))
    assert kinds == [torch.bfloat16]
    assert halved.terms.keys() == exact.terms.keys()
    for name, value in exact.terms.items():
        assert halved.terms[name] == pytest.approx(value, rel=0.05)
        assert halved.terms[name] != value
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


# -- golden ---------------------------------------------------------------------------------------------------------


def drawn_from_names(module, spread):
    """Weights from each tensor's name alone, so that the order in which layers are made does not matter.

    The ConvLSTM's names are those of format 1, under which the golden losses were stored.
    """
    for name, value in module.state_dict().items():
        for old, new in CONVLSTM.items():
            name = name.replace(new, old)
        if value.is_floating_point():
            rng = np.random.default_rng(crc32(name.encode()))
            value.copy_(torch.from_numpy(rng.standard_normal(tuple(value.shape)) * spread))
    return module


def golden_losses():
    """Five steps of VESPCN under EDVR, every term, warm-up, adapter-free trained memory, clipping, cosine."""
    t, y, x = np.mgrid[:6, :64, :80].astype(float)
    waves = [np.sin((x + 1.5 * t) / 3) + np.cos(y / 4), np.sin((x + y) / 5 - t), np.cos((x - 1.5 * t) * y / 150)]
    frames = (np.stack(waves, axis=-1) * 60 + 128).clip(0, 255).round().astype(np.uint8)
    sampler = CropSampler([make_pair(frames, scale=4)], crop_size=8, num_frames=3, batch_size=2, seed=0)
    student = drawn_from_names(VESPCN(skip="bicubic"), 0.03)
    teacher = drawn_from_names(EDVR(channels=16, groups=4, front_blocks=1, back_blocks=2, skip="bicubic"), 0.05)
    memory = drawn_from_names(TemporalMemory(64, 64, hidden_channels=4, mode="trained", **OLD), 0.2)
    objective = Objective(
        spatial_weight=0.001, temporal_weight=0.03, normalization="unit", memory=memory,
        schedule="warm_up", schedule_steps=4,
    )  # fmt: skip
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=1e-3, betas=(0.9, 0.99))
    return train(
        student, sampler.after(0, 5), objective, optimizer,
        steps=5, learning_rate=(1e-3, 1e-5), teacher=teacher, max_grad_norm=1.0,
    )  # fmt: skip


def test_golden_losses():
    """A refactor must not move them; a change of the computation moves them on purpose, with the reason."""
    golden = json.loads(GOLDEN.read_text())["steps"]
    for step, wanted in zip(golden_losses(), golden, strict=True):
        assert step.terms == pytest.approx(wanted["terms"], rel=1e-4)
        assert step.total == pytest.approx(wanted["total"], rel=1e-4)
        assert step.diagnostics["collapse_index"] == pytest.approx(wanted["collapse_index"], rel=1e-3)


def write_golden():
    """``python tests/training/test_loop.py`` rewrites the file; the commit explains why."""
    steps = [
        {"terms": s.terms, "total": s.total, "collapse_index": s.diagnostics["collapse_index"]} for s in golden_losses()
    ]
    origin = f"tests/training/test_loop.py, golden_losses, torch {torch.__version__}, one CPU thread, float32"
    GOLDEN.write_text(json.dumps({"origin": origin, "steps": steps}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_golden()
