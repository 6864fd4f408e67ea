"""The shared memory: against its equations step by step, and what is and is not allowed to learn."""

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from workbench.distill.temporal import (
    ConvLSTM,
    TemporalMemory,
    cell_deviation,
    collapse_index,
    load_memory,
    save_memory,
    select_frames,
    standardize,
    temporal_distillation,
)
from workbench.errors import ShapeError, WeightsError
from workbench.models.weights import read_tensors, save_tensors

MODES = ["frozen", "trained", "trained_then_frozen"]

FORMAT_1 = ROOT / "tests" / "golden" / "memory_format_1.safetensors"
"""ConvLSTM of a network that an earlier version shipped."""


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolve(image, weight, bias=None):
    """A 3x3 convolution with zeros around, written out: (C, H, W), (D, C, 3, 3) -> (D, H, W)."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width))
    for y in range(height):
        for x in range(width):
            out[:, y, x] = (weight * padded[:, y : y + 3, x : x + 3]).sum(axis=(1, 2, 3))
    return out if bias is None else out + bias[:, None, None]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_equations_step_by_step():
    memory = ConvLSTM(3, 2, seed=5)
    clip = features(2, 4, 3, 4, 5)
    wx, bx = (part.detach().double().numpy() for part in (memory.input_conv.weight, memory.input_conv.bias))
    uh = memory.hidden_conv.weight.detach().double().numpy()
    wanted = np.zeros((2, 4, 2, 4, 5))
    for which in range(2):
        cell = hidden = np.zeros((2, 4, 5))
        for t in range(4):
            x = clip[which, t].double().numpy()
            i, f, o, g = np.split(convolve(x, wx, bx) + convolve(hidden, uh), 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            wanted[which, t] = cell
    assert np.allclose(memory(clip).detach().numpy(), wanted, atol=1e-6)


def test_a_memory_with_constant_gates_by_hand():
    """Weights 0; biases make i = 1/2, f = 1/2 and g = 1/2: C grows 1/4, 3/8, 7/16."""
    memory = ConvLSTM(1, 1).requires_grad_(False)
    memory.input_conv.weight.zero_()
    memory.hidden_conv.weight.zero_()
    memory.input_conv.bias.copy_(torch.tensor([0.0, 0.0, 0.0, np.arctanh(0.5)]))
    cells = memory(features(1, 3, 1, 2, 2))
    assert cells[0, :, 0, 0, 0].tolist() == pytest.approx([1 / 4, 3 / 8, 7 / 16])


def test_a_cell_depends_on_past_frames_only():
    memory = ConvLSTM(2, 3)
    clip = features(1, 4, 2, 5, 5)
    changed = clip.clone()
    changed[:, 2] += 1
    before, after = memory(clip), memory(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] - after[:, 2:]).abs().flatten(2).amax(2).min() > 1e-4


def test_weights_depend_on_the_seed_and_other_generators_are_unchanged():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    first = TemporalMemory(4, 6, seed=3)
    assert torch.equal(torch.rand(3), wanted)
    torch.manual_seed(8)
    again, other = TemporalMemory(4, 6, seed=3), TemporalMemory(4, 6, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.lstm.input_conv.weight, other.lstm.input_conv.weight)
    assert not torch.equal(first.adapter.weight, other.adapter.weight)


def loss_of(memory, student, teacher):
    return temporal_distillation(memory.student_cells(student), memory.teacher_cells(teacher))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_by_memory_mode(mode):
    """The student always, through a memory that learns or not; the ConvLSTM unless it is frozen."""
    memory = TemporalMemory(4, 4, stride=1, mode=mode)
    student = features(1, 3, 4, 6, 6).requires_grad_()
    teacher = features(1, 3, 4, 6, 6, seed=1)
    loss_of(memory, student, teacher).backward()
    assert (student.grad.flatten(2).abs().amax(2) > 0).all(), "every frame of the student"
    gradients = [parameter.grad for parameter in memory.lstm.parameters()]
    assert memory.is_frozen == (mode == "frozen")
    if mode == "frozen":
        assert gradients == [None, None, None]
    else:
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_trained_memory_has_gradients_from_the_teacher():
    """Its gradient is that of both cells: not what is left when the teacher's cell is held still."""
    memory = TemporalMemory(4, 4, stride=1, mode="trained")
    student, teacher = features(1, 2, 4, 6, 6), features(1, 2, 4, 6, 6, seed=1)
    loss_of(memory, student, teacher).backward()
    whole = memory.lstm.input_conv.weight.grad.clone()
    memory.zero_grad()
    temporal_distillation(memory.student_cells(student), memory.teacher_cells(teacher).detach()).backward()
    assert not torch.allclose(whole, memory.lstm.input_conv.weight.grad, rtol=0.05)


def test_only_different_channels_need_an_adapter():
    assert isinstance(TemporalMemory(4, 4).adapter, torch.nn.Identity)
    memory = TemporalMemory(3, 5, stride=1, standardize=False, border_frames=0)
    assert memory.adapter.weight.shape == (5, 3, 1, 1)
    student, teacher = features(1, 2, 3, 4, 4), features(1, 2, 5, 4, 4, seed=1)
    loss_of(memory, student, teacher).backward()
    assert memory.adapter.weight.grad.abs().sum() > 0, "the adapter learns even where the ConvLSTM is frozen"
    adapted = torch.einsum("dc,btchw->btdhw", memory.adapter.weight[:, :, 0, 0], student)
    adapted = adapted + memory.adapter.bias.view(1, 1, 5, 1, 1)
    assert torch.allclose(memory.student_cells(student), memory.teacher_cells(adapted), atol=1e-6)


def test_features_are_averaged_over_blocks():
    """5x6 by squares of 4: whole squares where they fit, what is left of them at the border."""
    memory = TemporalMemory(2, 2, stride=4)
    clip = features(1, 2, 2, 5, 6)
    thin = memory.pool(clip)
    assert thin.shape == (1, 2, 2, 2, 2)
    for row, rows in enumerate((slice(0, 4), slice(4, 5))):
        for column, columns in enumerate((slice(0, 4), slice(4, 6))):
            assert torch.allclose(thin[..., row, column], clip[..., rows, columns].mean((-2, -1)), atol=1e-6)
    assert torch.equal(TemporalMemory(2, 2, stride=1).pool(clip), clip)
    assert memory.teacher_cells(clip).shape == (1, 2, 8, 2, 2)


def test_with_equal_channels_only_the_convlstm_has_parameters():
    """And nothing at all where that is frozen: the distance can then fall by the student alone."""
    assert {name.partition(".")[0] for name, _ in TemporalMemory(4, 4, mode="trained").named_parameters()} == {"lstm"}
    assert not [p for p in TemporalMemory(4, 4, mode="frozen").parameters() if p.requires_grad]
    assert [n for n, p in TemporalMemory(3, 4, mode="frozen").named_parameters() if p.requires_grad] == [
        "adapter.weight"  # a bias would be standardized away
    ]


# Standardization


def test_standardized_channels_equal_numpy():
    clips = features(2, 3, 4, 5, 6) * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1) + 7
    wanted = clips.double().numpy()
    mean, deviation = wanted.mean((1, 3, 4), keepdims=True), wanted.std((1, 3, 4), keepdims=True)
    assert np.allclose(standardize(clips).numpy(), (wanted - mean) / deviation, atol=2e-3)


def test_standardization_does_not_depend_on_the_batch():
    """Or the loss would depend on the pieces of a batch, and a cache would hold cells of other neighbors."""
    clips = features(3, 2, 4, 5, 6)
    assert torch.equal(standardize(clips)[1:2], standardize(clips[1:2]))


def test_standardization_keeps_changes_of_the_mean_over_time():
    """A flicker is temporal content: frame means 1 and 3 become -1 and 1."""
    clip = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4)
    assert torch.allclose(standardize(clip)[0, :, 0, 0, 0], torch.tensor([-1.0, 1.0]), atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_ignores_offset_and_gain_of_the_student(mode):
    """No bias lowers the loss: the gradient has neither offset nor gain."""
    memory = TemporalMemory(4, 4, stride=1, mode=mode)
    student, teacher = features(1, 4, 4, 6, 6), features(1, 4, 4, 6, 6, seed=1)
    gain, offset = torch.tensor([0.5, 1, 2, 3]).view(4, 1, 1), torch.tensor([-2.0, 0, 1, 5]).view(4, 1, 1)
    changed = (gain * student + offset).requires_grad_()
    assert torch.allclose(loss_of(memory, student, teacher), loss_of(memory, changed, teacher), rtol=1e-3)
    (gradient,) = torch.autograd.grad(loss_of(memory, changed, teacher), changed)
    size = gradient.square().sum().sqrt()
    assert size > 0
    assert gradient.sum(dim=(1, 3, 4)).abs().max() < 1e-4 * size
    centered = changed - changed.mean(dim=(1, 3, 4), keepdim=True)
    along = (gradient * centered).sum(dim=(1, 3, 4)) / centered.square().sum(dim=(1, 3, 4)).sqrt()
    assert along.abs().max() < 1e-3 * size


def test_without_standardization_an_offset_changes_the_loss():
    memory = TemporalMemory(4, 4, stride=1, standardize=False)
    clip = features(1, 4, 4, 6, 6)
    assert loss_of(memory, clip + 1, clip) > 1e-3


def test_channels_that_hardly_vary_are_not_amplified():
    clip = features(1, 2, 3, 8, 8) * torch.tensor([1.0, 1.0, 1e-5]).view(3, 1, 1)
    made = standardize(clip)
    assert made[:, :, :2].std() == pytest.approx(1.0, rel=0.01)
    assert made[:, :, 2].std() < 0.01
    flat = torch.full((1, 2, 3, 4, 4), 0.3, requires_grad=True)
    standardize(flat).square().sum().backward()
    assert torch.isfinite(flat.grad).all()


# Which cells


def test_selected_frames_by_hand():
    cells = torch.arange(7.0).view(1, 7, 1, 1, 1)
    for which, border, wanted in (
        ("last", 0, [6]), ("last", 1, [5]), ("last", 2, [4]), ("all", 0, [0, 1, 2, 3, 4, 5, 6]), ("all", 2, [2, 3, 4]),
    ):  # fmt: skip
        assert select_frames(cells, which, border).flatten().tolist() == wanted
        memory = TemporalMemory(2, 2, cells=which, border_frames=border)
        assert memory.select_frames(cells).flatten().tolist() == wanted


@pytest.mark.parametrize("which", ["last", "all"])
def test_a_clip_of_border_frames_alone_raises(which):
    with pytest.raises(ShapeError, match=r"border_frames: .* 4 frames, got 2"):
        select_frames(torch.zeros(1, 4, 1, 2, 2), which, 2)


def test_the_loss_over_all_cells_by_hand():
    """Differences 1, 2 and 3 of three frames: (1 + 4 + 9) / 3; without the first and the last frame 4."""
    ours, theirs = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1), torch.zeros(1, 3, 1, 1, 1)
    assert temporal_distillation(ours, theirs, cells="all").item() == pytest.approx(14 / 3)
    assert temporal_distillation(ours, theirs, cells="all", border_frames=1).item() == 4.0
    assert temporal_distillation(ours, theirs, border_frames=1).item() == 4.0
    assert temporal_distillation(ours, theirs).item() == 9.0


@pytest.mark.parametrize(
    ("which", "reached"), [("last", [True, True, True, False]), ("all", [True, True, True, False])]
)
def test_a_border_frame_at_the_end_gets_no_gradient(which, reached):
    memory = TemporalMemory(2, 2, stride=1, standardize=False, cells=which, border_frames=1)
    student = features(1, 4, 2, 5, 5).requires_grad_()
    ours, theirs = memory.student_cells(student), memory.teacher_cells(features(1, 4, 2, 5, 5, seed=1))
    temporal_distillation(ours, theirs, cells=memory.cells, border_frames=memory.border_frames).backward()
    assert (student.grad.abs().amax((0, 2, 3, 4)) > 0).tolist() == reached


# Files


@pytest.mark.parametrize("settings", [{}, {"cells": "all", "stride": 1, "border_frames": 2, "mode": "trained"}])
def test_a_loaded_memory_computes_the_same_cells(tmp_path, settings):
    memory = TemporalMemory(3, 4, hidden_channels=2, seed=4, **settings)
    save_memory(memory, tmp_path / "memory.safetensors")
    again = load_memory(tmp_path / "memory.safetensors")
    assert again.settings == memory.settings
    clip = features(1, 5, 3, 8, 8)
    assert torch.equal(again.student_cells(clip), memory.student_cells(clip))


def test_a_memory_of_format_1_computes_its_old_loss():
    """Averages over 4x4, raw features, the last cell of the whole clip."""
    memory = load_memory(FORMAT_1)
    assert read_tensors(FORMAT_1)[1]["format"] == "1"
    clip = features(1, 3, 16, 8, 8)
    pooled = clip.unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).mean((-3, -1))
    with torch.no_grad():
        cells = memory.lstm(pooled)
        assert torch.allclose(memory.teacher_cells(clip), cells, atol=1e-6)
    assert torch.equal(memory.select_frames(cells), cells[:, -1:])


def test_a_memory_of_format_2_computes_the_same_cells(tmp_path):
    """Its convolutions have other names, its settings are today's."""
    memory = TemporalMemory(3, 4, hidden_channels=2, seed=4, cells="all")
    save_memory(memory, tmp_path / "memory.safetensors")
    tensors, metadata = read_tensors(tmp_path / "memory.safetensors")
    renamed = {"lstm.input_conv.weight": "lstm.reads.weight", "lstm.input_conv.bias": "lstm.reads.bias",
               "lstm.hidden_conv.weight": "lstm.recalls.weight"}  # fmt: skip
    tensors = {renamed.get(name, name): tensor for name, tensor in tensors.items()}
    save_tensors(tmp_path / "old.safetensors", tensors, metadata | {"format": "2"})
    again = load_memory(tmp_path / "old.safetensors")
    assert again.settings == memory.settings
    clip = features(1, 5, 3, 8, 8)
    assert torch.equal(again.student_cells(clip), memory.student_cells(clip))


def test_a_memory_of_a_later_format_raises(tmp_path):
    tensors, metadata = read_tensors(FORMAT_1)
    save_tensors(tmp_path / "later.safetensors", tensors, metadata | {"format": "4"})
    with pytest.raises(WeightsError, match=r"got 4"):
        load_memory(tmp_path / "later.safetensors")


def test_only_the_last_cell_is_compared():
    ours, theirs = features(1, 3, 2, 4, 4), features(1, 3, 2, 4, 4, seed=1)
    wanted = ((ours[:, 2] - theirs[:, 2]) ** 2).mean()
    assert torch.allclose(temporal_distillation(ours, theirs), wanted)
    theirs[:, 2] = ours[:, 2]
    assert temporal_distillation(ours, theirs) == 0


def test_the_loss_by_hand():
    """Last cells (1, 2) and (3, 2): (4 + 0) / 2."""
    ours, theirs = torch.tensor([1.0, 2.0]).view(1, 1, 1, 1, 2), torch.tensor([3.0, 2.0]).view(1, 1, 1, 1, 2)
    assert temporal_distillation(ours, theirs).item() == 2.0


def test_shapes_that_do_not_fit_raise():
    with pytest.raises(ShapeError, match="cells: want equal shapes"):
        temporal_distillation(features(1, 3, 2, 4, 4), features(1, 3, 2, 4, 5))
    with pytest.raises(ShapeError, match=r"features: want \(B, T, C, H, W\)"):
        TemporalMemory(2, 2).teacher_cells(features(3, 2, 4, 4))
    with pytest.raises(ShapeError, match=r"features: want \(B, T, C, H, W\)"):
        ConvLSTM(2, 2)(features(3, 2, 4, 4))


def test_trained_then_frozen_freezes_permanently_below_its_threshold(tmp_path):
    memory = TemporalMemory(4, 4, mode="trained_then_frozen", freeze_below=0.5)
    assert not memory.freeze_if_below(0.5)
    assert not memory.is_frozen
    assert memory.freeze_if_below(0.4)
    assert memory.is_frozen
    assert not any(parameter.requires_grad for parameter in memory.lstm.parameters())
    assert not memory.freeze_if_below(0.1), "it reports this once"
    assert not memory.freeze_if_below(100.0)
    assert memory.is_frozen

    again = TemporalMemory(4, 4, mode="trained_then_frozen", freeze_below=0.5)
    again.load_state_dict(memory.state_dict())
    assert again.is_frozen
    assert not any(parameter.requires_grad for parameter in again.lstm.parameters())


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_other_modes_do_not_change(mode):
    memory = TemporalMemory(4, 4, mode=mode, freeze_below=0.5)
    assert not memory.freeze_if_below(0.0)
    assert memory.is_frozen == (mode == "frozen")
    again = TemporalMemory(4, 4, mode=mode)
    again.load_state_dict(memory.state_dict())
    assert [p.requires_grad for p in again.lstm.parameters()] == [mode != "frozen"] * 3


def test_the_collapse_index_by_hand():
    """Cells 1 and 3 at two pixels: standard deviation 1, root mean square sqrt(5)."""
    assert collapse_index(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)) == pytest.approx(1 / 5**0.5)
    assert collapse_index(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)) == pytest.approx(1.0)
    assert collapse_index(torch.full((2, 3, 4, 4), 0.7)) == pytest.approx(0.0, abs=1e-6)
    assert collapse_index(torch.zeros(1, 1, 2, 2)) == 0.0


def test_a_trained_memory_over_standardized_features_shrinks_its_cells():
    """Which the collapse index does not see, and the deviation does; a frozen memory keeps its own."""
    student, teacher = features(1, 3, 4, 8, 8), features(1, 3, 4, 8, 8, seed=1)
    memory = TemporalMemory(4, 4, hidden_channels=4, stride=1, mode="trained")
    optimizer = torch.optim.Adam(memory.parameters(), lr=0.02)
    before, loss_before = cell_deviation(memory.teacher_cells(teacher)), loss_of(memory, student, teacher).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(memory, student, teacher).backward()
        optimizer.step()
    assert loss_of(memory, student, teacher) < 0.2 * loss_before
    assert cell_deviation(memory.teacher_cells(teacher)[:, -1]) < 0.6 * before


def test_channels_that_differ_but_do_not_vary_are_collapsed():
    assert collapse_index(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)) == pytest.approx(0.0, abs=1e-6)


def test_the_collapse_index_ignores_brightness():
    cells = features(2, 3, 4, 4)
    assert collapse_index(100 * cells) == pytest.approx(collapse_index(cells).item(), rel=1e-5)


def test_a_jointly_trained_memory_collapses_and_a_frozen_one_cannot():
    """Two clips that never change: only the memory can lower the loss, and it does, by not looking any more."""
    student, teacher = features(1, 3, 4, 8, 8), features(1, 3, 4, 8, 8, seed=1)
    seen = {}
    for mode in ("trained", "frozen"):
        memory = TemporalMemory(4, 4, hidden_channels=4, stride=1, mode=mode)
        optimizer = torch.optim.Adam(memory.parameters(), lr=0.02)
        for _ in range(100):
            loss = loss_of(memory, student, teacher)
            seen.setdefault(mode, []).append((loss.item(), collapse_index(memory.teacher_cells(teacher)[:, -1]).item()))
            if loss.requires_grad:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    (loss_before, index_before), (loss_after, index_after) = seen["trained"][0], seen["trained"][-1]
    assert loss_after < 0.2 * loss_before
    assert index_after < 0.5 * index_before
    assert seen["frozen"] == [seen["frozen"][0]] * 100
    assert seen["frozen"][0] == pytest.approx(seen["trained"][0])
