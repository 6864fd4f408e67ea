"""The conversion to RGB against the definition of ITU-R BT.601, BT.709 and BT.2020, in float64 and in numpy only."""

import numpy as np
import pytest
from av.video.frame import VideoFrame

from tests.videos import encode, frame_from_planes, numbered
from workbench.data.video.color import Conversion, is_full_range, matrix_of
from workbench.data.video.decode import Decoding
from workbench.data.video.read import read_video
from workbench.errors import VideoError

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Weights of red and blue in luma."""

NUMBERS = {"bt709": 1, "unstated": 2, "bt601": 6, "bt2020": 9}
"""Numbers of matrices in ITU-T H.273, table 4."""


def to_rgb(samples, bits, matrix, full):
    """RGB from 0 to 255, not rounded, of integer Y'CbCr samples (..., 3)."""
    red, blue = WEIGHTS[matrix]
    step, middle = 2.0 ** (bits - 8), 2.0 ** (bits - 1)
    y, cb, cr = np.moveaxis(samples.astype(np.float64), -1, 0)
    if full:
        y, cb, cr = (value / (2**bits - 1) for value in (y, cb - middle, cr - middle))
    else:
        y, cb, cr = (y - 16 * step) / (219 * step), (cb - middle) / (224 * step), (cr - middle) / (224 * step)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return 255 * np.stack([r, g, b], axis=-1)


def colors(bits, matrix, full):
    """Samples whose RGB lies inside the cube, from all over it."""
    rng = np.random.default_rng(bits)
    found = rng.integers(0, 2**bits, (60_000, 3))
    rgb = to_rgb(found, bits, matrix, full)
    inside = found[((rgb >= 0) & (rgb <= 255)).all(axis=-1)]
    assert len(inside) >= 6 * 8
    return inside[: 6 * 8].reshape(6, 8, 3)


def patches(path, samples, bits, size, *, pixels="yuv444p", **settings):
    """A video of one frame, coded without loss, with each color as a patch; the patches' RGB as it is read."""
    width, height = size
    rows, columns = height // samples.shape[0], width // samples.shape[1]
    field = samples.repeat(rows, axis=0).repeat(columns, axis=1).astype(np.uint8 if bits == 8 else "<u2")
    across, down = (2 if "420" in pixels or "422" in pixels else 1), (2 if "420" in pixels else 1)
    planes = [field[..., 0], field[::down, ::across, 1], field[::down, ::across, 2]]
    frame = frame_from_planes([np.ascontiguousarray(plane) for plane in planes], pixels)
    encode(path, [frame], pixels=pixels, **settings)
    seen = read_video(path).frames[0]
    return seen[rows // 2 :: rows, columns // 2 :: columns].astype(float)


SD, HD = (128, 96), (1280, 96)


@pytest.mark.parametrize("full", [False, True], ids=["16-235", "0-255"])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize(("pixels", "codec"), [("yuv444p", "libx264"), ("yuv420p", "libx264"), ("yuv422p", "ffv1")])
def test_the_stated_color_space_is_used(tmp_path, matrix, full, pixels, codec):
    samples = colors(8, matrix, full)
    settings = {"qp": "0"} if codec == "libx264" else {}
    seen = patches(
        tmp_path / "a.mkv", samples, 8, SD, pixels=pixels, codec=codec, colors=(NUMBERS[matrix], 1 + full), **settings
    )
    assert np.abs(seen - to_rgb(samples, 8, matrix, full)).max() < 0.52


@pytest.mark.parametrize(("size", "matrix"), [(SD, "bt601"), (HD, "bt709"), ((96, 582), "bt709"), ((96, 576), "bt601")])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_an_unstated_color_space_depends_on_the_frame_size(tmp_path, codec, size, matrix):
    samples = colors(8, matrix, False)
    settings = {"qp": "0"} if codec == "libx264" else {}
    seen = patches(tmp_path / "a.mkv", samples, 8, size, codec=codec, **settings)
    assert np.abs(seen - to_rgb(samples, 8, matrix, False)).max() < 0.52
    assumed = "bt601" if matrix == "bt709" else "bt709"
    other = read_video(tmp_path / "a.mkv", conversion=Conversion(assume_matrix=assumed)).frames[0]
    assert np.abs(other.astype(float) - read_video(tmp_path / "a.mkv").frames[0]).max() > 10


def test_the_stated_color_space_has_priority(tmp_path):
    patches(tmp_path / "a.mkv", colors(8, "bt709", False), 8, SD, colors=(1, 1), qp="0")
    assert np.array_equal(
        read_video(tmp_path / "a.mkv", conversion=Conversion(assume_matrix="bt601")).frames,
        read_video(tmp_path / "a.mkv").frames,
    )


@pytest.mark.parametrize(("full", "error"), [(False, 0.52), (True, 1.3)], ids=["16-235", "0-255"])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("pixels", ["yuv444p10le", "yuv420p10le"])
def test_ten_bits_are_rounded(tmp_path, pixels, matrix, full, error):
    samples = colors(10, matrix, full)
    seen = patches(tmp_path / "a.mkv", samples, 10, SD, pixels=pixels, colors=(NUMBERS[matrix], 1 + full), qp="0")
    assert np.abs(seen - to_rgb(samples, 10, matrix, full)).max() < error


def test_ten_bits_are_not_dithered(tmp_path):
    field = np.full((6, 8, 3), (503, 512, 512))
    patches(tmp_path / "a.mkv", field, 10, SD, pixels="yuv420p10le", qp="0")
    assert np.ptp(read_video(tmp_path / "a.mkv").frames) == 0


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.webm", "libvpx-vp9", "gbrp", {"lossless": "1"}),
        ("a.mkv", "ffv1", "bgr0", {}),
        ("a.mkv", "libx264rgb", "rgb24", {"qp": "0"}),
        ("a.mov", "png", "rgb24", {}),
        ("a.mkv", "ffv1", "gbrp10le", {}),
    ],
)
def test_rgb_is_not_converted(tmp_path, name, codec, pixels, options):
    noise = np.random.default_rng(0).integers(0, 256, (1, 34, 62, 3), dtype=np.uint8)
    frame = VideoFrame.from_ndarray(noise[0], format="rgb24").reformat(format=pixels)
    encode(tmp_path / name, [frame], codec=codec, pixels=pixels, **options)
    assert np.array_equal(read_video(tmp_path / name).frames, noise)


@pytest.mark.parametrize(("codec", "stated", "full"), [("libx264", 1, False), ("libx264", 2, True), ("ffv1", 0, True)])
def test_gray_video_is_read(tmp_path, codec, stated, full):
    levels = np.arange(16, 236, dtype=np.uint8).reshape(10, 22).repeat(4, axis=0).repeat(4, axis=1)
    options = {"qp": "0"} if codec == "libx264" else {}
    encode(
        tmp_path / "a.mkv",
        [frame_from_planes([levels], "gray")],
        codec=codec,
        pixels="gray",
        colors=(2, stated),
        **options,
    )
    seen = read_video(tmp_path / "a.mkv").frames[0]
    assert (seen == seen[..., :1]).all()
    exact = levels if full else (levels.astype(float) - 16) * 255 / 219
    assert np.abs(seen[..., 0] - exact).max() < 0.52


def test_chroma_positions_are_those_of_h264(tmp_path):
    """Left-sited: column 2i of the image has the chroma of column i, column 2i + 1 lies halfway to the next."""
    ramp = np.tile((60 + 4 * np.arange(32)).astype(np.uint8), (32, 1))
    planes = [np.full((64, 64), 128, np.uint8), np.full((32, 32), 128, np.uint8), ramp]
    path = encode(tmp_path / "a.mkv", [frame_from_planes(planes, "yuv420p")], colors=(5, 2), qp="0")
    red = read_video(path).frames[0, 32, 8:56, 0]
    exact = 128 + 1.402 * (60 + 4 * np.arange(8, 56) / 2 - 128)
    assert np.abs(red - exact).max() < 0.8


def test_unsupported_matrices_raise(tmp_path):
    path = encode(tmp_path / "a.mkv", numbered(1), pixels="yuv444p", colors=(8, 2))  # YCgCo
    with pytest.raises(VideoError, match=r"a.mkv: frame 0: .*of H.273, got 8"):
        read_video(path)


def test_default_matrices_and_ranges_of_pixel_formats():
    def frame(pixels, width=64, height=48):
        return VideoFrame(width, height, pixels)

    assert [matrix_of(frame(pixels)) for pixels in ("yuv420p", "gbrp", "gray", "yuva420p")] == [
        "bt601", "rgb", "gray", "bt601",
    ]  # fmt: skip
    assert matrix_of(frame("yuv420p", 1280, 720)) == "bt709"
    assert matrix_of(frame("yuv420p", 1280, 720), "bt2020") == "bt2020"
    assert [is_full_range(frame(pixels)) for pixels in ("yuv420p", "yuvj420p")] == [False, True]


def test_old_pixel_formats_of_full_range(tmp_path):
    planes = [np.full((48, 64), 200, np.uint8), *[np.full((24, 32), 128, np.uint8)] * 2]
    path = encode(tmp_path / "a.avi", [frame_from_planes(planes, "yuvj420p")], codec="mjpeg", pixels="yuvj420p", q="1")
    assert next(Decoding(path).frames()).format.name == "yuvj420p"
    assert np.abs(read_video(path).frames.astype(int) - 200).max() <= 1
