import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.videos import numbered, numbers
from workbench.data.video.frame_folder import (
    describe_size_mismatch,
    first_transparent,
    frame_names,
    header_size,
    image_files,
    read_frames,
    read_image,
    stream_frames,
)
from workbench.data.video.frame_numbers import (
    describe_gaps,
    describe_mismatch,
    find_gaps,
    frame_numbers,
    match_frames,
    natural_order,
)
from workbench.errors import ConfigError, VideoError

GRAY = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def save(folder, names, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def test_images_come_in_natural_order(tmp_path):
    save(tmp_path / "clip", [f"im{n}.png" for n in (0, 1, 2, 9, 10, 11)], numbered(6))
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    (tmp_path / "clip" / ".im3.png").write_text("not a frame either")
    (tmp_path / "clip" / "im4.png").mkdir()
    frames = read_frames(tmp_path / "clip")
    assert np.array_equal(frames, numbered(6))
    assert np.array_equal(read_frames(tmp_path / "clip", first=2, last=4), numbered(6)[2:4])
    assert [path.stem for path in image_files(tmp_path / "clip")] == ["im0", "im1", "im2", "im9", "im10", "im11"]


def test_natural_order_has_no_ties():
    """Names that differ only in case or in leading zeros have an order too, the same every time."""
    names = ["b2", "B2", "b02", "a10", "a9", "10", "9", "٣", "x"]
    once, backwards = sorted(names, key=natural_order), names[::-1]
    assert sorted(backwards, key=natural_order) == once
    assert (once.index("9") < once.index("10"), once.index("a9") < once.index("a10")) == (True, True)


@pytest.mark.parametrize(("suffix", "exact"), [("png", True), ("bmp", True), ("webp", False), ("jpg", False)])
def test_supported_image_formats(tmp_path, suffix, exact):
    frames = read_frames(save(tmp_path, [f"{n}.{suffix.upper()}" for n in range(3)], numbered(3)))
    assert np.array_equal(frames, numbered(3)) if exact else numbers(frames) == [0, 1, 2]


def test_a_stream_reads_one_image_at_a_time(tmp_path):
    save(tmp_path, ["0.png", "1.png"], numbered(2))
    (tmp_path / "2.png").write_bytes(b"damaged")
    frames = stream_frames(tmp_path)
    assert numbers([next(frames), next(frames)]) == [0, 1]
    with pytest.raises(VideoError, match=r"2.png: not an image"):
        next(frames)
    assert numbers(stream_frames(tmp_path, first=1, last=2)) == [1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_gray_palette_and_opaque_alpha_images_become_rgb(tmp_path, mode):
    GRAY.convert(mode).save(tmp_path / "0.png")
    seen = read_frames(tmp_path)[0]
    assert seen.shape == (16, 16, 3)
    assert np.array_equal(seen, np.asarray(GRAY.convert(mode).convert("RGB")))


def test_exif_orientation_is_applied(tmp_path):
    note = Image.Exif()
    note[0x0112] = 6  # to be turned clockwise
    Image.fromarray(NOISE).save(tmp_path / "0.png", exif=note)
    assert np.array_equal(read_frames(tmp_path)[0], np.rot90(NOISE, -1))


# -- frame numbers ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stems", "numbers"),
    [
        (["im1", "im2", "im10"], [1, 2, 10]),
        (["frame_0001", "frame_0002"], [1, 2]),
        (["shot01_0005", "shot01_0006"], [5, 6]),
        (["4k_0009_x4", "4k_0010_x4"], [9, 10]),
        (["f1_t0.033", "f2_t0.067", "f3_t0.100", "f4_t1.133"], [1, 2, 3, 4]),
        (["a01_1", "a01_2", "a02_1", "a02_2"], [1, 2, 1, 2]),
        (["7"], [7]),
        (["4k_0009_x4"], [9]),
        (["0001", "0002_fixed", "0003"], [1, None, 3]),
        (["first", "last"], [None, None]),
        (["3fa9", "b21c", "77"], [None] * 3),
        ([], []),
    ],
)
def test_frame_numbers_are_parsed_from_names(stems, numbers):
    assert frame_numbers(stems) == numbers


@pytest.mark.parametrize(
    ("numbers", "positions", "missing"),
    [
        ([0, 1, 2, 3, *range(12, 22)], [4], [*range(4, 12)]),
        ([1, 2, 3], [], []),
        ([0, 2, 4, 6], [], []),
        ([0, 2, 4, 8, 10], [3], [6]),
        ([1, 3, 4, 5, 8], [1, 4], [2, 6, 7]),
        ([169, 203, 236, 270, 303, 999], [], []),  # 30 frames a second in milliseconds: no stride
        ([5], [], []),
        ([1, None, 3], [], []),
        ([1, 2, 3, 1, 2, 3], [3], []),  # two shots
    ],
)
def test_gaps_by_hand(numbers, positions, missing):
    gaps = find_gaps(numbers)
    assert [gap.position for gap in gaps] == positions
    assert [number for gap in gaps for number in gap.numbers] == missing


def test_gaps_of_a_folder_are_reported(tmp_path):
    save(tmp_path, [f"im{n}.png" for n in (8, 9, 12, 13, 15)], numbered(5))
    names = frame_names(tmp_path)
    assert names == ["im8", "im9", "im12", "im13", "im15"]
    assert describe_gaps(names) == "missing frames 10 to 11 (2), 14"
    assert describe_gaps(["a_1", "a_2", "b_1"]) == ""
    assert describe_gaps([f"{n}" for n in range(0, 60, 1) if n % 5]) == "missing frames 5, 10, 15, 20 and 7 more"


def test_one_frame_in_two_formats_raises(tmp_path):
    save(tmp_path, ["00001.png", "00001.jpg", "00002.png"], numbered(3))
    for use in (read_frames, frame_names, first_transparent):
        with pytest.raises(VideoError, match=r"00001\.(jpg|png) and 00001\.(jpg|png) .*00001"):
            use(tmp_path)


def test_images_are_matched_by_number():
    assert match_frames(["1", "2", "3"], ["b003", "b001", "b002"]).positions == [1, 2, 0]
    assert match_frames(["x", "y"], ["y", "x"]).positions == [1, 0]
    shifted = match_frames(["0", "1", "2"], ["1", "2", "3"])
    assert (shifted.missing, shifted.surplus) == (["0"], ["3"])
    assert match_frames(["0", "1", "2"], ["1", "2", "3"], allow_offset=True).positions == [0, 1, 2]
    assert match_frames(["0", "1", "3"], ["1", "2", "3"], allow_offset=True).missing == ["0"]
    assert describe_mismatch(match_frames([f"{n}" for n in range(9)], ["0"])) == "1, 2, 3, 4 and 4 more are missing"


# -- transparency ----------------------------------------------------------------------------------------------------
def test_transparent_images_are_composited_onto_a_background(tmp_path):
    """Against floats: round(alpha * color + (1 - alpha) * background)."""
    alpha = np.arange(192, dtype=np.uint8).reshape(12, 16) + 64
    Image.fromarray(np.dstack([NOISE, alpha])).save(tmp_path / "0.png")
    seen = read_frames(tmp_path, background=(0, 200, 17))[0]
    share = alpha[..., None] / 255
    assert np.array_equal(seen, np.round(share * NOISE + (1 - share) * np.array([0, 200, 17])))
    assert next(stream_frames(tmp_path, background=(1, 2, 3))).dtype == np.uint8


def test_a_background_changes_no_opaque_image(tmp_path):
    save(tmp_path, ["0.png"], [NOISE])
    Image.fromarray(NOISE).convert("RGBA").save(tmp_path / "1.png")
    assert np.array_equal(read_frames(tmp_path, background=(9, 9, 9)), np.stack([NOISE, NOISE]))


@pytest.mark.parametrize("background", [(0, 0, 256), (0, -1, 0), (1, 2), (0.5, 0, 0)])
def test_invalid_backgrounds_raise(tmp_path, background):
    save(tmp_path, ["0.png"], [NOISE])
    with pytest.raises(ConfigError, match=r"background: .*0 to 255"):
        read_frames(tmp_path, background=background)


def test_transparency_is_detected_before_reading(tmp_path, monkeypatch):
    save(tmp_path, ["0.png", "1.jpg"], [NOISE, NOISE])
    Image.fromarray(NOISE).convert("RGBA").save(tmp_path / "2.png")
    assert first_transparent(tmp_path) is None
    Image.fromarray(TRANSPARENT).save(tmp_path / "3.png")
    decoded = []
    convert = Image.Image.convert
    monkeypatch.setattr(
        Image.Image, "convert", lambda image, mode: decoded.append(image.filename) or convert(image, mode)
    )
    assert first_transparent(tmp_path) == tmp_path / "3.png"
    assert decoded == [str(tmp_path / "2.png"), str(tmp_path / "3.png")]


# -- what is not a clip ----------------------------------------------------------------------------------------------
def test_folders_that_are_no_clip_raise(tmp_path):
    with pytest.raises(VideoError, match="no such folder"):
        read_frames(tmp_path / "nothing")
    with pytest.raises(VideoError, match=r"\.png"):
        read_frames(tmp_path)
    Image.fromarray(NOISE).save(tmp_path / "0.gif")
    with pytest.raises(VideoError, match=r"\.png"):
        read_frames(tmp_path)
    save(tmp_path / "mixed", ["0.png", "1.png"], [numbered(1)[0], numbered(1)[0, :, :60]])
    with pytest.raises(VideoError, match=r"1.png: 60x48.* 64x48"):
        read_frames(tmp_path / "mixed")
    with pytest.raises(VideoError, match="0 to 2"):
        read_frames(tmp_path / "mixed", first=2)
    with pytest.raises(VideoError, match="0 to 2"):
        read_frames(tmp_path / "mixed", first=1, last=1)


def encoded(kind, image=NOISE, **options):
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def sixteen_bits(channels):
    deep = np.arange(12 * 16 * channels, dtype=np.uint16).reshape(12, 16, channels) * 113
    return cv2.imencode(".png", deep)[1].tobytes()


TRANSPARENT = np.dstack([NOISE, np.full((12, 16), 255, np.uint8)])
TRANSPARENT[:3, :4, 3] = 0  # 12 of 192 pixels
PALETTE = Image.fromarray(NOISE).quantize(8)
REFUSED = {
    "empty": (b"", "the file is empty; copy or write it again"),
    "text": (b"hello", "not an image"),
    "cut off": (encoded("PNG")[:300], "not an image that can be read .*; copy or write it again"),
    "cut off, JPEG": (encoded("JPEG")[:600], "not an image that can be read .*[Tt]runcated"),
    "16 bits, gray": (sixteen_bits(1), r"more than 8 bits per channel \(I;16\); convert the frames to 8-bit RGB"),
    "16 bits, RGB": (sixteen_bits(3), r"more than 8 bits per channel \(RGB\); convert the frames to 8-bit RGB"),
    "16 bits, RGBA": (sixteen_bits(4), r"more than 8 bits per channel \(RGBA\)"),
    "CMYK": (encoded("JPEG", Image.fromarray(NOISE).convert("CMYK")), "its colors are CMYK, not gray or RGB"),
    "animated PNG": (
        encoded("PNG", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
        r"animated \(2 images in one file\); save one image per frame",
    ),
    "animated WebP": (
        encoded("WEBP", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
        r"animated \(2 images in one file\)",
    ),
    "a GIF by another name": (
        encoded("GIF", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
        r"animated \(2 images in one file\)",
    ),
    "alpha": (encoded("PNG", TRANSPARENT), r"6.2% of it is transparent, "),
    "alpha, WebP": (encoded("WEBP", TRANSPARENT, lossless=True), r"6.2% of it is transparent"),
    "alpha in a palette": (encoded("PNG", PALETTE, transparency=0), r"\d+\.\d% of it is transparent"),
    "one transparent color": (encoded("PNG", transparency=tuple(map(int, NOISE[0, 0]))), r"0.5% of it is transparent"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_images_that_cannot_be_frames_raise(tmp_path, kind):
    content, pattern = REFUSED[kind]
    save(tmp_path, ["0.png"], [NOISE])
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(VideoError, match=rf"1.png: {pattern}"):
        read_frames(tmp_path)


def test_an_image_with_a_huge_header_raises(tmp_path):
    content = bytearray(encoded("BMP"))
    content[18:26] = b"\xff\xff\x00\x00\xff\xff\x00\x00"  # width and height
    (tmp_path / "0.bmp").write_bytes(content)
    with pytest.raises(VideoError, match=r"0.bmp: .*decompression bomb"):
        read_frames(tmp_path)


def test_an_image_without_read_permission_raises(tmp_path, monkeypatch):
    save(tmp_path, ["0.png"], [NOISE])

    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(VideoError, match=r"0.png: .*Permission denied"):
        read_frames(tmp_path)


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "BMP"])
def test_a_damaged_image_gives_an_image_or_a_video_error(tmp_path, kind):
    whole = encoded(kind, NOISE[:6, :6])
    outcomes = {"read": 0, "refused": 0}
    for position in range(0, len(whole), 1 if len(whole) < 400 else 3):
        broken = bytearray(whole)
        broken[position] ^= 0x81
        for content in (bytes(broken), whole[:position]):
            (tmp_path / "0").write_bytes(content)
            try:
                assert read_image(tmp_path / "0").dtype == np.uint8
            except VideoError:
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1
    assert outcomes["refused"] > 100


def test_a_damaged_png_never_gives_other_pixels(tmp_path):
    """Its checksums see to it; the other kinds have none."""
    blocks = NOISE[:6, :6].repeat(4, axis=0).repeat(4, axis=1)
    whole = encoded("PNG", blocks)
    for position in range(len(whole)):
        for bit in (0, 3, 7):
            broken = bytearray(whole)
            broken[position] ^= 1 << bit
            (tmp_path / "0.png").write_bytes(broken)
            try:
                seen = read_image(tmp_path / "0.png")
            except VideoError:
                continue
            assert np.array_equal(seen, blocks)


def test_sizes_by_header(tmp_path):
    image = Image.new("RGB", (30, 20))
    image.save(tmp_path / "0.png")
    sideways = image.getexif()
    sideways[0x0112] = 6
    image.save(tmp_path / "1.jpg", exif=sideways)
    assert header_size(tmp_path / "0.png") == (30, 20)
    assert header_size(tmp_path / "1.jpg") == (20, 30)  # as it is read
    image.save(tmp_path / "3.png", exif=sideways)
    assert header_size(tmp_path / "3.png") == (20, 30) == read_image(tmp_path / "3.png").shape[1::-1]
    assert describe_size_mismatch([tmp_path / "0.png"], (30, 20)) is None
    assert describe_size_mismatch([tmp_path / "0.png", tmp_path / "1.jpg"], (30, 20)) == "1.jpg is 20x30, not 30x20"
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(VideoError, match=r"2\.png: not a readable image"):
        header_size(tmp_path / "2.png")
