"""Properties of all networks of the zoo, tested with the smallest settings (``tiny.py``).

The weights are shaken before anything is asked: many networks begin with a silent last layer, and a network that only
hands its skip connection on would pass most of this. Mostly 12x8 pixels. Where a property takes longer, networks that
differ from another one by their size only are left out (``KINDS``).
"""

import copy
import inspect
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch

from tests.models.tiny import KINDS, TINY
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.errors import ConfigError, ShapeError
from workbench.inference.chunks import chunks, upscale, upscale_stream
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import count_parameters
from workbench.models.weights import load, save
from workbench.models.windows import BORDERS, window_indices
from workbench.models.zoo import NETWORKS, build
from workbench.tensors import to_float, to_uint8
from workbench.training.loop import train

NAMES = sorted(NETWORKS)
every_network = pytest.mark.parametrize("name", NAMES)
every_kind = pytest.mark.parametrize("name", KINDS)
every_learner = pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"bicubic"}))


def tiny(name, **settings):
    """A network at its smallest, all of whose layers have something to say; in evaluation mode."""
    assert name in TINY, f"{name}: not in tests/models/tiny.py; add the smallest settings that its builder takes"
    torch.manual_seed(0)
    network = build(name, **(TINY[name] | settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            area = parameter[0, 0].numel() if parameter.ndim > 2 else 1
            parameter.add_(torch.randn_like(parameter) * min(0.05, 0.45 / area))  # 7x7: else flow leaves the image
    return network


def feature_layer(network):
    return "hr" if network.feature_channels else None


def clip(*, frames=2, height=8, width=12, batch=1, seed=1):
    """Smooth images that move: noise has no flow and no neighbors."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, frames + 4, 5, 5, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)
    return smooth.transpose(1, 2).contiguous()


def ground_truth(low, network):
    """Noise of the size that comes out."""
    *lead, height, width = low.shape
    size = (*lead, height * network.scale, width * network.scale)
    return torch.rand(size, generator=torch.Generator().manual_seed(3))


def close(ours, theirs, tolerance=1e-4):
    """Equal to so much of the range of the values."""
    span = (theirs.max() - theirs.min()).item()
    assert (ours - theirs).abs().max().item() <= tolerance * max(span, 1e-6)


def test_every_network_has_tiny_settings():
    missing, spare = NETWORKS.keys() - TINY.keys(), TINY.keys() - NETWORKS.keys()
    assert not missing, f"add the smallest settings of {', '.join(sorted(missing))} to tests/models/tiny.py"
    assert not spare, f"{', '.join(sorted(spare))} of tests/models/tiny.py: not in zoo.NETWORKS"


# -- what it says of itself -----------------------------------------------------------------------------------------
@every_network
def test_every_network_has_valid_info(name):
    network = tiny(name)
    about = network.info
    assert re.search(r"\w", about.paper)
    assert 1980 <= about.year <= 2030
    assert about.role in ("student", "teacher", "both", "baseline")
    assert (about.role == "baseline") == (count_parameters(network) == 0)
    assert network.temporal_radius is None or network.temporal_radius >= 0
    assert network.size_multiple >= 1
    assert network.minimum_size >= 1
    assert isinstance(network, SlidingWindow) <= (network.temporal_radius == network.num_frames // 2)


@every_network
def test_the_recipe_is_json_and_builds_an_equal_network(name):
    network = tiny(name)
    assert json.loads(json.dumps(network.recipe)) == network.recipe
    again = build(**network.recipe)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    assert again.recipe == network.recipe


@every_kind
def test_every_scale_is_supported(name):
    assert "scale" in inspect.signature(NETWORKS[name]).parameters
    scales = tiny(name).scales
    assert scales == (1,) if name == "fastdvdnet" else {2, 3, 4} <= set(scales)  # the one is a denoiser
    for scale in scales:
        network, low = tiny(name, scale=scale), clip()
        assert network.scale == scale
        with torch.inference_mode():
            assert network(low).frames.shape == (*low.shape[:3], low.shape[3] * scale, low.shape[4] * scale)


# -- what it makes --------------------------------------------------------------------------------------------------
@every_kind
@pytest.mark.parametrize(("height", "width", "frames"), [(17, 23, 3), (1, 1, 1), (5, 9, 2), (1, 4, 20)])
@torch.inference_mode()
def test_any_size_and_any_length(name, height, width, frames):
    network, low = tiny(name), clip(frames=frames, height=height, width=width)
    upscaled = network(low, return_features=feature_layer(network))
    assert upscaled.frames.shape == (*low.shape[:3], *(side * network.scale for side in low.shape[3:]))
    assert upscaled.frames.isfinite().all()
    size = (height * network.scale, width * network.scale)
    if network.feature_channels:
        assert upscaled.features.shape == (1, frames, network.feature_channels, *size)
    if network.aligned_channels:
        assert upscaled.aligned.shape == (1, frames, network.aligned_channels, height, width)


@every_kind
@torch.inference_mode()
def test_returned_features_do_not_change_the_frames(name):
    network, low = tiny(name), clip()
    plain = network(low)
    assert plain.features is None
    assert plain.aligned is None
    for return_features in ("hr", "hr_pre", "shuffle"):
        if network.feature_channels:
            kept = network(low, return_features=return_features)
            assert torch.equal(kept.frames, plain.frames)
            assert kept.features.shape[2] == network.feature_channels
        else:
            with pytest.raises(ConfigError, match=f"{name} .*features"):
                network(low, return_features=return_features)


@every_kind
@torch.inference_mode()
def test_clips_of_a_batch_are_independent(name):
    network, low = tiny(name), clip(batch=2)
    together = network(low).frames
    for number in range(2):
        close(together[number], network(low[number : number + 1]).frames[0])


@every_kind
@torch.inference_mode()
def test_a_clip_equals_its_windows(name):
    """Every output frame is what its window alone makes of its middle, of frame-wise methods, what the frame makes.

    Where the whole clip is the window, the last frame depends on the first.
    """
    network, low = tiny(name), clip(frames=4)
    if network.temporal_radius is None:
        other = low.clone()
        other[:, 0] = 1 - other[:, 0]
        assert not torch.equal(network(low).frames[:, -1], network(other).frames[:, -1])
        return
    whole = network(low, return_features=feature_layer(network))
    border = network.border if isinstance(network, SlidingWindow) else "replicate"
    for center, window in enumerate(window_indices(4, network.num_frames, border)):
        alone = network(low[:, window], return_features=feature_layer(network))
        close(alone.frames[:, network.temporal_radius], whole.frames[:, center])
        if whole.features is not None:
            close(alone.features[:, network.temporal_radius], whole.features[:, center])


@every_kind
def test_chunks_of_a_clip_equal_the_whole_clip(name):
    network = tiny(name)
    low = to_uint8(clip(frames=5, height=6))
    with torch.inference_mode():
        whole = network(to_float(low), return_features=feature_layer(network))
    parts = [chunk.upscaled for chunk in chunks(network, low, return_features=feature_layer(network), chunk_frames=2)]
    close(torch.cat([part.frames for part in parts], 1), whole.frames)
    if whole.features is not None:
        close(torch.cat([part.features for part in parts], 1), whole.features)
    if whole.aligned is not None:
        close(torch.cat([part.aligned for part in parts], 1), whole.aligned)


@every_kind
def test_a_stream_equals_the_whole_clip_for_a_bounded_temporal_radius(name):
    network = tiny(name)
    low = to_uint8(clip(frames=5, height=6))
    whole = upscale(network, low).astype(int)
    for chunk_frames in (2, 5):
        streamed = np.stack(list(upscale_stream(network, iter(low), chunk_frames=chunk_frames)))
        assert streamed.shape == whole.shape
        if network.temporal_radius is not None or chunk_frames == 5:
            assert np.abs(streamed - whole).max() <= 1  # where rounding falls on the edge


@every_kind
def test_outputs_with_and_without_gradient_are_equal(name):
    network, low = tiny(name), clip(frames=6)
    with torch.inference_mode():
        close(network(low).frames, network(low.clone()).frames)
        without = network(low).frames
    close(network(low).frames.detach(), without)


@every_kind
@torch.inference_mode()
def test_bf16_outputs_are_close(name):
    network, low = tiny(name), clip()
    exact = network(low, return_features=feature_layer(network))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(low, return_features=feature_layer(network))
    assert rough.frames.dtype == torch.float32
    for ours, theirs in ((rough.frames, exact.frames), (rough.features, exact.features)):
        if theirs is not None:
            assert (ours.float() - theirs).square().mean().sqrt() < 0.08 * theirs.std()


@every_network
def test_invalid_clips_raise(name):
    network = tiny(name)
    with pytest.raises(ShapeError, match=r"want RGB in \[0, 1\]"):
        network(clip() * 255)
    with pytest.raises(ShapeError, match="NaN"):
        network(clip() * float("nan"))
    with pytest.raises(ShapeError, match=r"want \(B, T, 3, H, W\), got \(1, 2, 1, 8, 12\)"):
        network(clip()[:, :, :1])
    with pytest.raises(ShapeError, match="want floats"):
        network(clip().int())


# -- how it learns --------------------------------------------------------------------------------------------------
@every_learner
def test_every_parameter_has_a_gradient(name):
    network = tiny(name).train()
    low = clip(batch=2)
    high = ground_truth(low, network)
    (network(low).frames - high).abs().mean().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []


@every_learner
def test_every_weight_of_a_new_network_is_trained(name):
    """Not shaken: a start that is dead would stay so. Layers that begin at zero behind one another take three steps.

    In ``edvr_s``, for instance, the last convolution moves first, then the one that makes offsets, then what feeds it.
    """
    torch.manual_seed(0)
    network = build(name, **TINY[name]).train()
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    low = clip(height=16, width=16)  # a quarter of it still has neighbors
    high = ground_truth(low, network)
    for _ in range(3):
        optimizer.zero_grad()
        (network(low).frames - high).abs().mean().backward()
        optimizer.step()
    assert [key for key, value in network.state_dict().items() if not value.isfinite().all()] == []
    assert [key for key, value in network.named_parameters() if torch.equal(value, before[key])] == []


@every_learner
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_two_steps_of_distillation(name, role):
    network = tiny(name)
    partner = tiny("vespcn_s", channels=8, hr_channels=8, scale=network.scale) if network.scale > 1 else tiny(name)
    student, teacher = (network, partner) if role == "student" else (partner, network)
    settings = {}
    if network.feature_channels:
        memory = TemporalMemory(
            student.feature_channels, teacher.feature_channels, hidden_channels=2, border_frames=0, mode="trained"
        )
        settings = {"spatial_weight": 0.1, "temporal_weight": 0.1, "memory": memory}
    objective = Objective(**settings)
    before = [copy.deepcopy(part.state_dict()) for part in (student, teacher)]
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=1e-3)
    low = clip()
    high = ground_truth(low, network)
    steps = list(
        train(
            student, [(low, high)] * 2, objective, optimizer, steps=2, initial_lr=1e-3, final_lr=1e-3, teacher=teacher
        )
    )
    assert [step.number for step in steps] == [1, 2]
    wanted = {"reconstruction", "spatial", "temporal"} if network.feature_channels else {"reconstruction"}
    assert set(steps[-1].terms) == wanted
    assert all(np.isfinite(step.total) for step in steps)
    unchanged = {key for key, value in student.named_parameters() if torch.equal(value, before[0][key])}
    assert unchanged == set(), "these did not move"
    after = teacher.state_dict()
    assert [key for key in after if not torch.equal(after[key], before[1][key])] == []


@every_network
def test_a_loaded_network_is_equal(name, tmp_path):
    network, low = tiny(name), clip()
    save(network, tmp_path / "weights.safetensors")
    again = load(tmp_path / "weights.safetensors")
    assert again.recipe == network.recipe
    with torch.inference_mode():
        assert torch.equal(again(low).frames, network(low).frames)


# -- compiled -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "settings"), [("vespcn", {}), ("edvr_tiny", {"front_blocks": 1, "back_blocks": 1, "num_frames": 3})]
)
def test_torch_compile_traces_one_graph(name, settings):
    """Without a break: the look at the numbers is not traced, and nothing waits for it."""
    network, low = tiny(name, **settings), clip()
    network.windows_per_pass = 2  # one pass, traced once
    with torch.inference_mode():
        wanted, got = network(low), torch.compile(network, backend="aot_eager", fullgraph=True)(low)
    close(got.frames, wanted.frames)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(not os.environ.get("WORKBENCH_COMPILE"), reason="takes minutes; WORKBENCH_COMPILE=1 runs it")
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile wants a C++ compiler")
@pytest.mark.parametrize("name", ["vespcn", "edvr_tiny"])
def test_a_compiled_network_returns_equal_outputs(name):
    """By the C++ that torch writes for it; minutes each on one thread."""
    network, low = tiny(name), clip()
    network.windows_per_pass = 2  # one pass, so that it is written once
    with torch.inference_mode():
        wanted, got = network(low, return_features="hr"), torch.compile(network)(low, return_features="hr")
    close(got.frames, wanted.frames)
    close(got.features, wanted.features)


def test_only_sliding_windows_have_border_rules():
    """A rule that a builder takes is one that its network follows."""
    for name in NAMES:
        if "border" in inspect.signature(NETWORKS[name]).parameters:
            for border in BORDERS:
                assert tiny(name, border=border).border == border
