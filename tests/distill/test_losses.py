"""Each term by hand on a toy, its gradient to the student and none to the teacher."""

import math

import pytest
import torch

from workbench.distill.losses import (
    DISTILLATION_LOSSES,
    Affinity,
    AttentionTransfer,
    ChannelStatistic,
    DistillationInputs,
    FitNets,
    FrameDifference,
    Frequency,
    OutputL1,
    TeacherBetterL1,
    TemporalConsistency,
    VariationalInformation,
    make_loss,
)
from workbench.errors import ConfigError, ShapeError, UnknownNameError
from workbench.models.video_sr import Upscaled


def lesson(student=None, teacher=None, high=None, *, ours=None, theirs=None):
    """Pictures and features; what is left out is empty."""
    blank = torch.zeros(1, 1, 3, 1, 1)
    return DistillationInputs(
        Upscaled(blank if student is None else student, ours),
        Upscaled(blank if teacher is None else teacher, theirs),
        blank if high is None else high,
    )


def random_lesson(ours_channels=3, theirs_channels=5, frames=3, size=8):
    dice = torch.Generator().manual_seed(0)

    def draw(*shape, grad=True):
        return torch.rand(*shape, generator=dice).requires_grad_(grad)

    student = Upscaled(draw(2, frames, 3, size, size), draw(2, frames, ours_channels, size, size))
    teacher = Upscaled(draw(2, frames, 3, size, size), draw(2, frames, theirs_channels, size, size))
    return DistillationInputs(student, teacher, draw(2, frames, 3, size, size, grad=False))


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_teaches_the_student_and_leaves_the_teacher_alone(name):
    given = random_lesson()
    term = make_loss(name, 3, 5)
    value = term(given)
    assert value.shape == ()
    value.backward()
    read = [given.student.features if term.needs_features else given.student.frames]
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in read)
    assert given.teacher.frames.grad is None
    assert given.teacher.features.grad is None
    for key, parameter in term.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", sorted(DISTILLATION_LOSSES.keys() - {"fitnets", "variational_information"}))
def test_is_zero_where_both_agree(name):
    given = random_lesson(4, 4)
    same = DistillationInputs(given.student, given.student, given.high)
    assert make_loss(name, 4, 4)(same).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_learning_it_brings_it_down(name):
    torch.manual_seed(0)
    given = random_lesson()
    term = make_loss(name, 3, 5)
    frames, features = given.student.frames.detach().clone(), given.student.features.detach().clone()
    learned = [frames.requires_grad_(), features.requires_grad_(), *term.parameters()]
    optimizer = torch.optim.Adam(learned, lr=1e-2)
    values = []
    for _ in range(30):
        value = term(DistillationInputs(Upscaled(frames, features), given.teacher, given.high))
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < values[0]


class TestByHand:
    def test_output(self):
        assert OutputL1()(lesson(torch.full((1, 1, 3, 1, 1), 0.5), torch.full((1, 1, 3, 1, 1), 0.2))).item() == (
            pytest.approx(0.3)
        )

    def test_fitnets(self):
        term = FitNets(1, 1)
        torch.nn.init.constant_(term.regressor.weight, 2.0)
        torch.nn.init.constant_(term.regressor.bias, 1.0)
        given = lesson(ours=torch.full((1, 1, 1, 1, 1), 3.0), theirs=torch.full((1, 1, 1, 1, 1), 4.0))
        assert term(given).item() == pytest.approx(0.5 * (2 * 3 + 1 - 4) ** 2)

    def test_attention_transfer_in_both_readings(self):
        # Maps of two pixels: (9, 16) and (1, 0): unit (9, 16)/sqrt(337) and (1, 0).
        ours = torch.tensor([3.0, 4.0]).view(1, 1, 1, 1, 2)
        theirs = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
        length = math.sqrt(9**2 + 16**2)
        squares = (9 / length - 1) ** 2 + (16 / length) ** 2
        given = lesson(ours=ours, theirs=theirs)
        assert AttentionTransfer()(given).item() == pytest.approx(0.5 * math.sqrt(squares))
        assert AttentionTransfer(released_code=True)(given).item() == pytest.approx(squares / 2)

    def test_statistics(self):
        ours = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)  # mean 2, mean of squares 5
        theirs = torch.zeros(1, 1, 2, 1, 1)
        given = lesson(ours=ours, theirs=theirs)
        wanted = {"squared_mean": 16.0, "mean_square": 25.0, "max": 9.0, "min": 1.0}
        assert {name: ChannelStatistic(name)(given).item() for name in wanted} == wanted

    def test_affinity(self):
        # Two places: the student's point the same way (cosine 1), the teacher's are at right angles (cosine 0).
        ours = torch.tensor([[1.0, 5.0], [0.0, 0.0]]).view(1, 1, 2, 1, 2)
        theirs = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 1, 2)
        assert Affinity()(lesson(ours=ours, theirs=theirs)).item() == pytest.approx(2 / 4)

    def test_temporal_consistency(self):
        # One place, two frames: the student keeps its direction, the teacher reverses it: (1 - (-1))^2.
        ours = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
        theirs = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1, 1)
        assert TemporalConsistency()(lesson(ours=ours, theirs=theirs)).item() == pytest.approx(4.0)

    def test_variational_information(self):
        term = VariationalInformation(1, 1)
        for parameter in term.parameters():
            torch.nn.init.zeros_(parameter)
        given = lesson(ours=torch.zeros(1, 1, 1, 1, 1), theirs=torch.full((1, 1, 1, 1, 1), 0.1))
        variance = 0.001 * math.log(2) + 1e-8  # softplus(0) = log 2
        wanted = 0.5 * math.log(2 * math.pi) + 0.5 * math.log(variance) + 0.01 / (2 * variance)
        assert term(given).item() == pytest.approx(wanted, rel=1e-5)

    def test_frequency_ignores_a_constant_and_weighs_the_finest_stripes_most(self):
        size = 8
        flat = torch.ones(1, 1, 3, size, size)
        fine = torch.tensor([1.0, -1.0]).repeat(size // 2).expand(1, 1, 3, size, size)
        coarse = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(size // 4).expand(1, 1, 3, size, size)
        black = torch.zeros_like(flat)
        assert Frequency()(lesson(flat, black)).item() == pytest.approx(0, abs=1e-7)
        # All energy in one bin of 8 x 5: value 8 (orthonormal), radius 1/2 of at most sqrt(1/2).
        assert Frequency()(lesson(fine, black)).item() == pytest.approx(8 * 0.5 / math.sqrt(0.5) / 40, rel=1e-5)
        assert 0 < Frequency()(lesson(coarse, black)).item() < Frequency()(lesson(fine, black)).item()

    def test_frame_difference_does_not_see_a_constant_error(self):
        still, blink = torch.zeros(1, 3, 3, 2, 2), torch.zeros(1, 3, 3, 2, 2)
        blink[:, 1] = 0.5
        assert FrameDifference()(lesson(still + 0.3, still)).item() == pytest.approx(0, abs=1e-7)
        assert FrameDifference()(lesson(blink, still)).item() == pytest.approx(0.5)

    def test_where_better_looks_only_where_the_teacher_is_nearer(self):
        high = torch.zeros(1, 1, 3, 1, 2)
        student = torch.tensor([0.4, 0.1]).expand(1, 1, 3, 1, 2)
        teacher = torch.tensor([0.1, 0.4]).expand(1, 1, 3, 1, 2)
        assert TeacherBetterL1()(lesson(student, teacher, high)).item() == pytest.approx(0.3 / 2)


@pytest.mark.parametrize("name", ["temporal_consistency", "frame_difference"])
def test_one_frame_has_no_pairs(name):
    assert make_loss(name, 3, 5)(random_lesson(frames=1)).item() == 0


def test_what_cannot_be_is_said():
    with pytest.raises(UnknownNameError, match="output_l1"):
        make_loss("outptu", 3, 3)
    with pytest.raises(ConfigError, match=r"the teacher has none.*output"):
        make_loss("fitnets", 64, 0)
    with pytest.raises(UnknownNameError, match="squared_mean"):
        ChannelStatistic("mean")
    with pytest.raises(ConfigError, match="return_features='hr'"):
        Affinity()(lesson())
    with pytest.raises(ShapeError, match="same frames"):
        Affinity()(lesson(ours=torch.zeros(1, 2, 3, 4, 4), theirs=torch.zeros(1, 1, 3, 4, 4)))
