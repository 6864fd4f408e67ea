"""Accuracy of estimated flow: a shift that is known, networks whose flow is known."""

import numpy as np
import pytest
import torch

from workbench.errors import ConfigError, DataError
from workbench.evaluation.flow_accuracy import flow_accuracy, mean_accuracy, reference_agreement, reference_flow
from workbench.imaging import resize_bicubic
from workbench.models.bicubic import Bicubic
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.zoo import build
from workbench.tensors import to_uint8

SHIFT = (4, -2)
"""High-resolution pixels a frame, x first: 1 and -0.5 low-resolution pixels at scale 4; their length is 1.118."""


@pytest.fixture
def clip(held):
    """Five frames of a smooth texture that moves by ``SHIFT``."""
    draw = torch.Generator().manual_seed(0)
    texture = resize_bicubic(torch.rand(1, 1, 1, 60, 60, generator=draw), scale=4).expand(1, 1, 3, -1, -1)
    whole = to_uint8(texture[:, 0])[0]
    starts = [(20 - SHIFT[1] * number, 20 - SHIFT[0] * number) for number in range(5)]
    return held(np.stack([whole[y : y + 160, x : x + 192] for y, x in starts]))


class KnownFlow(Bicubic):
    """A network whose flow is a multiple of the true one, whatever the distance of the two frames."""

    supports_flow_supervision = True

    def __init__(self, factor):
        super().__init__()
        self.factor, self.calls = factor, 0
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def estimate_flow(self, clip):
        distance = (-2, -1, 1, 2)[self.calls % 4]
        self.calls += 1
        flow = self.factor * distance * torch.tensor(SHIFT).view(1, 1, 2, 1, 1) / 4
        whole = flow.expand(1, 1, 2, *clip.shape[-2:])
        return EstimatedFlow(whole, -whole)


def test_the_reference_is_the_shift_of_the_texture(clip):
    frames = next(iter(clip)).high()
    flow = reference_flow(frames[2], frames[3], 4)
    assert flow.shape == (40, 48, 2)
    assert np.abs(flow[8:-8, 8:-8] - (1, -0.5)).max() < 0.02


@pytest.mark.parametrize(("factor", "slope"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_slope_of_a_multiple_of_the_true_flow(clip, factor, slope):
    (found,) = flow_accuracy(KnownFlow(factor), clip)
    mean_length = 1.5 * np.hypot(1, 0.5)  # of the distances 2, 1, 1 and 2
    assert found.pairs == 4
    assert found.motion == pytest.approx(mean_length, rel=0.02)
    assert found.slope == pytest.approx(slope, abs=0.02)
    assert found.end_point_error == pytest.approx((1 - factor) * mean_length, abs=0.03)
    assert mean_accuracy([found, found]).slope == found.slope


def test_another_estimator_agrees_with_the_reference_on_a_shift(clip):
    (found,) = reference_agreement(clip)
    assert found.slope == pytest.approx(1, abs=0.05)
    assert 0 < found.end_point_error < 0.1 * found.motion


def test_unsupported_measurements_raise(clip, held):
    with pytest.raises(ConfigError, match="network"):
        next(flow_accuracy(build("pfnl", channels=4, blocks=2), clip))
    with pytest.raises(ConfigError, match="scale"):
        next(flow_accuracy(build("vespcn_s", scale=2), clip))
    with pytest.raises(DataError, match="4"):
        next(flow_accuracy(KnownFlow(1), held(next(iter(clip)).high()[:4])))
