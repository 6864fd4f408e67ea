"""Tone mapping against the formulas of ST 2084, BT.2100, BT.2390 and BT.1886, written here once more in float64."""

import math

import av
import numpy as np
import pytest

from tests.videos import encode, frame_from_planes
from workbench.data.video.hdr import ToneMapper
from workbench.data.video.read import Conversion, read_video
from workbench.errors import VideoError
from workbench.inference.video import upscale_file
from workbench.models.bicubic import Bicubic

PQ, HLG = 16, 18
"""Transfer characteristics in ITU-T H.273."""

PATCHES = (1, 20, 100, 203, 400, 1000)
"""cd/m² of gray; 203 is the reference white of BT.2408."""


def pq_code(luminance):
    y = (luminance / 10_000) ** (1305 / 8192)
    return ((107 / 128 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def pq_luminance(code):
    p = code ** (32 / 2523)
    return 10_000 * (max(p - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * p)) ** (8192 / 1305)


def eetf(luminance, source=1000.0, target=203.0):
    e, m = min(pq_code(luminance) / pq_code(source), 1), pq_code(target) / pq_code(source)
    knee = 1.5 * m - 0.5
    if e >= knee:
        t = (e - knee) / (1 - knee)
        e = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * m
    return pq_luminance(e * pq_code(source))


def sdr_level(luminance):
    """8-bit level of gray by the formulas; not rounded."""
    return 255 * (eetf(luminance) / 203) ** (1 / 2.4)


def hlg_code(luminance):
    """HLG code value of gray on a 1000 cd/m² display: inverse OOTF with gamma 1.2, then the OETF."""
    scene = (luminance / 1000) ** (1 / 1.2)
    if scene <= 1 / 12:
        return math.sqrt(3 * scene)
    return 0.17883277 * math.log(12 * scene - 0.28466892) + 0.55991073


def gray_video(path, codes, transfer):
    """Lossless HEVC of 10 bits, limited range, BT.2020: a row of gray patches."""
    luma = np.repeat([round((16 + 219 * code) * 4) for code in codes], 16).astype("<u2")
    planes = [np.tile(luma, (32, 1)), *[np.full((16, 8 * len(codes)), 512, "<u2")] * 2]
    marks = f"colorprim=9:transfer={transfer}:colormatrix=9"
    return encode(
        path, [frame_from_planes(planes, "yuv420p10le") for _ in range(3)], codec="libx265", pixels="yuv420p10le",
        **{"x265-params": f"lossless=1:log-level=0:{marks}"},
    )  # fmt: skip


@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq_code), (HLG, hlg_code)])
def test_patches_are_mapped_by_the_formula(tmp_path, transfer, code):
    path = gray_video(tmp_path / "a.mp4", [code(level) for level in PATCHES], transfer)
    frame = read_video(path).frames[1]
    seen = frame[16, 8::16].astype(float)
    wanted = [sdr_level(level) for level in PATCHES]
    assert np.ptp(seen, axis=1).max() <= 1  # gray stays gray
    assert seen.mean(axis=1) == pytest.approx(wanted, abs=1.5)  # a step of 10 bits is up to 1.2 levels
    assert wanted[3] == pytest.approx(230.3, abs=0.1)  # reference white
    assert seen[-1].tolist() == [255, 255, 255]


def test_colors_keep_their_hue_and_come_into_bt709():
    """A BT.709 color in BT.2020 coordinates comes out as itself where nothing is compressed."""
    xy = {"709": [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)], "2020": [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)]}

    def to_xyz(primaries):
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return columns * np.linalg.solve(columns, white)

    matrix = np.linalg.solve(to_xyz(xy["709"]), to_xyz(xy["2020"]))
    linear = np.array([0.30, 0.10, 0.05])  # of 203 cd/m²: below the knee of the EETF
    in_2020 = np.linalg.solve(matrix, linear) * 203
    codes = np.array([round(65535 * pq_code(value)) for value in in_2020], np.uint16)
    seen = ToneMapper("PQ")(codes[None, None])[0, 0]
    assert seen == pytest.approx(255 * linear ** (1 / 2.4), abs=1)


def test_code_values_and_color_metadata_can_be_kept(tmp_path):
    source = gray_video(tmp_path / "a.mp4", [pq_code(level) for level in PATCHES], PQ)
    kept = read_video(source, conversion=Conversion(hdr="keep")).frames[1]
    assert kept[16, 8::16, 1] == pytest.approx([255 * pq_code(level) for level in PATCHES], abs=0.8)
    upscale_file(source, tmp_path / "b.mp4", Bicubic(scale=2), conversion=Conversion(hdr="keep"))
    with av.open(str(tmp_path / "b.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, PQ, 9)
    made = upscale_file(source, tmp_path / "c.mp4", Bicubic(scale=2))
    assert "HDR (PQ)" in " ".join(made.transfer.texts("converted"))
    with av.open(str(tmp_path / "c.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (1, 1, 1)


def test_hdr_raises_on_request(tmp_path):
    source = gray_video(tmp_path / "a.mp4", [0.5], HLG)
    with pytest.raises(VideoError, match=r"HDR \(HLG\).*--hdr"):
        upscale_file(source, tmp_path / "b.mp4", Bicubic(), conversion=Conversion(hdr="refuse"))
    assert not (tmp_path / "b.mp4").exists()


def test_other_primaries_are_kept_in_the_metadata(tmp_path):
    """SMPTE 170M, as NTSC has it: values are not changed, so the mark must not be."""
    frames = np.full((3, 32, 64, 3), 90, np.uint8)
    source = encode(
        tmp_path / "a.mp4", frames, colors=(6, 1), **{"x264-params": "colorprim=smpte170m:transfer=smpte170m"}
    )
    made = upscale_file(source, tmp_path / "b.mp4", Bicubic(scale=2))
    assert "SMPTE 170M" in " ".join(made.transfer.texts("kept"))
    with av.open(str(tmp_path / "b.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (6, 6, 1)


@pytest.mark.parametrize(("primaries", "matrix"), [
    (9, [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
    (12, [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]),
    (1, np.eye(3)),
])  # fmt: skip
def test_primaries_become_bt709_by_the_published_matrices(primaries, matrix):
    """BT.2087, annex 2, inverted; Display P3 to sRGB; both are printed with four decimals."""
    linear = np.array([0.10, 0.12, 0.11])
    codes = np.array([round(65535 * pq_code(203 * value)) for value in linear], np.uint16)
    seen = ToneMapper("PQ", primaries=primaries)(codes[None, None])[0, 0]
    assert seen == pytest.approx(255 * (np.array(matrix) @ linear) ** (1 / 2.4), abs=1)


def test_a_saturated_highlight_is_compressed_by_its_largest_channel():
    light = np.array([800.0, 200.0, 100.0])
    codes = np.array([round(65535 * pq_code(value)) for value in light], np.uint16)
    seen = ToneMapper("PQ", primaries=1)(codes[None, None])[0, 0]
    mapped = light * eetf(800) / 800
    assert seen == pytest.approx(255 * (mapped / 203) ** (1 / 2.4), abs=1)


def test_other_primaries_of_hdr_raise():
    with pytest.raises(VideoError, match=r"primaries number 5 .*want 1, 9, 12"):
        ToneMapper("PQ", primaries=5)
