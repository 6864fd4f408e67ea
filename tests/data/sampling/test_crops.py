"""Training crops: the same whenever asked for, and low lies exactly under high."""

import numpy as np
import pytest
import torch

from workbench.data.degradation.families import degrade
from workbench.data.sampling.crops import CropSampler, Pair, make_pair
from workbench.errors import DataError, ShapeError


def marked(frames, height, width, scale=4):
    """A pair whose pixels say where they are: (row, column, frame); high says which low pixel it lies under."""
    t, y, x = np.mgrid[:frames, : height * scale, : width * scale]
    high = np.stack((y // scale, x // scale, t), axis=-1).astype(np.uint8)
    return Pair(low=high[:, ::scale, ::scale].copy(), high=high)


def levels(clip):
    return (clip * 255).round().to(torch.int64)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_and_high_pixels_are_aligned(scale, augment):
    sampler = CropSampler([marked(9, 20, 24, scale)], crop_size=8, num_frames=5, batch_size=4, augment=augment)
    for step in range(8):
        low, high = sampler.at(step)
        assert low.shape == (4, 5, 3, 8, 8)
        assert high.shape == (4, 5, 3, 8 * scale, 8 * scale)
        assert torch.equal(high, low.repeat_interleave(scale, -1).repeat_interleave(scale, -2))


def test_a_crop_without_augmentation_is_part_of_the_clip():
    """Rows, columns and frames are consecutive and in order, from places all over the clip."""
    sampler = CropSampler([marked(9, 20, 24)], crop_size=8, num_frames=5, batch_size=8, augment=False)
    corners = set()
    for step in range(20):
        low = levels(sampler.at(step)[0])
        for clip in low:
            t, y, x = clip[0, 2, 0, 0].item(), clip[0, 0, 0, 0].item(), clip[0, 1, 0, 0].item()
            corners.add((t, y, x))
            assert torch.equal(clip[:, 0], torch.arange(y, y + 8)[None, :, None].expand(5, 8, 8))
            assert torch.equal(clip[:, 1], torch.arange(x, x + 8)[None, None].expand(5, 8, 8))
            assert torch.equal(clip[:, 2], torch.arange(t, t + 5)[:, None, None].expand(5, 8, 8))
    assert {t for t, _, _ in corners} == set(range(5))
    assert {0, 12} <= {y for _, y, _ in corners}
    assert {0, 16} <= {x for _, _, x in corners}


def test_all_16_augmentations_occur_and_frames_share_one():
    sampler = CropSampler([marked(9, 20, 24)], crop_size=8, num_frames=5, batch_size=16)
    seen = set()
    for step in range(20):
        for clip in levels(sampler.at(step)[0]):
            down, right = clip[0, :2, 1, 0] - clip[0, :2, 0, 0], clip[0, :2, 0, 1] - clip[0, :2, 0, 0]
            later = clip[1:, 2, 0, 0] - clip[:-1, 2, 0, 0]
            assert later.abs().tolist() == [1] * 4
            assert len(set(later.tolist())) == 1
            assert (clip[:, 2] == clip[:, 2, :1, :1]).all()
            seen.add((*down.tolist(), *right.tolist(), later[0].item()))
    assert len(seen) == 16


def test_a_batch_depends_on_seed_and_step():
    pairs = [marked(9, 20, 24), marked(6, 12, 12)]
    settings = {"crop_size": 8, "num_frames": 3, "batch_size": 2}
    forwards, backwards = CropSampler(pairs, seed=1, **settings), CropSampler(pairs, seed=1, **settings)
    there = [forwards.at(step) for step in range(6)]
    np.random.seed(5)
    torch.manual_seed(5)
    back = [backwards.at(step) for step in reversed(range(6))][::-1]
    for (low, high), (low_again, high_again) in zip(there, back, strict=True):
        assert torch.equal(low, low_again)
        assert torch.equal(high, high_again)
    assert not torch.equal(there[0][0], there[1][0])
    assert not torch.equal(there[0][0][0], there[0][0][1])
    assert not torch.equal(CropSampler(pairs, seed=2, **settings).at(0)[0], there[0][0])


def test_after_yields_the_next_to_the_last_step():
    sampler = CropSampler([marked(9, 20, 24)], crop_size=8, num_frames=3, batch_size=1)
    lows = [low for low, _ in sampler.after(2, 5)]
    assert len(lows) == 3
    for low, step in zip(lows, (3, 4, 5), strict=True):
        assert torch.equal(low, sampler.at(step)[0])
    assert list(sampler.after(5, 5)) == []


def test_clips_are_drawn_in_proportion_to_their_positions():
    """A clip with one position and a clip with 19: the first is drawn once in twenty times."""
    single, wide = marked(3, 8, 8), marked(3, 8, 26)
    single.low[..., 2] += 100
    sampler = CropSampler([single, wide], crop_size=8, num_frames=3, batch_size=10, augment=False)
    single_ones = sum((levels(sampler.at(step)[0])[:, 0, 2, 0, 0] >= 100).sum().item() for step in range(100))
    assert 20 <= single_ones <= 90  # 50 expected of 1000, standard deviation 7


def test_a_clip_of_the_crop_size():
    low, _ = CropSampler([marked(3, 8, 8)], crop_size=8, num_frames=3, batch_size=1, augment=False).at(1)
    assert levels(low)[0, :, 2, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("frames", "height", "width", "pattern"),
    [
        (2, 8, 8, r"want 3 .*got 2; .*data\.num_frames"),
        (3, 7, 9, r"want 8 .*data\.crop_size.*got height 7; set --data\.crop-size to 7 or less, .*--downscale 1"),
        (3, 8, 7, r"got width 7;"),
        (3, 6, 7, r"got width 7 and height 6; set --data\.crop-size to 6"),
    ],
)
def test_a_clip_too_short_or_too_small_raises(frames, height, width, pattern):
    with pytest.raises(DataError, match=pattern):
        CropSampler([marked(3, 8, 8), marked(frames, height, width)], crop_size=8, num_frames=3, batch_size=1)


def test_a_pair_is_cropped_to_whole_low_pixels_and_degraded():
    frames = np.random.default_rng(0).integers(0, 256, (2, 19, 14, 3), np.uint8)
    pair = make_pair(frames, scale=4)
    assert np.array_equal(pair.high, frames[:, :16, :12])
    assert pair.low.shape == (2, 4, 3, 3)
    assert pair.low.dtype == np.uint8
    assert np.array_equal(pair.low, degrade(frames[:, :16, :12], "bi", 4))


def test_a_clip_smaller_than_one_low_pixel_raises():
    with pytest.raises(DataError, match=r"9x3 .*scale 4"):
        make_pair(np.zeros((2, 3, 9, 3), np.uint8), scale=4)


def test_no_clips_and_clips_of_different_scales_raise():
    with pytest.raises(DataError, match=r"data.clips: want footage"):
        CropSampler([], crop_size=8, num_frames=3, batch_size=1)
    low, high = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 32, 32, 3), np.uint8)
    assert Pair(low=low, high=high).scale == 4
    for pair, pattern in (
        (Pair(low=low, high=high[:2]), r"want a multiple of low, \(3, 8, 8, 3\), got \(2, 32, 32, 3\)"),
        (Pair(low=low, high=high[:, :, :31]), "want a multiple of low"),
        (Pair(low=low.astype(np.float32), high=high), r"low: want uint8 \(T, H, W, 3\), got float32"),
        (Pair(low=low, high=high[0]), r"high: want uint8 \(T, H, W, 3\)"),
    ):
        with pytest.raises(ShapeError, match=pattern):
            pair.cut(slice(0, 2), slice(0, 4), slice(0, 4))
