"""Deformable convolution: against a loop over points, a plain convolution, a shifted image, and its own gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import warp
from workbench.models.layers import deformable
from workbench.models.layers.deformable import (
    ModulatedDeformConv,
    add_offsets,
    choose_operator,
    modulated_deform_conv,
    offset_error,
)


def point_by_point(features, offset, mask, weight, bias, groups):
    """The definition: every output point, every tap, four neighbors of where it points; outside is zero."""
    n, channels, height, width = features.shape
    out = bias.view(1, -1, 1, 1).repeat(n, 1, height, width)
    kernel, per_group = weight.shape[-1], channels // groups
    taps = kernel * kernel

    def pixel(image, channel, y, x):
        return features[image, channel, y, x].item() if 0 <= y < height and 0 <= x < width else 0.0

    for image in range(n):
        for row in range(height):
            for column in range(width):
                for channel in range(channels):
                    for tap in range(taps):
                        place = channel // per_group * taps + tap
                        y = row + tap // kernel - kernel // 2 + offset[image, 2 * place, row, column].item()
                        x = column + tap % kernel - kernel // 2 + offset[image, 2 * place + 1, row, column].item()
                        top, left = math.floor(y), math.floor(x)
                        dy, dx = y - top, x - left
                        value = (
                            (1 - dy) * (1 - dx) * pixel(image, channel, top, left)
                            + (1 - dy) * dx * pixel(image, channel, top, left + 1)
                            + dy * (1 - dx) * pixel(image, channel, top + 1, left)
                            + dy * dx * pixel(image, channel, top + 1, left + 1)
                        )
                        modulated = value * mask[image, place, row, column]
                        out[image, :, row, column] += weight[:, channel].flatten(1)[:, tap] * modulated
    return out


def pieces(groups, *, channels=4, height=4, width=5, largest=2.0, dtype=torch.float64):
    torch.manual_seed(groups)
    features = torch.randn(2, channels, height, width, dtype=dtype)
    offset = (torch.rand(2, groups * 18, height, width, dtype=dtype) - 0.5) * 2 * largest
    mask = torch.rand(2, groups * 9, height, width, dtype=dtype)
    weight, bias = torch.randn(3, channels, 3, 3, dtype=dtype), torch.randn(3, dtype=dtype)
    return features, offset, mask, weight, bias


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_deformable_convolution_equals_a_loop(groups):
    """Offsets to 3 pixels on a 4x5 image: many taps lie on the border or outside."""
    parts = pieces(groups, largest=3.0)
    wanted = point_by_point(*parts, groups)
    assert torch.allclose(modulated_deform_conv(*parts, groups=groups), wanted, atol=1e-12)
    single = modulated_deform_conv(*(part.float() for part in parts), groups=groups)
    assert (single - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_equal_finite_differences(groups):
    """In float64, with offsets away from whole pixels, where bilinear sampling has a kink."""
    features, offset, mask, weight, bias = pieces(groups, channels=2, height=3, width=3)
    offset = offset.round() + 0.2 + 0.6 * torch.rand_like(offset)
    inputs = [part.requires_grad_() for part in (features[:1].clone(), offset[:1].clone(), mask[:1].clone())]
    inputs += [weight.requires_grad_(), bias.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *parts: modulated_deform_conv(*parts, groups=groups), inputs)


@pytest.mark.parametrize(("height", "width"), [(6, 7), (1, 7), (6, 1), (1, 1), (2, 2)])
def test_without_offset_it_is_a_convolution(height, width):
    features, offset, mask, weight, bias = pieces(2, height=height, width=width)
    got = modulated_deform_conv(features, offset * 0, mask * 0 + 1, weight, bias, groups=2)
    assert torch.allclose(got, F.conv2d(features, weight, bias, padding=1), atol=1e-12)


def test_an_integer_offset_shifts_the_image():
    """dy = 1, dx = -2 everywhere: the image, with zeros around, moved one up and two to the right."""
    features, offset, mask, weight, bias = pieces(1, height=6, width=7)
    offset[:, 0::2], offset[:, 1::2] = 1.0, -2.0
    moved = F.pad(features, (5, 5, 5, 5)).roll((-1, 2), dims=(2, 3))
    wanted = F.conv2d(moved, weight, bias, padding=1)[..., 5:-5, 5:-5]
    assert torch.allclose(modulated_deform_conv(features, offset, mask * 0 + 1, weight, bias), wanted, atol=1e-12)


def test_groups_move_their_own_channels():
    """The second group alone is shifted; the first two channels are convolved as they are."""
    features, offset, mask, weight, bias = pieces(2, height=6, width=7)
    offset.zero_()
    offset[:, 19::2] = 1.0  # dx of the second group
    moved = torch.cat((features[:, :2], F.pad(features[:, 2:], (0, 1))[..., 1:]), dim=1)
    wanted = F.conv2d(moved, weight, bias, padding=1)[..., 1:-1]
    got = modulated_deform_conv(features, offset, mask * 0 + 1, weight, bias, groups=2)[..., 1:-1]
    assert torch.allclose(got, wanted, atol=1e-12)


def test_the_bias_is_not_modulated():
    features, offset, mask, weight, bias = pieces(1)
    got = modulated_deform_conv(features, offset, mask * 0, weight, bias)
    assert torch.equal(got, bias.view(1, 3, 1, 1).expand_as(got))


def test_a_new_layer_is_a_convolution():
    """Masks of 1/2, as published, halve the signal in each of five layers in a row."""
    layer = ModulatedDeformConv(8, groups=4)
    torch.nn.init.normal_(layer.bias)
    features, others = torch.randn(2, 2, 8, 6, 7)
    wanted = 0.95 * F.conv2d(features, layer.weight, padding=1) + layer.bias.view(1, -1, 1, 1)
    assert torch.allclose(layer(features, others), wanted, atol=1e-5)


def test_positions_are_exact_under_bf16():
    """Columns of 0 and 1 in turn, 300 wide, fetched half a pixel to the right: 1/2 everywhere.

    In bf16 a coordinate beyond 256 is only known to two pixels, so half a pixel would be lost.
    """
    columns = (torch.arange(300) % 2).float().expand(1, 1, 4, 300).contiguous()
    offset, mask = torch.zeros(1, 18, 4, 300), torch.ones(1, 9, 4, 300)
    offset[:, 1::2] = 0.5
    weight = torch.zeros(1, 1, 3, 3)
    weight[..., 1, 1] = 1.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = modulated_deform_conv(columns, offset, mask, weight)
        halved = modulated_deform_conv(columns.bfloat16(), offset.bfloat16(), mask.bfloat16(), weight)
    assert got.dtype == halved.dtype == torch.bfloat16
    assert torch.allclose(got[..., :-1].float(), torch.tensor(0.5), atol=2e-3)
    assert torch.allclose(halved[..., :-1].float(), torch.tensor(0.5), atol=2e-3)


def test_the_flow_moves_all_taps_of_the_layer():
    """A flow of one pixel to the right and two down samples the shifted features."""
    layer, features = ModulatedDeformConv(4, groups=2), torch.randn(1, 4, 8, 8)
    flow = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    offsets = []
    got = layer(features, torch.randn(1, 4, 8, 8), flow, offsets=offsets)
    wanted = layer(features.roll((-2, -1), dims=(2, 3)), torch.randn(1, 4, 8, 8))
    assert torch.allclose(got[..., 1:5, 1:6], wanted[..., 1:5, 1:6], atol=1e-5)
    assert offsets[0].shape == (1, 36, 8, 8)
    assert (offsets[0][:, ::2] == 2).all()
    assert (offsets[0][:, 1::2] == 1).all()


# Torchvision's operator


@pytest.fixture
def no_earlier_choice():
    """Forget what was measured and imported, before the test and after it."""
    for cached in (deformable.torchvision_operator, deformable._faster_operator):
        cached.cache_clear()
    yield
    for cached in (deformable.torchvision_operator, deformable._faster_operator):
        cached.cache_clear()


def torchvision_stand_in(calls):
    """The definition under torchvision's signature and order of arguments; ``calls`` records how it was called."""

    def deform_conv2d(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None):
        calls.append((input.dtype, offset.dtype, weight.dtype, stride, padding, dilation))
        groups = offset.shape[1] // (2 * weight.shape[-1] ** 2)
        mask = torch.ones_like(offset[:, ::2]) if mask is None else mask
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        return point_by_point(input, offset, mask, weight, bias, groups)

    return deform_conv2d


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bare", [False, True])
def test_torchvision_is_called_in_its_own_order(dtype, bare, monkeypatch):
    """Offsets are (dy, dx) of each tap of each group, then masks of each tap; without a mask and a bias too."""
    calls = []
    monkeypatch.setattr(deformable, "torchvision_operator", lambda: torchvision_stand_in(calls))
    features, offset, mask, weight, bias = (part.to(dtype) for part in pieces(2))
    mask, bias = (None, None) if bare else (mask, bias)
    wanted = modulated_deform_conv(features, offset, mask, weight, bias, groups=2)
    assert calls == []
    monkeypatch.setattr(deformable, "choose_operator", lambda device, training: "torchvision")
    got = modulated_deform_conv(features, offset, mask, weight, bias, groups=2)
    assert calls == [(dtype, dtype, dtype, (1, 1), 1, (1, 1))]
    assert got.dtype == wanted.dtype == dtype
    assert torch.allclose(got, wanted, atol=1e-5)
    calls.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = modulated_deform_conv(features.bfloat16(), offset, mask, weight, bias, groups=2)
    assert halved.dtype == torch.bfloat16
    assert calls[0][0] == torch.float32 or dtype == torch.float64
    assert torch.allclose(halved.to(dtype), wanted, atol=0.1)


@pytest.mark.usefixtures("no_earlier_choice")
def test_the_faster_operator_is_chosen_on_cuda_alone(monkeypatch):
    seconds, timed = {"pytorch": 2.0, "torchvision": 1.0}, []
    monkeypatch.setattr(deformable, "torchvision_operator", lambda: torchvision_stand_in([]))
    monkeypatch.setattr(
        deformable, "deform_work", lambda name, device, training: timed.append((name, training)) or name
    )
    monkeypatch.setattr(deformable, "fastest", lambda name: seconds[name])
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_operator(cpu, training=True) == "pytorch"
    assert timed == []
    assert choose_operator(cuda, training=True) == choose_operator(cuda, training=True) == "torchvision"
    assert timed == [("pytorch", True), ("torchvision", True)], "each is timed once"
    seconds["torchvision"] = 3.0
    assert choose_operator(cuda, training=False) == "pytorch"
    monkeypatch.setenv("WORKBENCH_DEFORM_CONV", "torchvision")
    assert choose_operator(cuda, training=False) == "torchvision"
    monkeypatch.setenv("WORKBENCH_DEFORM_CONV", "pytorch")
    assert choose_operator(cuda, training=True) == "pytorch"
    monkeypatch.setenv("WORKBENCH_DEFORM_CONV", "triton")
    with pytest.raises(ConfigError, match=r"WORKBENCH_DEFORM_CONV: .*'triton'"):
        choose_operator(cuda, training=True)


@pytest.mark.usefixtures("no_earlier_choice")
def test_without_torchvision_there_is_no_choice(monkeypatch):
    monkeypatch.setattr(deformable, "torchvision_operator", lambda: None)
    assert choose_operator(torch.device("cuda"), training=True) == "pytorch"
    monkeypatch.setenv("WORKBENCH_DEFORM_CONV", "torchvision")
    with pytest.raises(ConfigError, match="torchvision is not installed"):
        choose_operator(torch.device("cuda"), training=True)


@pytest.mark.parametrize("training", [False, True])
def test_the_timed_work_runs(training):
    deformable.deform_work("pytorch", torch.device("cpu"), training)()


@pytest.mark.parametrize("groups", [1, 2])
def test_torchvision_agrees(groups):
    """Values to 1e-5 and gradients in float32, away from whole pixels."""
    pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
    if deformable.torchvision_operator() is None:
        pytest.skip("torchvision is built for another torch")
    features, offset, mask, weight, bias = (part.float() for part in pieces(groups, largest=3.0))
    offset = offset.round() + 0.2 + 0.6 * torch.rand_like(offset)
    parts = [part.requires_grad_() for part in (features, offset, mask, weight, bias)]
    ours = deformable._by_grid_sample(*parts, groups)
    theirs = deformable._by_torchvision(*parts)
    assert (ours - theirs).abs().max() < 1e-5
    for one, other in zip(*(torch.autograd.grad(each.square().sum(), parts) for each in (ours, theirs)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


# Offsets against the true flow


def test_the_offset_error_is_its_formula_in_float64():
    rng = np.random.default_rng(0)
    offset, true = rng.normal(size=(2, 3, 8, 2, 3)), rng.normal(size=(2, 3, 2, 4, 5))
    visible = rng.random((2, 3, 4, 5)) < 0.6
    errors = []
    for image, frame, row, column in np.ndindex(2, 3, 2, 3):
        if visible[image, frame, 2 * row, 2 * column]:
            x, y = true[image, frame, :, 2 * row, 2 * column]
            taps = offset[image, frame, :, row, column].reshape(4, 2)
            errors += [math.sqrt((2 * dy - y) ** 2 + (2 * dx - x) ** 2 + 0.25) - 0.5 for dy, dx in taps]
    got = offset_error(*(torch.from_numpy(part) for part in (offset, true, visible)), stride=2)
    assert got.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_the_loss_of_exact_offsets_is_zero():
    true, visible = torch.randn(2, 2, 6, 6), torch.ones(2, 6, 6, dtype=torch.bool)
    offset = true.flip(1).repeat(1, 9, 1, 1)
    assert offset_error(offset, true, visible).item() == 0
    assert offset_error(offset + 1, true, ~visible).item() == 0


def test_offsets_follow_the_sign_of_the_flow():
    """The layer with the flow as its offsets does what warping the features by the flow does."""
    features, flow = torch.randn(1, 2, 7, 9), 2 * torch.rand(1, 2, 7, 9) - 1
    weight = torch.zeros(2, 2, 3, 3)
    weight[range(2), range(2), 1, 1] = 1.0
    got = modulated_deform_conv(features, flow.flip(1).repeat(1, 9, 1, 1), None, weight)
    assert torch.allclose(got, warp(features, flow, padding_mode="zeros"), atol=1e-5)


def test_offsets_of_two_layers_in_a_row_add_up():
    first = torch.tensor([1.0, 5.0, 3.0, 7.0]).view(1, 4, 1, 1)  # two taps: (1, 5), (3, 7)
    second = torch.tensor([0.5, 0.0, -0.5, 1.0]).view(1, 4, 1, 1)
    assert add_offsets(first, second).flatten().tolist() == [2.5, 6.0, 1.5, 7.0]


def test_the_memory_format_does_not_change_the_output():
    layer = ModulatedDeformConv(8, groups=4)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    features, others = torch.randn(2, 2, 8, 6, 7)
    wanted = layer(features, others)
    layer = layer.to(memory_format=torch.channels_last)
    got = layer(*(part.contiguous(memory_format=torch.channels_last) for part in (features, others)))
    assert torch.allclose(got, wanted, atol=1e-5)


def test_shapes_that_do_not_fit_raise():
    features, offset, mask, weight, bias = pieces(2)
    with pytest.raises(ShapeError, match=r"2 groups, 9 taps: .*36.* 18 .*got 35 and 18"):
        modulated_deform_conv(features, offset[:, 1:], mask, weight, bias, groups=2)
    with pytest.raises(ShapeError, match="4 channels, 3 groups"):
        modulated_deform_conv(features, offset, mask, weight, bias, groups=3)
