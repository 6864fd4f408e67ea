import numpy as np
import pytest
import torch

from workbench.data.degrade import CHUNK_FRAMES, DEGRADATIONS, degrade, downscale_bi
from workbench.errors import ConfigError, ShapeError, UnknownNameError
from workbench.tensors import to_float, to_uint8

CLIP = np.random.default_rng(0).integers(0, 256, (CHUNK_FRAMES + 1, 17, 22, 3), dtype=np.uint8)


def test_a_step_of_two_levels_by_hand():
    """x2 down at an edge from 0 to 128: the stretched kernel has weights (-3, -9, 29, 111, 111, 29, -9, -3) / 256."""
    frame = np.zeros((1, 16, 16, 3), np.uint8)
    frame[:, :, 8:] = 128
    row = downscale_bi(frame, 2)[0, 4, :, 0].tolist()
    # what lies right of the edge: -3 of 256 (clamped), -3 - 9 + 29, the rest of 256, 256 + 3, then all of it
    assert row == pytest.approx([0, 0, 0, 17 / 2, 239 / 2, 259 / 2, 128, 128], abs=0.5)


def test_frames_and_tensors_agree():
    low = downscale_bi(CLIP, 4)
    assert low.shape == (CHUNK_FRAMES + 1, 4, 5, 3)
    clip = to_float(CLIP, torch.float64)
    assert np.array_equal(low, to_uint8(downscale_bi(clip, 4)))
    assert np.array_equal(low, to_uint8(downscale_bi(clip, 4, quantise=True)))


def test_quantised_tensors_hold_only_8_bit_levels():
    extreme = to_float(CLIP).round()  # black and white: the cubic overshoots
    smooth, levels = downscale_bi(extreme, 2), downscale_bi(extreme, 2, quantise=True)
    assert smooth.min() < 0
    assert smooth.max() > 1
    assert (levels * 255 - (levels * 255).round()).abs().max() < 1e-4
    assert 0 <= levels.min() <= levels.max() <= 1
    assert (levels - smooth.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    assert levels.dtype == extreme.dtype


def test_what_does_not_fill_a_pixel_is_cropped_at_the_bottom_and_right():
    assert np.array_equal(downscale_bi(CLIP, 4), downscale_bi(CLIP[:, :16, :20], 4))
    assert torch.equal(downscale_bi(to_float(CLIP), 3), downscale_bi(to_float(CLIP[:, :15, :21]), 3))


def test_scale_one_changes_nothing():
    assert np.array_equal(downscale_bi(CLIP, 1), CLIP)


@pytest.mark.parametrize("scale", [0, -2, 18])
def test_impossible_scales(scale):
    with pytest.raises(ConfigError, match="scale: "):
        downscale_bi(CLIP, scale)


def test_wrong_clips():
    with pytest.raises(ShapeError, match="want uint8"):
        downscale_bi(CLIP / 255, 2)
    with pytest.raises(ShapeError, match=r"want \(B, T, 3, H, W\)"):
        downscale_bi(torch.zeros(3, 8, 8), 2)


def test_by_name():
    assert np.array_equal(degrade(CLIP, "bi", 2), downscale_bi(CLIP, 2))
    assert set(DEGRADATIONS) == {"bi"}
    with pytest.raises(UnknownNameError, match="no degradation 'bl'; did you mean 'bi'"):
        degrade(CLIP, "bl", 2)
