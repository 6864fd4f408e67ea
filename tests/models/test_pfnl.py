"""PFNL: its look at everything, its fusion against the plain formulation. About 3 s, slow 3 s."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.imaging import resize_bicubic
from workbench.models import pfnl
from workbench.models.pfnl import NonLocalBlock, ProgressiveFusionBlock, gaussian_attention
from workbench.models.video_sr import count_parameters
from workbench.models.zoo import build


def by_the_definition(points, values):
    """Every likeness written out, without any care for overflow."""
    likeness = (points @ points.transpose(1, 2)).exp()
    return (likeness / likeness.sum(dim=-1, keepdim=True)) @ values


def clip(frames=3, height=6, width=8, seed=1):
    return torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_every_part_has_the_published_parameter_count():
    """3,003,156 in all, by running the authors' graph; the parts by hand."""
    with torch.device("meta"):
        network = build("pfnl")
    assert count_parameters(network) == 3_003_156
    assert {name: count_parameters(part) for name, part in network.named_children()} == {
        "non_local": 2 * (84 * 84 + 84),
        "entry": 5 * 5 * 3 * 64 + 64,
        "blocks": 20 * ((9 * 64 * 64 + 64) + (448 * 64 + 64) + (9 * 128 * 64 + 64)),
        "merge": 9 * 448 * 48 + 48,
        "exit": 9 * 12 * 12 + 12,
    }
    assert network.num_frames == 7
    assert network.feature_channels == 0


@pytest.mark.parametrize("entries", [1, 100, 10**6])
def test_attention_in_any_number_of_passes_equals_its_definition(entries, monkeypatch):
    monkeypatch.setattr(pfnl, "ENTRIES_PER_PASS", entries)
    points, values = torch.rand(2, 2, 17, 5, dtype=torch.float64)
    assert torch.allclose(gaussian_attention(points, values), by_the_definition(points, values), atol=1e-12)


def test_attention_does_not_overflow():
    """Dot products of 84 numbers near 2 are near 336: their exponentials leave float32, not float64."""
    points, values = torch.rand(1, 20, 84) + 1.5, torch.rand(1, 20, 84)
    exact = by_the_definition(points.double(), values.double())
    assert not by_the_definition(points, values).isfinite().all()
    assert torch.allclose(gaussian_attention(points, values).double(), exact, atol=1e-3)


def test_attention_is_float32_under_autocast():
    points, values = torch.rand(2, 1, 20, 84)
    wanted = gaussian_attention(points, values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gaussian_attention(points, values), wanted)
    assert gaussian_attention(points.bfloat16(), values.bfloat16()).dtype == torch.float32


def test_gradients_of_several_passes_are_equal(monkeypatch):
    monkeypatch.setattr(pfnl, "ENTRIES_PER_PASS", 14)
    points, values = (torch.rand(1, 7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(gaussian_attention, (points, values))


def test_memory_does_not_depend_on_the_size(monkeypatch):
    """No tensor on the way is larger than a pass may be: 400 points have 160,000 likenesses."""
    monkeypatch.setattr(pfnl, "ENTRIES_PER_PASS", 4000)
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with torch.inference_mode(), Watch():
        gaussian_attention(torch.rand(1, 400, 8), torch.rand(1, 400, 8))
    assert len(sizes) > 80  # forty passes and more than one thing in each
    assert max(sizes) <= 4000


@torch.inference_mode()
def test_patches_receive_the_values_of_similar_patches():
    """By loops: a patch is 2x2 pixels of all frames; both 1x1 layers read it in pixel_unshuffle's order."""
    torch.manual_seed(0)
    block, frames = NonLocalBlock(3), clip(height=4, width=6)
    patches = [
        torch.stack([frames[0, t, c, y + i, x + j] for t in range(3) for c in range(3) for i in (0, 1) for j in (0, 1)])
        for y in (0, 2)
        for x in (0, 2, 4)
    ]
    value, last = (layer.weight[:, :, 0, 0] for layer in (block.value, block.exit))
    wanted = frames.clone()
    for number, patch in enumerate(patches):
        weights = torch.stack([patch @ other for other in patches]).exp()
        found = sum(w * (value @ other) for w, other in zip(weights / weights.sum(), patches, strict=True))
        y, x = 2 * (number // 3), 2 * (number % 3)
        wanted[0, :, :, y : y + 2, x : x + 2] += (last @ found).view(3, 3, 2, 2)
    assert torch.allclose(block(frames), wanted, atol=1e-5)


@torch.inference_mode()
def test_every_pixel_depends_on_the_whole_frame():
    network, low = build("pfnl", channels=4, blocks=1).eval(), clip(height=40, width=40)
    torch.nn.init.normal_(network.exit.weight)
    other = low.clone()
    other[..., -2:, -2:] = 1 - other[..., -2:, -2:]
    assert (network(low).frames - network(other).frames)[..., :8, :8].abs().max() > 1e-6


@torch.inference_mode()
def test_fusion_equals_its_plain_formulation():
    """Shared features are the first input of the convolution of both, frame by frame."""
    torch.manual_seed(0)
    block, features = ProgressiveFusionBlock(4, 3), torch.randn(2, 3, 4, 6, 5)
    for layer in (block.own, block.share, block.mix):
        torch.nn.init.normal_(layer.bias)
    own = [F.leaky_relu(block.own(features[:, t]), 0.2) for t in range(3)]
    shared = F.leaky_relu(block.share(torch.cat(own, 1)), 0.2)
    plain = [features[:, t] + F.leaky_relu(block.mix(torch.cat((shared, own[t]), 1)), 0.2) for t in range(3)]
    assert torch.allclose(block(features), torch.stack(plain, 1), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("skip", ["bicubic", "none"])
def test_with_a_zero_last_layer_the_output_is_the_upsampled_input(skip, scale):
    network = build("pfnl", channels=4, blocks=1, scale=scale, skip=skip).eval()
    network.exit.weight.zero_()
    low = clip()
    wanted = resize_bicubic(low, scale=scale) if skip == "bicubic" else torch.zeros(1, 3, 3, 6 * scale, 8 * scale)
    assert torch.equal(network(low).frames, wanted)


@torch.inference_mode()
def test_the_tail_has_two_pixel_shuffles():
    """48 channels -> 12 at twice the size -> 3 at four times."""
    network = build("pfnl", channels=4, blocks=1, skip="none").eval()
    torch.nn.init.normal_(network.exit.weight)
    seen = []
    network.merge.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    frames = network(clip(1)).frames[0]
    merged = F.leaky_relu(seen[0], 0.2)
    assert merged.shape == (1, 48, 6, 8)
    assert torch.allclose(frames, F.pixel_shuffle(network.exit(F.pixel_shuffle(merged, 2)), 2), atol=1e-6)
