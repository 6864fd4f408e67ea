import math

import numpy as np
import pytest
import torch

from workbench.data.degradation.families import CHUNK_FRAMES, DEGRADATIONS, degrade, find_degradation, gaussian_window
from workbench.errors import ConfigError, ShapeError, UnknownNameError
from workbench.tensors import to_float, to_uint8

CLIP = np.random.default_rng(0).integers(0, 256, (CHUNK_FRAMES + 1, 17, 22, 3), dtype=np.uint8)
RULES = [(name, scale) for name, known in DEGRADATIONS.items() for scale in known.scales or (2, 3, 4)]
BLURS = [rule for rule in RULES if rule[0] != "bi"]


def keys_cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def imresize_matrix(size, scale):
    """MATLAB's ``imresize`` along one axis, as a matrix ``(size / scale, size)``; counts from 1 as MATLAB does."""
    matrix = np.zeros((size // scale, size))
    for i in range(1, size // scale + 1):
        center = i * scale + 0.5 * (1 - scale)
        left = math.floor(center - 4 * scale / 2)
        taps = range(left, left + 4 * scale + 2)
        weights = [keys_cubic((center - at) / scale) / scale for at in taps]
        for at, weight in zip(taps, weights, strict=True):
            mirrored = [*range(1, size + 1), *range(size, 0, -1)][(at - 1) % (2 * size)]
            matrix[i - 1, mirrored - 1] += weight / sum(weights)
    return matrix


def imresize(image, scale):
    height, width = (side - side % scale for side in image.shape)
    rows, columns = imresize_matrix(height, scale), imresize_matrix(width, scale)
    return rows @ image[:height, :width] @ columns.T


def gaussian(size, sigma, cut=math.inf):
    """A square Gaussian kernel that adds up to 1; nothing further than ``cut`` from the middle row or column."""
    kernel = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            dy, dx = y - (size - 1) / 2, x - (size - 1) / 2
            if max(abs(dy), abs(dx)) <= cut:
                kernel[y, x] = math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
    return kernel / kernel.sum()


def correlate(image, kernel, step):
    """Every ``step``-th sum of the kernel times the part of the image under it, where it fits."""
    size = len(kernel)
    height, width = ((side - size) // step + 1 for side in image.shape)
    low = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            low[y, x] = (image[y * step : y * step + size, x * step : x * step + size] * kernel).sum()
    return low


def basicvsr(image, scale):
    """``imfilter(.., 'replicate')``, whose origin is the 6th of 12 or the 4th of 7, then (scale / 2 : scale : end)."""
    size = 7 if scale == 3 else 12
    before = (size + 1) // 2 - 1
    padded = np.pad(image, (before, size - 1 - before), mode="edge")
    blurred = correlate(padded, gaussian(size, 1.6), 1)
    first = math.ceil(scale / 2) - 1
    return blurred[first::scale, first::scale]


def duf(image, scale):
    """Reflected by 6 + 2 scale, filtered at every scale-th pixel, two low-resolution pixels cropped all around."""
    sigma = 0.4 * scale
    padded = np.pad(image, 6 + 2 * scale, mode="reflect")
    return correlate(padded, gaussian(13, sigma, cut=int(4 * sigma + 0.5)), scale)[2:-2, 2:-2]


def tecogan(image, scale):
    return correlate(np.pad(image, 4, mode="reflect"), gaussian(9, 1.5), scale)


DEFINITIONS = {"bi": imresize, "bd_basicvsr": basicvsr, "bd_duf": duf, "bd_tecogan": tecogan}


@pytest.mark.parametrize(("family", "scale"), RULES)
@pytest.mark.parametrize("size", [(24, 36), (31, 29), (26, 47)])
def test_degradation_equals_its_definition(family, scale, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole = image[: size[0] // scale * scale, : size[1] // scale * scale] / 255
    wanted = np.stack([DEFINITIONS[family](whole[..., c], scale) for c in range(3)])

    double = degrade(to_float(image[None], torch.float64), family, scale)[0, 0].numpy()
    assert np.abs(double - wanted).max() < 1e-12
    single = degrade(to_float(image[None]), family, scale)[0, 0].numpy()
    assert np.abs(single - wanted).max() < 1e-6

    levels = wanted.clip(0, 1).transpose(1, 2, 0) * 255
    tied = np.abs(levels % 1 - 0.5) < 1e-4
    eight_bit = degrade(image[None], family, scale)[0]
    assert eight_bit.dtype == np.uint8
    assert np.array_equal(eight_bit[~tied], levels.round()[~tied])
    assert np.abs(eight_bit - levels).max() < 0.51


@pytest.mark.parametrize(("family", "scale"), RULES)
def test_an_impulse_shows_position_and_weight_of_every_pixel(family, scale):
    """A line at each column in turn: what a low-resolution pixel sees of them are its weights."""
    size = 12 * scale
    lines = torch.eye(size, dtype=torch.float64)[:, None, None, None].expand(size, 1, 3, size, size)
    for clip in (lines, lines.transpose(-1, -2)):
        response = degrade(clip.contiguous(), family, scale)[:, 0, 0, 6, 6]
        assert response.sum().item() == pytest.approx(1, abs=1e-12)
        centroid = (response * torch.arange(size)).sum().item()
        assert centroid == pytest.approx(6 * scale + DEGRADATIONS[family].phase(scale), abs=1e-9)


def test_the_phases_are_those_of_the_literature():
    assert [DEGRADATIONS[name].phase(4) for name in ("bi", "bd_basicvsr", "bd_duf", "bd_tecogan")] == [1.5, 1.5, 0, 0]


@pytest.mark.parametrize(("family", "scale"), BLURS)
def test_a_pixel_depends_on_the_pixels_of_its_kernel(family, scale):
    """12 of BasicVSR (7 for x3), 9 of TecoGAN; DUF's 13 for x4, cut at four sigma for x2 and x3."""
    wanted = {"bd_basicvsr": 7 if scale == 3 else 12, "bd_duf": {2: 7, 3: 11, 4: 13}[scale], "bd_tecogan": 9}[family]
    line = torch.eye(48, dtype=torch.float64)[:, None, None, None].expand(48, 1, 3, 48, 48)
    response = degrade(line.contiguous(), family, scale)[:, 0, 0, 0, 24 // scale]
    assert int((response > 0).sum()) == wanted


def test_the_center_of_an_image_equals_the_crop_of_tecogan():
    image = np.random.default_rng(2).random((40, 56))
    clip = torch.from_numpy(image).expand(1, 1, 3, 40, 56)
    enlarged = image[8 - 4 : 24 + 4 + 1, 12 - 4 : 36 + 4 + 1]  # the crop and the reach of the kernel around it
    crop = correlate(enlarged, gaussian(9, 1.5), 4)
    assert np.abs(degrade(clip, "bd_tecogan", 4)[0, 0, 0, 2:7, 3:10].numpy() - crop).max() < 1e-12


def test_the_window_is_a_gaussian():
    window = gaussian_window(13, 1.6)
    assert math.fsum(window) == pytest.approx(1, abs=1e-15)
    assert window[6] / window[8] == pytest.approx(math.exp(2 * 2 / (2 * 1.6**2)))


def test_an_edge_of_two_levels_by_hand():
    """x2 down at an edge from 0 to 128: the stretched kernel has weights (-3, -9, 29, 111, 111, 29, -9, -3) / 256."""
    frame = np.zeros((1, 16, 16, 3), np.uint8)
    frame[:, :, 8:] = 128
    row = degrade(frame, "bi", 2)[0, 4, :, 0].tolist()
    # what lies right of the edge: -3 of 256 (clamped), -3 - 9 + 29, the rest of 256, 256 + 3, then all of it
    assert row == pytest.approx([0, 0, 0, 17 / 2, 239 / 2, 259 / 2, 128, 128], abs=0.5)


@pytest.mark.parametrize(("family", "scale"), RULES)
def test_frames_and_tensors_agree(family, scale):
    low = degrade(CLIP, family, scale)
    assert low.shape == (CHUNK_FRAMES + 1, 17 // scale, 22 // scale, 3)
    clip = to_float(CLIP, torch.float64)
    assert np.array_equal(low, to_uint8(degrade(clip, family, scale)))
    assert np.array_equal(low, to_uint8(degrade(clip, family, scale, quantize=True)))


@pytest.mark.parametrize(("family", "scale"), RULES)
def test_clips_of_a_batch_are_independent(family, scale):
    batch = torch.rand(2, 3, 3, 4 * scale + 1, 5 * scale)
    low = degrade(batch, family, scale)
    assert low.shape == (2, 3, 3, 4, 5)
    assert low.is_contiguous()
    alone = degrade(batch[1:, 2:], family, scale)
    assert (low[1, 2] - alone[0, 0]).abs().max() < 1e-6
    half = degrade(batch.to(torch.bfloat16), family, scale)
    assert half.dtype == torch.bfloat16
    assert (half.float() - low).abs().max() < 0.02


@pytest.mark.parametrize(("family", "scale"), RULES)
def test_constant_color_is_kept_and_gradients_are_finite(family, scale):
    """One low-resolution pixel: every border reaches far over the image."""
    even = torch.full((1, 1, 3, scale, scale), 0.3, dtype=torch.float64, requires_grad=True)
    low = degrade(even, family, scale)
    assert low.flatten().tolist() == pytest.approx([0.3] * 3, abs=1e-12)
    low.sum().backward()
    assert even.grad is not None
    assert even.grad.sum().item() == pytest.approx(3, abs=1e-12)


def test_quantized_tensors_have_8_bit_levels():
    extreme = to_float(CLIP).round()  # black and white: the cubic overshoots
    smooth, levels = degrade(extreme, "bi", 2), degrade(extreme, "bi", 2, quantize=True)
    assert smooth.min() < 0
    assert smooth.max() > 1
    assert (levels * 255 - (levels * 255).round()).abs().max() < 1e-4
    assert 0 <= levels.min() <= levels.max() <= 1
    assert (levels - smooth.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    assert levels.dtype == extreme.dtype


@pytest.mark.parametrize(("family", "scale"), RULES)
def test_incomplete_pixels_are_cropped_at_the_bottom_and_right(family, scale):
    whole = CLIP[:, : 17 // scale * scale, : 22 // scale * scale]
    assert np.array_equal(degrade(CLIP, family, scale), degrade(whole, family, scale))
    assert torch.equal(degrade(to_float(CLIP), family, scale), degrade(to_float(whole), family, scale))


def test_scale_one_changes_nothing():
    assert np.array_equal(degrade(CLIP, "bi", 1), CLIP)


@pytest.mark.parametrize("scale", [0, -2, 18])
def test_unsupported_scales_raise(scale):
    with pytest.raises(ConfigError, match="scale: "):
        degrade(CLIP, "bi", scale)


def test_the_error_for_a_scale_names_families_that_have_it():
    with pytest.raises(ConfigError, match=r"x4 .*bd_tecogan .*x2.*: bi, bd_basicvsr, bd_duf$"):
        degrade(CLIP, "bd_tecogan", 2)
    with pytest.raises(ConfigError, match=r"x2, x3, x4 .*bd_duf .* got x5.*: bi$"):
        find_degradation("bd_duf", 5)


def test_invalid_clips_raise():
    with pytest.raises(ShapeError, match="want uint8"):
        degrade(CLIP / 255, "bi", 2)
    with pytest.raises(ShapeError, match=r"want \(B, T, 3, H, W\)"):
        degrade(torch.zeros(3, 8, 8), "bd_duf", 2)


def test_unknown_families_raise():
    with pytest.raises(UnknownNameError, match=r"'bd_dfu'.*'bd_duf'"):
        degrade(CLIP, "bd_dfu", 2)
