import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as psnr_of_torchmetrics
from torchmetrics.functional.image import structural_similarity_index_measure as ssim_of_torchmetrics

from workbench.errors import ConfigError, ShapeError
from workbench.metrics.fidelity import luma, psnr_db, ssim


def clips(seed=0, frames=3, height=37, width=52):
    """A smooth image with noise, and the same with other noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    smooth = 128 + 80 * np.sin(rows / 7)[..., None] * np.cos(columns[..., None] / np.array([5, 9, 13]))
    noisy = smooth + random.normal(0, 20, (2, frames, height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def plain(value, frames=1, height=16, width=16):
    return np.full((frames, height, width, 3), value, np.uint8)


def test_luma_by_hand():
    colors = np.array([[[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]]]], np.uint8)
    wanted = [16, 235, 81.481, 144.553, 40.966, 16 + (65.481 + 2 * 128.553 + 3 * 24.966) / 255]
    assert luma(colors)[0, 0] == pytest.approx(wanted, abs=1e-12)
    assert luma(colors).dtype == np.float64


def test_psnr_by_hand():
    """One level of difference on RGB: 10 log10(255^2 / 1); on luma it is 219 / 255 of a level."""
    assert psnr_db(plain(100), plain(101), channel="rgb") == pytest.approx([48.1308036])
    assert psnr_db(plain(100), plain(101)) == pytest.approx([48.1308036 - 20 * np.log10(219 / 255)])
    assert psnr_db(plain(0), plain(255), channel="rgb") == pytest.approx([0])


def test_luma_is_not_rounded():
    """Two colors 0.97 levels of luma apart: rounded, they would be one or no level apart."""
    first, second = plain(0), plain(0)
    second[..., 2] = 10
    assert psnr_db(first, second) == pytest.approx([10 * np.log10(255**2 / (10 * 24.966 / 255) ** 2)])


def test_equal_frames():
    first, _ = clips()
    with np.errstate(all="raise"):
        assert psnr_db(first, first).tolist() == [np.inf] * 3
    assert ssim(first, first) == pytest.approx([1, 1, 1])


def test_each_frame_is_scored_separately():
    first, second = clips()
    second[1] = first[1]
    assert np.isinf(psnr_db(first, second)).tolist() == [False, True, False]
    for metric in (psnr_db, ssim):
        assert metric(first, second)[2:] == pytest.approx(metric(first[2:], second[2:]))
        assert metric(first, second) == pytest.approx(metric(second, first))


@pytest.mark.parametrize("channel", ["y", "rgb"])
@pytest.mark.parametrize("crop", [0, 3])
def test_psnr_and_ssim_equal_scikit_image(channel, crop):
    first, second = clips()
    inside = slice(crop, -crop or None)
    a, b = ((luma(x) if channel == "y" else x.astype(float))[:, inside, inside] for x in (first, second))
    psnr = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)]
    assert psnr_db(first, second, channel=channel, crop_border=crop) == pytest.approx(psnr, abs=1e-10)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    similar = [
        # its window is 11 wide at this sigma; its mean leaves out the same 5 pixels at every border
        structural_similarity(x, y, channel_axis=None if channel == "y" else -1, **settings)
        for x, y in zip(a, b, strict=True)
    ]
    assert ssim(first, second, channel=channel, crop_border=crop) == pytest.approx(similar, abs=1e-10)


@pytest.mark.parametrize("crop", [0, 3])
def test_psnr_and_ssim_equal_torchmetrics(crop):
    """On the common ground: RGB, a Gaussian window of 11, and of its map the part where no border was made up."""
    first, second = clips()
    inside = slice(crop, -crop or None)
    a, b = (torch.from_numpy(x[:, inside, inside].astype(float)).permute(0, 3, 1, 2) for x in (first, second))
    psnr = [psnr_of_torchmetrics(x[None], y[None], data_range=255.0).item() for x, y in zip(a, b, strict=True)]
    assert psnr_db(first, second, channel="rgb", crop_border=crop) == pytest.approx(psnr, abs=1e-4)
    maps = [
        ssim_of_torchmetrics(x[None], y[None], data_range=255.0, return_full_image=True)[1]
        for x, y in zip(a, b, strict=True)
    ]
    similar = [one[..., 5:-5, 5:-5].mean().item() for one in maps]
    assert ssim(first, second, channel="rgb", crop_border=crop) == pytest.approx(similar, abs=1e-6)


def test_ssim_of_two_constants_by_hand():
    """No variance: what remains is (2ab + C1) / (a^2 + b^2 + C1)."""
    c1 = (0.01 * 255) ** 2
    assert ssim(plain(60), plain(90), channel="rgb") == pytest.approx([(2 * 60 * 90 + c1) / (60**2 + 90**2 + c1)])


def test_more_noise_lowers_the_scores():
    first, _ = clips(frames=1)
    random = np.random.default_rng(1)
    noisy = [(first + random.normal(0, sigma, first.shape)).clip(0, 255).astype(np.uint8) for sigma in (2, 8, 32)]
    for metric in (psnr_db, ssim):
        scores = [metric(first, clip).item() for clip in noisy]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("metric", [psnr_db, ssim])
def test_invalid_input_raises(metric):
    first, second = clips()
    with pytest.raises(ShapeError, match=r"second: .*expected"):
        metric(first, second[:, :, 1:])
    with pytest.raises(ShapeError, match=r"first: .*uint8"):
        metric(first / 255, second / 255)
    with pytest.raises(ShapeError):
        metric(first, second, crop_border=19)
    with pytest.raises(ConfigError, match=r"channel: .*'luma'"):
        metric(first, second, channel="luma")


def test_ssim_of_frames_smaller_than_its_window_raises():
    assert ssim(plain(1, height=11, width=11), plain(1, height=11, width=11)) == pytest.approx([1])
    with pytest.raises(ShapeError, match=r"ssim: .*12x10"):
        ssim(plain(1, height=10, width=12), plain(1, height=10, width=12))
