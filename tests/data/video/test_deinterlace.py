"""Deinterlacing: the fields that were there stay, the combs go, frame numbers and times stay what they are."""

import shutil
import subprocess

import av
import numpy as np
import pytest

from tests.videos import numbered
from workbench.data.video.inspect import inspect_video
from workbench.data.video.read import Conversion, read_video
from workbench.inference.video import upscale_file
from workbench.models.bicubic import Bicubic

FRAMES = 80
SPEED = 4
"""Pixels a field by which the bar moves."""


def fields(number):
    """Two moments of a white bar that moves over gray: rows of the first at even places, of the second at odd ones."""
    frame = np.full((64, 96, 3), 40, np.uint8)
    for field in (0, 1):
        left = (SPEED * (2 * number + field)) % 72
        frame[field::2, left : left + 16] = 200
    return frame


def interlaced_video(path, *, progressive_until=0, **options):
    """Top field first, H.264; the first frames flagged as progressive where wanted."""
    with av.open(str(path), "w") as file:
        interlaced = {} if progressive_until else {"flags": "+ilme+ildct", "x264-params": "tff=1"}
        stream = file.add_stream("libx264", rate=25, options={"crf": "1", "g": "12", **interlaced, **options})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(FRAMES):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(fields(number), format="rgb24")))
        file.mux(stream.encode(None))
    return path


def combs(frame):
    """Mean difference of neighboring rows, which are of different fields."""
    gray = frame.astype(int).mean(axis=-1)
    return np.abs(np.diff(gray, axis=0)).mean()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return interlaced_video(tmp_path_factory.mktemp("interlaced") / "source.mp4")


def test_deinterlacing_keeps_one_field(source):
    woven = read_video(source, conversion=Conversion(deinterlace="off"))
    video = read_video(source)
    assert inspect_video(source).field_order == "top field first"
    assert len(video) == len(woven) == FRAMES
    assert np.array_equal(video.times_seconds, woven.times_seconds)
    assert combs(woven.frames[5]) > 10
    assert max(combs(frame) for frame in video.frames[1:]) < 2
    changed = np.abs(video.frames.astype(int) - woven.frames)[1:-1]
    assert min(changed[:, ::2].max(), changed[:, 1::2].max()) <= 1  # the rows of one field
    assert max(changed[:, ::2].max(), changed[:, 1::2].max()) > 100


@pytest.mark.parametrize("first", [1, 2, 70])
def test_a_frame_is_the_same_wherever_reading_starts(source, first):
    whole = read_video(source).frames
    assert np.array_equal(read_video(source, first=first, last=first + 4).frames, whole[first : first + 4])


def test_progressive_frames_are_unchanged(tmp_path):
    path = interlaced_video(tmp_path / "a.mp4", progressive_until=FRAMES)
    off = read_video(path, conversion=Conversion(deinterlace="off")).frames
    assert np.array_equal(read_video(path).frames, off)
    assert combs(read_video(path, conversion=Conversion(deinterlace="on")).frames[5]) < 2


def test_deinterlacing_is_reported(source, tmp_path):
    made = upscale_file(source, tmp_path / "out.mp4", Bicubic(scale=2))
    assert made.frames == FRAMES
    assert any("bwdif" in text for text in made.transfer.texts("converted"))
    assert combs(read_video(tmp_path / "out.mp4").frames[20]) < 2
    kept = upscale_file(source, tmp_path / "off.mp4", Bicubic(scale=2), conversion=Conversion(deinterlace="off"))
    assert any("interlaced" in text for text in kept.transfer.texts("lost"))


def test_frames_too_small_for_the_deinterlacing_filter_are_read(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 4, 2, "yuv420p"
        for frame in numbered(3)[:, :2, :4]:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode(None))
    assert len(read_video(path)) == 3
    with pytest.raises(Exception, match=r"4x2 .*deinterlace"):
        read_video(path, conversion=Conversion(deinterlace="on"))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="compares with ffmpeg, which is not installed")
def test_rows_equal_those_of_ffmpeg(source, tmp_path):
    """All frames but the first, which versions of FFmpeg treat differently."""
    raw = tmp_path / "raw.yuv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(source), "-vf", "bwdif=mode=send_frame", "-pix_fmt", "yuv420p",
         "-f", "rawvideo", str(raw)], check=True,
    )  # fmt: skip
    theirs = np.fromfile(raw, np.uint8).reshape(FRAMES, 96, 96)
    from workbench.data.video.decode import Decoding
    from workbench.data.video.deinterlace import deinterlace

    ours = np.stack([frame.to_ndarray() for frame in deinterlace(Decoding(source).frames())])
    assert np.array_equal(ours[1:], theirs[1:])
