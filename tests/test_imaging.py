"""Bicubic against its definition, written out as a matrix; borders and warping against images known by hand."""

import numpy as np
import pytest
import torch

from workbench.errors import ShapeError
from workbench.imaging import (
    crop_to_multiple,
    mirror_pad,
    pad_to_multiple,
    resize_bicubic,
    rgb_to_ycbcr,
    warp,
    ycbcr_to_rgb,
)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def imresize_matrix(size: int, new_size: int) -> np.ndarray:
    """MATLAB's imresize along one axis: out = matrix @ in. Half-pixel centers, stretched kernel, mirrored edges."""
    factor = size / new_size
    width = max(factor, 1.0)
    positions = np.arange(-4 * size - 40, 5 * size + 40)
    period = positions % (2 * size)
    mirrored = np.where(period < size, period, 2 * size - 1 - period)
    matrix = np.zeros((new_size, size))
    for row in range(new_size):
        center = (row + 0.5) * factor - 0.5
        weights = cubic((center - positions) / width)
        np.add.at(matrix[row], mirrored, weights / weights.sum())
    return matrix


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("small", [(1, 1), (2, 5), (9, 12)])
def test_bicubic_equals_matlab_imresize(scale, down, small):
    height, width = (side * scale for side in small) if down else small
    new = small if down else (height * scale, width * scale)
    image = np.random.default_rng(0).random((3, height, width))
    wanted = imresize_matrix(height, new[0]) @ image @ imresize_matrix(width, new[1]).T
    resized = resize_bicubic(torch.from_numpy(image), scale=scale, down=down)
    assert np.abs(resized.numpy() - wanted).max() < 1e-12
    single = resize_bicubic(torch.from_numpy(image).float(), scale=scale, down=down)
    assert np.abs(single.numpy() - wanted).max() < 2e-6


def test_matlab_kernel_by_hand():
    """x2 up: weights (-3, 29, 111, -9) / 128 of the four nearest pixels, worked out from the kernel at 1/4 and 3/4."""
    step = torch.zeros(1, 1, 8, dtype=torch.float64)
    step[..., 4] = 128
    row = resize_bicubic(step.expand(1, 8, 8), scale=2)[0, 8]
    assert row[5:13].tolist() == pytest.approx([-3, -9, 29, 111, 111, 29, -9, -3])


@pytest.mark.parametrize("down", [True, False])
def test_bicubic_keeps_a_constant_to_the_border(down):
    resized = resize_bicubic(torch.full((2, 3, 8, 12), 0.3, dtype=torch.float64), scale=4, down=down)
    assert torch.allclose(resized, torch.full_like(resized, 0.3), atol=1e-14)


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_keeps_a_ramp_at_half_pixel_centers(scale, down):
    size = 12 * scale if down else 12
    ramp = torch.arange(size, dtype=torch.float64).expand(1, size, size)
    resized = resize_bicubic(ramp, scale=scale, down=down)[0, 0]
    factor = scale if down else 1 / scale
    centers = (torch.arange(len(resized), dtype=torch.float64) + 0.5) * factor - 0.5
    inside = slice(2, -2) if down else slice(2 * scale, -2 * scale)  # mirrored borders bend a ramp
    assert (resized - centers)[inside].abs().max() < 1e-12


def test_bicubic_of_an_impulse_is_symmetric_and_separable():
    image = torch.zeros(1, 9, 9, dtype=torch.float64)
    image[0, 4, 4] = 1
    spot = resize_bicubic(image, scale=3)[0]
    assert torch.allclose(spot, spot.T)
    assert torch.allclose(spot, spot.flip(0))
    assert spot[13, 13] == 1  # the center of the enlarged pixel falls on the pixel itself
    assert torch.allclose(spot, spot[13][None] * spot[:, 13][:, None])
    assert spot.sum() == pytest.approx(9)


def test_bicubic_takes_any_number_of_leading_axes():
    clip = torch.rand(2, 3, 3, 8, 8)
    resized = resize_bicubic(clip, scale=2, down=True)
    assert resized.shape == (2, 3, 3, 4, 4)
    assert torch.equal(resized[1, 2], resize_bicubic(clip[1, 2], scale=2, down=True))
    assert resize_bicubic(clip, scale=1) is clip


def test_bicubic_of_sizes_that_are_no_multiple_raises():
    with pytest.raises(ShapeError, match=r"10x8.*multiple of 4.*crop_to_multiple"):
        resize_bicubic(torch.zeros(1, 3, 8, 10), scale=4, down=True)


def test_mirror_pad_is_numpy_symmetric():
    image = np.arange(12.0).reshape(3, 4)
    padded = mirror_pad(torch.from_numpy(image), 8, 3).numpy()
    assert np.array_equal(padded, np.pad(image, ((8, 8), (3, 3)), mode="symmetric"))
    assert mirror_pad(torch.from_numpy(image), 2).shape == (7, 8)


def test_crop_and_pad_to_a_multiple():
    image = torch.arange(30.0).reshape(1, 5, 6)
    assert torch.equal(crop_to_multiple(image, 4), image[:, :4, :4])
    padded = pad_to_multiple(image, 4)
    assert np.array_equal(padded.numpy(), np.pad(image.numpy(), ((0, 0), (0, 3), (0, 2)), mode="edge"))
    assert pad_to_multiple(padded, 4) is padded


def test_ycbcr_by_hand():
    """The corners of MATLAB's table: red, green, blue on the 8-bit scale; its weights have three decimals."""
    table = [(81.481, 90.203, 240.0), (144.553, 53.797, 34.214), (40.966, 240.0, 109.786)]
    for channel, wanted in enumerate(table):
        pure = torch.eye(3, dtype=torch.float64)[channel].view(3, 1, 1)
        assert (rgb_to_ycbcr(pure) * 255).flatten().tolist() == pytest.approx(wanted, abs=1e-3)


def test_gray_has_no_chroma():
    gray = torch.linspace(0, 1, 11, dtype=torch.float64).expand(3, 1, 11)
    assert torch.allclose(rgb_to_ycbcr(gray)[1:] * 255, torch.full((2, 1, 11), 128.0, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_ycbcr_is_invertible(dtype, rounding):
    """Also of what is no color: networks overshoot."""
    rgb = torch.rand(2, 2, 3, 6, 7, dtype=dtype) * 1.6 - 0.3
    assert (ycbcr_to_rgb(rgb_to_ycbcr(rgb)) - rgb).abs().max() < rounding
    assert (rgb_to_ycbcr(ycbcr_to_rgb(rgb)) - rgb).abs().max() < rounding


def test_ycbcr_equals_scikit_image():
    """Its weights have three decimals, so 2e-4 levels of 255 is as near as it comes."""
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).random((5, 6, 3))
    ours = rgb_to_ycbcr(torch.from_numpy(rgb).permute(2, 0, 1)).permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - color.rgb2ycbcr(rgb)).max() < 1e-3


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, 2), (-2, 1)])
def test_warp_by_whole_pixels_is_a_shift(dx, dy):
    image = torch.rand(1, 2, 6, 7)
    flow = torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1).expand(1, 2, 6, 7)
    rows, columns = (torch.arange(6) + dy).clamp(0, 5), (torch.arange(7) + dx).clamp(0, 6)
    assert torch.allclose(warp(image, flow), image[:, :, rows][..., columns], atol=1e-5)


def test_warp_by_half_a_pixel_is_the_mean():
    flow = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    assert warp(torch.tensor([[[[1.0, 2.0, 4.0]]]]), flow).ravel().tolist() == pytest.approx([1.5, 3.0, 4.0])


def test_warp_by_a_flow_of_another_size_raises():
    with pytest.raises(ShapeError, match=r"want \(1, 2, 4, 4\)"):
        warp(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 5))


def test_warping_in_float64_is_as_exact_as_float64():
    """A ramp moved by a third of a pixel is the ramp plus a third."""
    ramp = torch.arange(12.0, dtype=torch.float64).expand(1, 1, 5, 12)
    flow = torch.tensor([1 / 3, 0.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 5, 12)
    moved = warp(ramp, flow)
    assert moved.dtype == torch.float64
    assert torch.allclose(moved[..., :-1], ramp[..., :-1] + 1 / 3, rtol=0, atol=1e-13)
    assert warp(ramp, flow.float()).dtype == warp(ramp.float(), flow).dtype == torch.float32
