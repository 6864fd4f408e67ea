"""Networks that see luma only: what they do not see goes past them unchanged."""

import numpy as np
import pytest
import torch

from workbench.imaging import resize_bicubic, rgb_to_ycbcr
from workbench.metrics import fidelity
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.zoo import build

SMALL = {"vsrnet_y": {"channels": 4, "hr_channels": 4}, "spmc": {"channels": 4}, "ltd": {"channels": 4}}


def test_luma_equals_that_of_the_metrics():
    rgb = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    luma, chroma = split_luma(rgb / 255)
    assert np.allclose(luma[:, 0] * 255, fidelity.luma(rgb.permute(0, 2, 3, 1).numpy()), atol=1e-4)
    assert chroma.shape == (2, 2, 4, 5)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_upsampling_channels_separately_equals_bicubic(scale):
    rgb = torch.rand(2, 3, 4, 5)
    luma, chroma = split_luma(rgb)
    joined = join_luma(resize_bicubic(luma, scale=scale), chroma, scale=scale)
    assert torch.allclose(joined, resize_bicubic(rgb, scale=scale), atol=1e-5)


def test_a_change_of_luma_keeps_chroma():
    rgb = torch.rand(2, 3, 8, 8)
    change = torch.rand(2, 1, 8, 8) * 0.1
    before, after = rgb_to_ycbcr(rgb), rgb_to_ycbcr(rgb + join_luma(change, None, scale=4))
    assert torch.allclose(after[:, :1] - before[:, :1], change, atol=1e-6)
    assert torch.allclose(after[:, 1:], before[:, 1:], atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("skip", ["none", "bicubic"])
@torch.inference_mode()
def test_networks_in_luma_leave_chroma_to_the_bicubic(name, skip):
    """8x12 fits all of them; the weights are random, so the luma is not the bicubic's."""
    torch.manual_seed(0)
    network = build(name, skip=skip, **SMALL[name]).eval()
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    clip = torch.rand(1, 3, 3, 8, 12)
    ours = rgb_to_ycbcr(network(clip).frames)
    bicubic = rgb_to_ycbcr(resize_bicubic(clip, scale=4))
    assert torch.allclose(ours[:, :, 1:], bicubic[:, :, 1:], atol=2e-5)
    assert not torch.allclose(ours[:, :, :1], bicubic[:, :, :1], atol=1e-2)


def test_color_conversion_is_float32_under_autocast():
    luma, chroma = torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 8)
    exact = join_luma(luma, chroma, scale=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(join_luma(luma, chroma, scale=1), exact)
        assert split_luma(exact)[0].dtype == torch.float32
