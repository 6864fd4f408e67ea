"""Renderings are outputs of the network, with color limits that can be compared."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.distill.spatial import ATTENTION_KINDS, attention_map
from workbench.distill.temporal import TemporalMemory
from workbench.evaluation import rendering
from workbench.evaluation.methods import SHIPPED_MEMORY
from workbench.evaluation.rendering import ColorLimits, Rendering, SceneScorer, add_rendering, render, render_scene
from workbench.inference.chunks import Chunk
from workbench.models.video_sr import Upscaled
from workbench.models.weights import checksum, locate
from workbench.models.zoo import build
from workbench.scenes import Method, read_scene, write_scene
from workbench.tensors import to_float, to_uint8


@pytest.fixture(scope="module")
def low():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return build("edvr_tiny").eval()


@pytest.fixture(scope="module")
def memory(teacher):
    return TemporalMemory(32, teacher.feature_channels, hidden_channels=3)


@pytest.fixture(scope="module")
def seen(teacher, low, memory):
    """Four frames at a time, so the clip of six is seen in two parts."""
    return render(teacher, low, memory=memory, use_adapter=False)


@pytest.fixture(scope="module")
def whole(teacher, low):
    with torch.inference_mode():
        return teacher(to_float(low), return_features="hr")


def test_rendered_frames_are_those_of_the_network(seen, whole):
    assert np.array_equal(seen.frames, to_uint8(whole.frames))


@pytest.mark.parametrize("mapping", ATTENTION_KINDS)
def test_rendered_maps_are_attention_at_low_resolution(seen, whole, mapping):
    wanted = F.avg_pool2d(attention_map(whole.features[0], kind=mapping), 4).numpy()
    wanted = wanted / np.sqrt((wanted**2).mean(axis=(1, 2), keepdims=True))
    assert seen.maps[mapping].shape == (6, 8, 12)
    assert np.allclose(seen.maps[mapping], wanted, rtol=1e-4)


def test_rendered_cells_are_those_of_the_whole_clip(seen, whole, memory):
    """A memory read in parts would forget at their borders."""
    with torch.inference_mode():
        wanted = F.avg_pool2d(memory.teacher_cells(whole.features)[0], 2).numpy()  # stride 2, scale 4
    assert seen.cells.shape == (6, 3, 8, 12)
    assert np.allclose(seen.cells, wanted, atol=1e-5)


def test_cells_of_a_student_use_its_adapter(low):
    student = build("vespcn")
    memory = TemporalMemory(student.feature_channels, 16, hidden_channels=3)
    cells = render(student, low, memory=memory).cells
    with torch.inference_mode():
        wanted = F.avg_pool2d(
            memory.student_cells(student.eval()(to_float(low), return_features="hr").features)[0], 2
        ).numpy()
    assert np.allclose(cells, wanted, atol=1e-5)


def test_rendering_keeps_training_mode(low):
    student = build("vespcn").train()
    render(student, low[:1])
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


def test_the_device_is_that_of_the_network(low, monkeypatch):
    devices = []

    def blank_chunks(network, frames, *, device, **_):
        devices.append(device)
        return [Chunk(0, 1, Upscaled(torch.zeros(1, 1, 3, 8, 8)))]

    monkeypatch.setattr(rendering, "chunks", blank_chunks)
    network = build("vespcn").to("meta")
    render(network, low)
    render(network, low, device="cpu")
    assert devices == [torch.device("meta"), "cpu"]


@pytest.mark.parametrize("name", ["bicubic", "vespcn_paper"])
def test_a_network_without_features_has_frames_only(name, low, memory):
    seen = render(build(name), low, memory=memory)
    assert seen.frames.shape == (6, 32, 48, 3)
    assert seen.maps == {}
    assert seen.cells is None


def test_color_limits_by_hand():
    """The 99.5 % quantile of 0 ... 1000 is 995, and 3.14 the largest cell: both rounded up to two digits."""
    maps = np.arange(1001, dtype=float).reshape(1, 7, 143)
    limits = ColorLimits.of(
        Rendering(np.zeros((1, 1, 1, 3), np.uint8), {"sum_abs": maps}, np.array([-3.14, 1.0]).reshape(1, 1, 1, 2))
    )
    assert limits.maps == {"sum_abs": 1000.0}
    assert limits.cells == 3.2
    assert ColorLimits.of(Rendering(np.zeros((1, 1, 1, 3), np.uint8), {})).cells == 1.0


def test_a_memory_of_zeros_has_a_color_limit():
    assert ColorLimits.of(Rendering(np.zeros((1, 1, 1, 3), np.uint8), {}, np.zeros((1, 1, 2, 2)))).cells == 1.0


def test_a_rendering_in_a_scene_has_its_color_limits(seen, tmp_path):
    limits = ColorLimits.of(seen)
    with write_scene(tmp_path / "look") as writer:
        add_rendering(writer, Method(key="teacher", label="Teacher"), seen, limits)
        writer.finish(name="look", title="Look", fps=25.0, protocol={}, provenance={})
    scene = read_scene(tmp_path / "look")
    assert np.array_equal(scene.clip("teacher"), seen.frames)
    assert [o.kind for o in scene.overlays] == [*(f"attention_{mapping}" for mapping in ATTENTION_KINDS), "memory"]
    assert [o.vmax for o in scene.overlays] == [*limits.maps.values(), limits.cells]
    remembered = scene.overlays[-1]
    assert (remembered.channels, remembered.diverging, remembered.vmin) == (3, True, -limits.cells)
    assert np.allclose(scene.array(remembered), seen.cells, atol=1e-3)


def test_scores_of_the_ground_truth_and_of_a_constant_error(tmp_path):
    """The truth itself: infinite PSNR has no number, SSIM is 1, nothing flickers. Ten levels more flicker as little."""
    high = np.random.default_rng(0).integers(20, 200, (3, 16, 16, 3), np.uint8)
    scores = SceneScorer(high)
    with write_scene(tmp_path / "scores") as writer:
        writer.add_method(Method(key="high", label="Ground truth"), high)
        scores.add(writer, "high", high)
        scores.add(writer, "lighter", high + 10)
        writer.finish(name="scores", title="Scores", fps=25.0, protocol={}, provenance={})
    curves = {curve.key: curve.series for curve in read_scene(tmp_path / "scores").curves}
    assert set(curves) == {"psnr_y_db", "ssim_y", "t_diff", "tof"}
    assert curves["psnr_y_db"]["high"] == [None] * 3
    assert curves["ssim_y"]["high"] == pytest.approx([1.0] * 3)
    # ten more levels of R, G and B are (65.481 + 128.553 + 24.966) / 255 * 10 levels of Y
    assert curves["psnr_y_db"]["lighter"] == pytest.approx([20 * np.log10(255 / (2190 / 255))] * 3, rel=1e-5)
    assert curves["t_diff"]["lighter"][0] is None
    assert curves["t_diff"]["lighter"][1:] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert curves["tof"]["high"] == [None, 0.0, 0.0]


def test_a_clip_of_one_frame_has_no_temporal_scores(tmp_path):
    high = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    with write_scene(tmp_path / "one") as writer:
        writer.add_method(Method(key="high", label="Ground truth"), high)
        SceneScorer(high).add(writer, "high", high)
        writer.finish(name="one", title="One", fps=25.0, protocol={}, provenance={})
    assert {curve.key for curve in read_scene(tmp_path / "one").curves} == {"psnr_y_db", "ssim_y"}


def test_the_provenance_names_the_memory_and_its_methods(tmp_path):
    """The shipped ConvLSTM expects the channels of the shipped networks; bicubic has no features."""
    scene = render_scene("bikes[:2, :32, :32]", ["bicubic", "plain"], tmp_path / "scene")
    digest = checksum(locate(SHIPPED_MEMORY))[:12]
    assert scene.provenance["memory"] == f"pretrained/memory.safetensors (sha256 {digest}), for plain"
    assert render_scene("bikes[:2, :32, :32]", ["bicubic"], tmp_path / "none").provenance["memory"] == "none"
