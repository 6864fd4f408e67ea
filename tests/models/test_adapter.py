"""Adapted modules: outputs, features, distillation and weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.public_modules import ClipModule, ImageModule, WindowModule
from workbench.distill.objective import Objective, weighted_sum
from workbench.distill.temporal import TemporalMemory
from workbench.errors import WeightsError
from workbench.inference.chunks import upscale
from workbench.models import weights
from workbench.models.adapter import adapt
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.windows import window_indices
from workbench.models.zoo import NETWORKS, build
from workbench.tensors import to_float, to_uint8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("border", ["replicate", "reflection_circle"])
def test_modules_of_windows_run_on_each_window(border):
    module, clip = WindowModule().eval(), torch.rand(2, 5, 3, 7, 9)
    network = adapt(module, takes="window", num_frames=3, scale=2, border=border)
    assert isinstance(network, SlidingWindow)
    got = network.eval()(clip).frames
    for center, window in enumerate(window_indices(5, 3, border)):
        assert torch.allclose(got[:, center], module(clip[:, window]), atol=1e-6)


def test_modules_of_images_run_frame_by_frame():
    module, clip = ImageModule().eval(), torch.rand(2, 3, 3, 7, 9)
    network = adapt(module, takes="image", scale=2).eval()
    assert (network.num_frames, network.temporal_radius) == (1, 0)
    assert torch.allclose(network(clip).frames, module(clip.flatten(0, 1)).unflatten(0, (2, 3)), atol=1e-6)


def test_modules_of_clips_run_on_the_clip():
    module, clip = ClipModule().eval(), torch.rand(2, 4, 3, 7, 9)
    network = adapt(module, takes="clip", scale=2).eval()
    assert network.temporal_radius is None
    assert torch.equal(network(clip).frames, module(clip))
    low = (torch.rand(5, 6, 8, 3) * 255).byte().numpy()
    assert (upscale(network, low, chunk_frames=2) == to_uint8(module(to_float(low)))).all()


@pytest.mark.parametrize(
    ("takes", "module"), [("window", WindowModule()), ("image", ImageModule()), ("clip", ClipModule())]
)
@pytest.mark.parametrize(("height", "width", "frames"), [(17, 23, 2), (1, 1, 1), (4, 9, 20)])
@torch.inference_mode()
def test_any_size_and_length(takes, module, height, width, frames):
    settings = {"num_frames": 3} if takes == "window" else {}
    network = adapt(
        module, takes=takes, scale=2, features="tail.1", size_multiple=4, minimum_size=12, **settings
    ).eval()
    upscaled = network(torch.rand(1, frames, 3, height, width), return_features="hr")
    assert upscaled.frames.shape == (1, frames, 3, 2 * height, 2 * width)
    assert upscaled.features.shape == (1, frames, 8, 2 * height, 2 * width)


def test_sizes_are_padded_for_modules_that_need_it():
    class Picky(ImageModule):
        def forward(self, image):
            assert image.shape[-1] % 8 == image.shape[-2] % 8 == 0
            assert min(image.shape[-2:]) >= 24
            return super().forward(image)

    network = adapt(Picky(), takes="image", scale=2, size_multiple=8, minimum_size=20)
    assert network(torch.rand(1, 2, 3, 5, 30)).frames.shape == (1, 2, 3, 10, 60)


def test_the_range_of_the_module_is_converted_on_both_sides():
    class Double(nn.Module):
        def forward(self, image):
            self.seen = image
            return image.repeat_interleave(2, -1).repeat_interleave(2, -2)

    clip = torch.rand(1, 2, 3, 4, 4)
    for low, high in [(0, 255), (-0.5, 0.5), (-1, 1)]:
        module = Double()
        network = adapt(module, takes="image", scale=2, value_range=(low, high)).eval()
        got = network(clip).frames
        assert torch.allclose(got, clip.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)
        assert torch.allclose(module.seen, clip[0] * (high - low) + low)


def shuffled_by_hand(module, window):
    return F.pixel_shuffle(module.widen(F.relu(module.entry(window.flatten(1, 2)))), 2)


def test_inputs_of_a_layer_are_captured_before_operations_in_place():
    """tail.0 is an activation in place: it changes its own input. tail.1 reads what came of it."""
    module, window = WindowModule().eval(), torch.rand(1, 3, 3, 6, 6)
    before = shuffled_by_hand(module, window)
    assert before.min() < 0
    for layer, wanted in [("tail.0", before), ("tail", before), ("tail.1", F.leaky_relu(before, 0.1))]:
        network = adapt(module, takes="window", num_frames=3, scale=2, features=layer).eval()
        assert network.feature_channels == 8
        upscaled = network(window, return_features="hr")
        assert torch.allclose(upscaled.features[:, 1], wanted, atol=1e-6)
        assert torch.allclose(upscaled.frames[:, 1], module(window), atol=1e-6)


def test_aligned_features_are_returned():
    network = adapt(WindowModule(), takes="window", num_frames=3, scale=2, features="tail", aligned="widen")
    assert network.aligned_channels == 8
    upscaled = network(torch.rand(1, 2, 3, 6, 7), return_features="hr")
    assert upscaled.aligned.shape == (1, 2, 8, 6, 7)
    assert upscaled.aligned.min() >= 0


@pytest.mark.parametrize("how", ["flat", "frame by frame"])
def test_features_of_clips_are_in_the_order_of_the_frames(how):
    module, clip = ClipModule(how).eval(), torch.rand(2, 4, 3, 6, 6)
    network = adapt(module, takes="clip", scale=2, features="tail.1").eval()
    upscaled = network(clip, return_features="hr")
    assert upscaled.features.shape == (2, 4, 8, 12, 12)
    for t in range(4):
        assert torch.allclose(module.tail[1](upscaled.features[:, t]), upscaled.frames[:, t], atol=1e-6)


def test_no_features_are_captured_by_default_and_no_hook_remains():
    module = WindowModule()
    network = adapt(module, takes="window", num_frames=3, scale=2, features="tail.1").eval()
    assert network(torch.rand(1, 2, 3, 6, 6)).features is None
    network(torch.rand(1, 2, 3, 6, 6), return_features="hr")
    assert [part for part in module.modules() if part._forward_pre_hooks] == []

    def breaks(_self, window):
        raise RuntimeError("broken")

    module.__class__ = type("Broken", (WindowModule,), {"forward": breaks})
    with pytest.raises(RuntimeError, match="broken"):
        network(torch.rand(1, 2, 3, 6, 6), return_features="hr")
    assert [part for part in module.modules() if part._forward_pre_hooks] == []


def test_adapting_does_not_change_the_module():
    """Modes of its parts, what batch normalization has seen, and the rng of everybody else."""
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    module[0].eval()
    before, rng = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    adapt(module, takes="image", scale=2)
    assert [part.training for part in module] == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_copy_captures_its_own_features():
    """As for an average of weights."""
    network = adapt(WindowModule(), takes="window", num_frames=3, scale=2, features="tail").eval()
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    clip = torch.rand(1, 2, 3, 6, 6)
    assert other(clip, return_features="hr").features.abs().max() == 0
    assert network(clip, return_features="hr").features.abs().max() > 0


@pytest.mark.slow
def test_a_compiled_adapter_returns_equal_outputs():
    """On the eager backend: what is traced and where it breaks is the same, and no compiler is needed."""
    network = adapt(WindowModule(), takes="window", num_frames=3, scale=2, features="tail.1").eval()
    compiled = torch.compile(network, backend="eager")
    for clip in torch.rand(3, 1, 3, 3, 6, 6):
        for return_features in (None, "hr"):
            wanted, got = (
                network(clip, return_features=return_features),
                compiled(clip, return_features=return_features),
            )
            assert torch.allclose(got.frames, wanted.frames, atol=1e-6)
            assert return_features is None or torch.allclose(got.features, wanted.features, atol=1e-6)


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(
    ("takes", "module"), [("window", WindowModule()), ("image", ImageModule()), ("clip", ClipModule())]
)
def test_an_adapted_network_can_be_teacher_and_student(role, takes, module):
    settings = {"num_frames": 3} if takes == "window" else {}
    theirs = adapt(module, takes=takes, scale=2, features="tail.1", **settings)
    ours = build("vespcn", scale=2, channels=8, hr_channels=8)
    student, teacher = (ours, theirs.eval()) if role == "teacher" else (theirs, ours.eval())
    teacher.requires_grad_(False)
    memory = TemporalMemory(8, 8, hidden_channels=4, stride=2)
    objective = Objective(spatial_weight=0.1, temporal_weight=0.1, memory=memory)
    low, high = torch.rand(1, 3, 3, 8, 8), torch.rand(1, 3, 3, 16, 16)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    for step in (1, 2):
        with torch.no_grad():
            upscaled = teacher(low, return_features="hr")
        terms, _ = objective.compute_terms(student(low, return_features="hr"), high, upscaled)
        assert set(terms) == {"reconstruction", "spatial", "temporal"}
        optimizer.zero_grad()
        weighted_sum(terms, objective.weights_at(step)).backward()
        gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
        assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
        optimizer.step()
    teacher.requires_grad_(True)


def test_features_carry_gradient_through_the_copy():
    network = adapt(WindowModule(), takes="window", num_frames=3, scale=2, features="tail.1")
    network(torch.rand(1, 2, 3, 6, 6), return_features="hr").features.square().sum().backward()
    assert network.module.entry.weight.grad.abs().sum() > 0
    assert network.module.tail[1].weight.grad is None  # behind F^SR


def test_saving_an_adapted_network_without_a_recipe_raises_an_error_with_a_fix(tmp_path):
    network = adapt(ImageModule(), takes="image", scale=2)
    with pytest.raises(WeightsError, match=r"NETWORKS\[\"mine\"\].*save_tensors.*load_into"):
        weights.save(network, tmp_path / "w.safetensors")
    weights.save_tensors(tmp_path / "w.safetensors", network.state_dict())
    other = adapt(ImageModule(), takes="image", scale=2)
    weights.load_into(other, tmp_path / "w.safetensors")
    assert torch.equal(other.module.entry.weight, network.module.entry.weight)


def test_an_adapted_network_in_the_zoo_can_be_saved_and_loaded(tmp_path, monkeypatch):
    def mine(*, scale: int = 2, channels: int = 8) -> VideoSR:
        return adapt(ImageModule(scale=scale, channels=channels), takes="image", scale=scale, features="tail.1")

    monkeypatch.setitem(NETWORKS, "mine", mine)
    network = build("mine", channels=4)
    weights.save(network, tmp_path / "w.safetensors")
    again = weights.load(tmp_path / "w.safetensors")
    assert again.recipe == {"name": "mine", "scale": 2, "channels": 4}
    assert torch.equal(again.module.entry.weight, network.module.entry.weight)
