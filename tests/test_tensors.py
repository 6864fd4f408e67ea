import numpy as np
import pytest
import torch

from workbench.errors import ResultError, ShapeError, WorkbenchError
from workbench.tensors import check_clip, check_frames, to_float, to_uint8


@pytest.mark.parametrize(
    ("clip", "pattern"),
    [
        (torch.zeros(5, 3, 8, 8), r"want \(B, T, 3, H, W\), got \(5, 3, 8, 8\)"),
        (torch.zeros(1, 5, 1, 8, 8), r"want \(B, T, 3, H, W\)"),
        (torch.zeros(1, 0, 3, 8, 8), "an axis is empty"),
        (torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8), "want floats in .*, got torch.uint8; see tensors.to_float"),
    ],
)
def test_errors_describe_an_invalid_clip(clip, pattern):
    with pytest.raises(ShapeError, match=pattern):
        check_clip(clip)


@pytest.mark.parametrize(
    ("frames", "pattern"),
    [
        (np.zeros((4, 8, 8), np.uint8), "want uint8"),
        (np.zeros((4, 8, 8, 3), np.float32), "got float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), "an axis is empty"),
    ],
)
def test_errors_describe_invalid_frames(frames, pattern):
    with pytest.raises(ShapeError, match=pattern):
        check_frames(frames)


def test_all_256_levels_are_equal_after_floats():
    frames = np.arange(768, dtype=np.int64).reshape(2, 2, 64, 3).astype(np.uint8)
    clip = to_float(frames)
    assert clip.shape == (1, 2, 3, 2, 64)
    assert 0 <= clip.min() <= clip.max() <= 1
    assert clip[0, 1, 2, 0, 5].item() == pytest.approx(frames[1, 0, 5, 2] / 255)
    for dtype in (torch.float32, torch.float64):
        assert np.array_equal(to_uint8(to_float(frames, dtype)), frames)


def test_to_uint8_clamps_and_rounds():
    values = torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 1.7]).view(1, 1, 4).expand(3, 1, 4)[None]
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 1, 255]


def test_to_uint8_needs_one_clip():
    assert to_uint8(torch.zeros(1, 2, 3, 4, 5)).shape == (2, 4, 5, 3)
    with pytest.raises(ShapeError, match=r"want \(1, T, 3, H, W\)"):
        to_uint8(torch.zeros(2, 2, 3, 4, 5))


def test_noncontiguous_frames_are_accepted():
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert np.array_equal(to_uint8(to_float(frames[::-1, 1:, ::2])), frames[::-1, 1:, ::2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_raise(bad):
    clip = torch.zeros(1, 4, 3, 2, 2)
    clip[0, 2, 1, 0, 1] = bad
    with pytest.raises(ResultError, match="frame 2: NaN") as caught:
        to_uint8(clip)
    assert caught.value.frame == 2
    assert isinstance(caught.value, WorkbenchError)
