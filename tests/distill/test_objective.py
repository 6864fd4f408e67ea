"""The objective: Charbonnier by hand, terms and weights by name, gradients where they belong."""

import numpy as np
import pytest
import torch

from workbench.data.sampling.true_flow import ClipFlow, stack_flows
from workbench.distill.objective import Objective, charbonnier, weighted_sum
from workbench.distill.spatial import spatial_distillation
from workbench.distill.temporal import TemporalMemory, temporal_distillation
from workbench.errors import ConfigError
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.video_sr import Upscaled
from workbench.models.zoo import build


def test_charbonnier_by_hand():
    """Differences 3 and 0 with eps 4: (5 + 4) / 2."""
    assert charbonnier(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]), eps=4.0).item() == 4.5


def test_charbonnier_is_eps_where_equal_and_l1_far_away():
    image = torch.rand(2, 3, 8, 8)
    assert charbonnier(image, image, eps=1e-3).item() == pytest.approx(1e-3)
    assert charbonnier(image, image + 5, eps=1e-3).item() == pytest.approx(5.0)


def test_charbonnier_has_a_finite_gradient_where_equal():
    image = torch.rand(4, requires_grad=True)
    charbonnier(image, image.detach()).backward()
    assert image.grad.tolist() == [0.0] * 4


def test_half_precision_frames_are_compared_in_float32():
    low, high = torch.zeros(1, dtype=torch.bfloat16), torch.ones(1)
    assert charbonnier(low, high).dtype == torch.float32


def test_weighted_sum_by_hand():
    terms = {"reconstruction": torch.tensor(2.0), "spatial": torch.tensor(10.0)}
    assert weighted_sum(terms, {"spatial": 0.1, "reconstruction": 1.0}).item() == pytest.approx(3.0)


@pytest.mark.parametrize("weights", [{}, {"spatial": 1.0}, {"reconstruction": 1.0, "spatial": 1.0}])
def test_weighted_sum_of_other_names_raises(weights):
    with pytest.raises(ConfigError, match=r"terms \['reconstruction'\] but weights"):
        weighted_sum({"reconstruction": torch.tensor(1.0)}, weights)


def test_the_warm_up_by_hand():
    memory = TemporalMemory(4, 4)
    objective = Objective(spatial_weight=0.2, temporal_weight=0.4, memory=memory, schedule="warm_up", schedule_steps=4)
    assert [objective.weights_at(step)["spatial"] for step in (1, 2, 4, 5)] == pytest.approx([0.05, 0.1, 0.2, 0.2])
    assert [objective.weights_at(step)["temporal"] for step in (1, 2, 4, 5)] == pytest.approx([0.1, 0.2, 0.4, 0.4])
    assert {objective.weights_at(step)["reconstruction"] for step in range(1, 9)} == {1.0}


@pytest.mark.parametrize("settings", [{"schedule": "constant", "schedule_steps": 4}, {"schedule": "warm_up"}])
def test_a_constant_schedule_has_no_warm_up(settings):
    assert Objective(spatial_weight=0.2, **settings).weights_at(1) == {"reconstruction": 1.0, "spatial": 0.2}


def test_a_plain_objective_has_one_term_and_needs_no_features():
    objective = Objective(eps=4.0)
    terms, measures = objective.compute_terms(Upscaled(torch.tensor([3.0])), torch.tensor([0.0]))
    assert {name: term.item() for name, term in terms.items()} == {"reconstruction": 5.0}
    assert measures == {}
    assert objective.weights_at(1) == {"reconstruction": 1.0}
    assert not objective.distills


def test_the_alignment_loss_has_gradients_for_alignment_layers_only(networks, clips):
    student, _ = networks
    student.zero_grad()
    objective = Objective(alignment_loss_weight=0.5)
    student.train()
    terms, _ = objective.compute_terms(student(clips[0]), clips[1])
    assert objective.weights_at(1) == {"reconstruction": 1.0, "alignment": 0.5}
    terms["alignment"].backward()
    assert {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None and p.grad.any()} == {
        "motion"
    }
    student.eval()
    with pytest.raises(ConfigError, match="training"):
        objective.compute_terms(student(clips[0]), clips[1])
    student.train()


def test_a_temporal_term_without_a_memory_raises():
    with pytest.raises(ConfigError, match="TemporalMemory is needed"):
        Objective(temporal_weight=0.1)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return build("vespcn", skip="bicubic"), build("edvr_tiny", skip="bicubic").eval()


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(1)
    return torch.rand(1, 3, 3, 8, 8), torch.rand(1, 3, 3, 32, 32)


def all_terms(networks, clips, **settings):
    student, teacher = networks
    low, high = clips
    memory = TemporalMemory(student.feature_channels, teacher.feature_channels)
    objective = Objective(spatial_weight=1.0, temporal_weight=1.0, memory=memory, **settings)
    theirs = teacher(low, return_features="hr")  # with a graph, so that a gradient could go there
    ours = student(low, return_features="hr")
    return objective, ours, theirs, *objective.compute_terms(ours, high, theirs)


@pytest.mark.parametrize("attention_kind", ["sum_squares", "sum_abs", "max_squares"])
@pytest.mark.parametrize("term", ["reconstruction", "spatial", "temporal"])
def test_every_term_has_gradients_for_the_student_only(networks, clips, term, attention_kind):
    student, teacher = networks
    for network in networks:
        network.zero_grad()
    *_, terms, _ = all_terms(networks, clips, attention_kind=attention_kind)
    terms[term].backward()
    reached = {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    # features lie before the last convolution, so distillation says nothing about that one
    assert reached == {"motion", "entry", "blocks", "widen"} | ({"exit"} if term == "reconstruction" else set())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_low_resolution_term_equals_the_spatial_loss(networks, clips):
    """The same equation on F^LR; the student's layers behind it hear nothing, the teacher nothing at all."""
    student, teacher = networks
    for network in networks:
        network.zero_grad()
    objective, ours, theirs, terms, _ = all_terms(networks, clips, spatial_features="lr")
    assert ours.aligned.shape[-2:] == (8, 8)
    wanted = spatial_distillation(ours.aligned, theirs.aligned, normalization=objective.normalization)
    torch.testing.assert_close(terms["spatial"], wanted)
    terms["spatial"].backward()
    reached = {name.split(".")[0] for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"motion", "entry", "blocks"}
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_low_resolution_term_without_features_raises(clips):
    with pytest.raises(ConfigError, match="one has none"):
        Objective(spatial_weight=1.0, spatial_features="lr").teacher_targets(Upscaled(clips[1], features=clips[1]))


def test_terms_equal_the_two_losses(networks, clips):
    objective, ours, theirs, terms, measures = all_terms(
        networks, clips, attention_kind="sum_abs", normalization="none"
    )
    assert list(terms) == ["reconstruction", "spatial", "temporal"]
    assert terms["spatial"] == spatial_distillation(
        ours.features, theirs.features, kind="sum_abs", normalization="none"
    )
    cells = (objective.memory.student_cells(ours.features), objective.memory.teacher_cells(theirs.features))
    assert terms["temporal"] == temporal_distillation(*cells, cells="last", border_frames=1)
    assert 0 < measures["collapse_index"] < 1


def test_a_term_without_weight_is_not_computed(networks, clips):
    student, teacher = networks
    low, high = clips
    ours, theirs = student(low, return_features="hr"), teacher(low, return_features="hr")
    spatial = Objective(spatial_weight=1.0)
    assert (
        list(spatial.compute_terms(ours, high, theirs)[0])
        == ["reconstruction", "spatial"]
        == list(spatial.weights_at(1))
    )
    temporal = Objective(temporal_weight=1.0, memory=TemporalMemory(student.feature_channels, teacher.feature_channels))
    assert (
        list(temporal.compute_terms(ours, high, theirs)[0])
        == ["reconstruction", "temporal"]
        == list(temporal.weights_at(1))
    )


def test_distillation_without_features_raises(networks, clips):
    student, teacher = networks
    low, high = clips
    objective = Objective(spatial_weight=1.0)
    with pytest.raises(ConfigError, match="features of both"):
        objective.compute_terms(student(low), high, teacher(low, return_features="hr"))
    with pytest.raises(ConfigError, match=r"teacher: .* got None"):
        objective.compute_terms(student(low, return_features="hr"), high, None)


def true_flow(batch=2, frames=3, size=8, *, valid=(True, True)):
    rng = np.random.default_rng(0)
    clips = []
    for known in valid:
        parts = [rng.normal(size=(frames - 1, 2, size, size)).astype(np.float32) for _ in range(2)]
        hidden = [rng.random((frames - 1, size, size)) < 0.2 for _ in range(2)]
        clips.append(ClipFlow(*parts, *hidden) if known else None)
    return stack_flows(clips, frames=frames, height=size, width=size)


def upscaled_with(flow, batch=2, frames=3, size=8):
    return Upscaled(torch.zeros(batch, frames, 3, 4 * size, 4 * size), flow=flow)


def test_the_flow_term_is_the_end_point_error_over_visible_pixels():
    true = true_flow(valid=(True, False))
    wrong = EstimatedFlow(true.to_next + torch.tensor([3.0, 4.0]).view(2, 1, 1), true.to_previous.clone())
    objective = Objective(flow_weight=0.5)
    high = torch.zeros(2, 3, 3, 32, 32)
    terms, _ = objective.compute_terms(upscaled_with(wrong), high, flow=true)
    assert terms["flow"].item() == pytest.approx((5.0 + 0.001) / 2, abs=1e-4)  # one direction is right
    assert objective.weights_at(1)["flow"] == 0.5


def test_the_flow_term_without_known_flow_is_zero():
    estimated = EstimatedFlow(*(torch.randn(2, 2, 2, 8, 8, requires_grad=True) for _ in range(2)))
    for flow in (None, true_flow(valid=(False, False))):
        terms, _ = Objective(flow_weight=1.0).compute_terms(
            upscaled_with(estimated), torch.zeros(2, 3, 3, 32, 32), flow=flow
        )
        terms["flow"].backward()
        assert terms["flow"].item() == 0
    assert estimated.to_next.grad is not None
    assert not estimated.to_next.grad.any()


def test_the_flow_term_needs_a_network_with_flow():
    with pytest.raises(ConfigError, match="flow_weight"):
        Objective(flow_weight=1.0).compute_terms(upscaled_with(None), torch.zeros(2, 3, 3, 32, 32), flow=true_flow())


def test_the_gradient_of_the_flow_term_reaches_the_flow_network_only():
    network = build("vespcn_s").train()
    upscaled = network(torch.rand(1, 3, 3, 8, 8))
    terms, _ = Objective(flow_weight=1.0).compute_terms(
        upscaled, torch.zeros_like(upscaled.frames), flow=true_flow(valid=(True,))
    )
    terms["flow"].backward()
    touched = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"motion"}
    assert network.eval()(torch.rand(1, 3, 3, 8, 8)).flow is None


def test_flow_points_to_the_neighbor():
    """A flow network that answers with a known flow: the right one for each direction, cropped to the clip's size."""
    network = build("vespcn_s").train()
    clip = torch.rand(1, 4, 3, 10, 9)  # padded to 12x12 inside

    def flow(reference, neighbor):
        return (neighbor - reference).mean(dim=1, keepdim=True).repeat(1, 2, 1, 1)

    network.motion.flow = flow
    estimated = network(clip).flow
    assert estimated is not None
    difference = clip.mean(dim=2)
    assert torch.allclose(estimated.to_next[:, :, 0], difference[:, 1:] - difference[:, :-1], atol=1e-6)
    assert torch.allclose(estimated.to_previous[:, :, 1], difference[:, :-1] - difference[:, 1:], atol=1e-6)
