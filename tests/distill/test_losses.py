"""Each distillation loss by hand on small tensors; gradients reach the student and never the teacher."""

import math
from dataclasses import replace

import pytest
import torch

from workbench.distill import losses
from workbench.distill.losses import (
    DISTILLATION_LOSSES,
    DistillationInputs,
    FitNets,
    TeacherTargets,
    VariationalInformation,
    make_loss,
)
from workbench.distill.objective import Objective
from workbench.errors import ConfigError, ShapeError, UnknownNameError
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.video_sr import Upscaled
from workbench.models.zoo import build


def make_inputs(student=None, teacher=None, high=None, *, ours=None, theirs=None):
    """Build inputs from frames and features; those left out are zeros or none."""
    blank = torch.zeros(1, 1, 3, 1, 1)
    return DistillationInputs(
        Upscaled(blank if student is None else student, ours),
        TeacherTargets(blank if teacher is None else teacher, features=theirs),
        blank if high is None else high,
    )


def random_inputs(ours_channels=3, theirs_channels=5, frames=3, size=8):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, grad=True):
        return torch.rand(*shape, generator=generator).requires_grad_(grad)

    student = Upscaled(draw(2, frames, 3, size, size), draw(2, frames, ours_channels, size, size))
    teacher = TeacherTargets(draw(2, frames, 3, size, size), features=draw(2, frames, theirs_channels, size, size))
    flow = EstimatedFlow(draw(2, frames - 1, 2, size, size), draw(2, frames - 1, 2, size, size))
    student, teacher = replace(student, flow=flow), replace(teacher, flow=draw(2, 2, frames - 1, 2, size, size))
    return DistillationInputs(student, teacher, draw(2, frames, 3, size, size, grad=False))


def parameters(loss):
    return list(loss.compute.named_parameters()) if isinstance(loss.compute, torch.nn.Module) else []


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_gradients_reach_the_student_and_not_the_teacher(name):
    inputs = random_inputs()
    loss = make_loss(name, 3, 5)
    value = loss.compute(inputs)
    assert value.shape == ()
    value.backward()
    read = inputs.student.flow if loss.reads == "flow" else [getattr(inputs.student, loss.reads)]
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in read)
    assert inputs.teacher.frames.grad is None
    assert inputs.teacher.features.grad is None
    assert inputs.teacher.flow.grad is None
    for key, parameter in parameters(loss):
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", sorted(DISTILLATION_LOSSES.keys() - {"fitnets", "variational_information"}))
def test_equal_frames_and_features_give_zero(name):
    inputs = random_inputs(4, 4)
    student = inputs.student
    same = TeacherTargets(student.frames, features=student.features, flow=torch.stack(student.flow, dim=1))
    assert make_loss(name, 4, 4).compute(replace(inputs, teacher=same, high=student.frames)).item() == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_thirty_steps_of_adam_lower_the_loss(name):
    torch.manual_seed(0)
    inputs = random_inputs()
    loss = make_loss(name, 3, 5)
    frames, features = inputs.student.frames.detach().clone(), inputs.student.features.detach().clone()
    flow = EstimatedFlow(*(part.detach().clone().requires_grad_() for part in inputs.student.flow))
    learned = [frames.requires_grad_(), features.requires_grad_(), *flow]
    learned += [parameter for _, parameter in parameters(loss)]
    optimizer = torch.optim.Adam(learned, lr=1e-2)
    values = []
    for _ in range(30):
        value = loss.compute(replace(inputs, student=Upscaled(frames, features, flow=flow)))
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < values[0]


class TestByHand:
    def test_output_l1(self):
        assert losses.output_l1(
            make_inputs(torch.full((1, 1, 3, 1, 1), 0.5), torch.full((1, 1, 3, 1, 1), 0.2))
        ).item() == (pytest.approx(0.3))

    def test_fitnets(self):
        loss = FitNets(1, 1)
        torch.nn.init.constant_(loss.regressor.weight, 2.0)
        torch.nn.init.constant_(loss.regressor.bias, 1.0)
        inputs = make_inputs(ours=torch.full((1, 1, 1, 1, 1), 3.0), theirs=torch.full((1, 1, 1, 1, 1), 4.0))
        assert loss(inputs).item() == pytest.approx(0.5 * (2 * 3 + 1 - 4) ** 2)

    def test_attention_transfer_of_the_paper_and_of_the_released_code(self):
        # Maps of two pixels: (9, 16) and (1, 0): unit (9, 16)/sqrt(337) and (1, 0).
        ours = torch.tensor([3.0, 4.0]).view(1, 1, 1, 1, 2)
        theirs = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
        length = math.sqrt(9**2 + 16**2)
        squares = (9 / length - 1) ** 2 + (16 / length) ** 2
        inputs = make_inputs(ours=ours, theirs=theirs)
        assert losses.attention_transfer(inputs).item() == pytest.approx(0.5 * math.sqrt(squares))
        assert losses.attention_transfer_code(inputs).item() == pytest.approx(squares / 2)

    def test_channel_statistics(self):
        ours = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)  # mean 2, mean of squares 5
        theirs = torch.zeros(1, 1, 2, 1, 1)
        inputs = make_inputs(ours=ours, theirs=theirs)
        expected = {"squared_mean": 16.0, "mean_square": 25.0, "channel_max": 9.0, "channel_min": 1.0}
        assert {name: getattr(losses, name)(inputs).item() for name in expected} == expected

    def test_affinity(self):
        # Two positions: the student's vectors have one direction (cosine 1), the teacher's are orthogonal (cosine 0).
        ours = torch.tensor([[1.0, 5.0], [0.0, 0.0]]).view(1, 1, 2, 1, 2)
        theirs = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 1, 2)
        assert losses.affinity(make_inputs(ours=ours, theirs=theirs)).item() == pytest.approx(2 / 4)

    def test_temporal_consistency(self):
        # One position, two frames: the student's direction stays, the teacher's is reversed: (1 - (-1))^2.
        ours = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
        theirs = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1, 1)
        assert losses.temporal_consistency(make_inputs(ours=ours, theirs=theirs)).item() == pytest.approx(4.0)

    def test_variational_information(self):
        loss = VariationalInformation(1, 1)
        for parameter in loss.parameters():
            torch.nn.init.zeros_(parameter)
        inputs = make_inputs(ours=torch.zeros(1, 1, 1, 1, 1), theirs=torch.full((1, 1, 1, 1, 1), 0.1))
        variance = 0.001 * math.log(2) + 1e-8  # softplus(0) = log 2
        expected = 0.5 * math.log(2 * math.pi) + 0.5 * math.log(variance) + 0.01 / (2 * variance)
        assert loss(inputs).item() == pytest.approx(expected, rel=1e-5)

    def test_frequency_ignores_a_constant_and_weights_fine_stripes_more(self):
        size = 8
        flat = torch.ones(1, 1, 3, size, size)
        fine = torch.tensor([1.0, -1.0]).repeat(size // 2).expand(1, 1, 3, size, size)
        coarse = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(size // 4).expand(1, 1, 3, size, size)
        black = torch.zeros_like(flat)
        assert losses.frequency(make_inputs(flat, black)).item() == pytest.approx(0, abs=1e-7)
        # All energy in one bin of 8 x 5: value 8 (orthonormal), radius 1/2 of at most sqrt(1/2).
        assert losses.frequency(make_inputs(fine, black)).item() == pytest.approx(
            8 * 0.5 / math.sqrt(0.5) / 40, rel=1e-5
        )
        assert (
            0 < losses.frequency(make_inputs(coarse, black)).item() < losses.frequency(make_inputs(fine, black)).item()
        )

    def test_frame_difference_ignores_a_constant_error(self):
        still, blink = torch.zeros(1, 3, 3, 2, 2), torch.zeros(1, 3, 3, 2, 2)
        blink[:, 1] = 0.5
        assert losses.frame_difference(make_inputs(still + 0.3, still)).item() == pytest.approx(0, abs=1e-7)
        assert losses.frame_difference(make_inputs(blink, still)).item() == pytest.approx(0.5)

    def test_true_frame_difference_reads_the_ground_truth_in_place_of_the_teacher(self):
        blink, noise = torch.zeros(1, 3, 3, 2, 2), torch.rand(1, 3, 3, 2, 2)
        blink[:, 2] = 0.5  # one step of two
        assert losses.true_frame_difference(make_inputs(blink, noise, noise * 0)).item() == pytest.approx(0.25)
        assert losses.true_frame_difference(make_inputs(blink, noise, blink)).item() == 0

    def test_teacher_better_l1_counts_only_pixels_where_the_teacher_is_nearer(self):
        high = torch.zeros(1, 1, 3, 1, 2)
        student = torch.tensor([0.4, 0.1]).expand(1, 1, 3, 1, 2)
        teacher = torch.tensor([0.1, 0.4]).expand(1, 1, 3, 1, 2)
        assert losses.teacher_better_l1(make_inputs(student, teacher, high)).item() == pytest.approx(0.3 / 2)


@pytest.mark.parametrize("name", ["temporal_consistency", "frame_difference", "true_frame_difference"])
def test_temporal_losses_of_one_frame_are_zero(name):
    assert make_loss(name, 3, 5).compute(random_inputs(frames=1)).item() == 0


def test_unknown_names_and_missing_features_raise():
    with pytest.raises(UnknownNameError, match="output_l1"):
        make_loss("outptu", 3, 3)
    with pytest.raises(ConfigError, match=r"teacher.*output"):
        make_loss("fitnets", 64, 0)
    with pytest.raises(ConfigError, match="return_features='hr'"):
        losses.affinity(make_inputs())
    with pytest.raises(ShapeError, match="same frames"):
        losses.affinity(make_inputs(ours=torch.zeros(1, 2, 3, 4, 4), theirs=torch.zeros(1, 1, 3, 4, 4)))


def test_flow_of_a_network_is_distilled_into_the_flow_network_of_the_student():
    """A student with the teacher's flow network has no loss; the gradient of another one reaches its flow alone."""
    torch.manual_seed(0)
    teacher, student = build("basicvsr_s", channels=4, blocks=1).eval(), build("vespcn_s").train()
    objective = Objective(losses={"flow_l1": (1.0, make_loss("flow_l1", 0, 0))})
    clip, high = torch.rand(1, 4, 3, 18, 22), torch.zeros(1, 4, 3, 72, 88)
    seen = objective.forward_teacher(teacher, clip, "hr")
    assert seen.flow.to_next.shape == (1, 3, 2, 18, 22)
    loss = objective.compute_terms(student(clip), high, seen)[0]["flow_l1"]
    loss.backward()
    reached = {name.partition(".")[0] for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {student.flow_module}
    assert all(parameter.grad is None for parameter in teacher.parameters())
    same = build("vespcn_s").eval()
    same.load_state_dict(student.state_dict())
    terms = objective.compute_terms(student(clip), high, objective.forward_teacher(same, clip, "hr"))[0]
    assert terms["flow_l1"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "role"),
    [
        ("vespcn_s", "edvr_tiny", None),
        ("fastdvdnet_vsr", "vespcn_s", "student"),
        ("vespcn_s", "fastdvdnet_vsr", "teacher"),
    ],
)
def test_flow_of_networks_without_flow_cannot_be_distilled(student, teacher, role):
    objective = Objective(losses={"flow_l1": (1.0, make_loss("flow_l1", 0, 0))})
    clip, high = torch.rand(1, 2, 3, 16, 16), torch.zeros(1, 2, 3, 64, 64)
    seen, made = objective.forward_teacher(build(teacher).eval(), clip, "hr"), build(student).train()(clip)
    if role is None:
        assert objective.compute_terms(made, high, seen)[0]["flow_l1"] >= 0
    else:
        with pytest.raises(ConfigError, match=f"flow_l1.*{role}"):
            objective.compute_terms(made, high, seen)
