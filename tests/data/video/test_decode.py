import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import encode, join, numbered, numbers, repeat
from workbench.data.video.read import NEAR, read_video
from workbench.data.video.timeline import timeline
from workbench.errors import VideoError

# Far into a video

FAR = 130
"""Frames of a video whose end is looked up and not decoded."""

VIDEOS = [
    ("h264.mp4", "libx264", {"g": "20", "bf": "3"}),
    ("h264.mkv", "libx264", {"g": "20", "bf": "3"}),
    ("open.mp4", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3"}),
    ("open.mkv", "libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3"}),
    ("refresh.mkv", "libx264", {"g": "20", "intra-refresh": "1"}),  # no clean start: decoded from the beginning
    ("h264.avi", "libx264", {"g": "20", "bf": "3"}),  # no times stored, B-frames: the same
    ("hevc.mp4", "libx265", {"x265-params": "keyint=20:bframes=4:open-gop=1:log-level=0"}),
    ("vp9.webm", "libvpx-vp9", {"g": "20", "cpu-used": "8", "lag-in-frames": "16", "auto-alt-ref": "1"}),
    ("vp8.webm", "libvpx", {"g": "20", "cpu-used": "8", "deadline": "realtime"}),
    ("mpeg4.avi", "mpeg4", {"g": "20"}),
    ("mjpeg.mov", "mjpeg", {}),
]


@pytest.mark.parametrize(
    ("name", "codec", "options"), VIDEOS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_frame_is_the_same_wherever_reading_starts(tmp_path, name, codec, options):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = encode(tmp_path / name, numbered(FAR), codec=codec, pixels=pixels, **options)
    whole, index = read_video(path).frames, timeline(path)
    assert numbers(whole) == list(range(FAR))
    assert len(index) == FAR
    for first in (NEAR + 1, 79, 80, 81, 99, 117, 129):
        assert np.array_equal(read_video(path, first=first).frames, whole[first:])
        assert np.array_equal(read_video(path, first=first, last=first + 3, index=index).frames, whole[first:][:3])
    with pytest.raises(VideoError, match=r"first: want less than 130,.* got 130"):
        read_video(path, first=FAR)


@pytest.mark.parametrize("options", [{"g": "20"}, {"x264-params": "keyint=20:open-gop=1:bframes=3"}])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_reading_far_into_a_video_decodes_few_frames(tmp_path, suffix, options):
    """A beginning that decodes to nothing does not matter there, so it was not decoded."""
    path = encode(tmp_path / f"video{suffix}", numbered(FAR), **options)
    whole = read_video(path).frames
    spoil(path, range(20, 40))
    with pytest.raises(VideoError, match="damaged or incomplete"):
        read_video(path)
    assert np.array_equal(read_video(path, first=100, last=110).frames, whole[100:110])
    assert np.array_equal(read_video(path, first=100, index=timeline(path)).frames, whole[100:])


def spoil(path, numbers):
    """Make some frames of a video undecodable."""
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    content = path.read_bytes()
    for number in numbers:
        content = content.replace(packets[number], packets[number][:4] + bytes(len(packets[number]) - 4), 1)
    path.write_bytes(content)


def test_an_index_with_only_some_key_frames(tmp_path):
    """Every other cue point of a Matroska file made void: decoding starts at the key frame before the one before."""
    path = encode(tmp_path / "video.mkv", numbered(FAR), g="20")
    whole = read_video(path).frames
    spoil(path, range(20, 40))
    content = bytearray(path.read_bytes())
    place, points = content.rindex(bytes.fromhex("1c53bb6b")) + 6, 0  # the element Cues, after its size of two bytes
    while points < FAR // 20 + 1:
        assert content[place] in (0xBF, 0xBB)  # a checksum, then the points
        points += content[place] == 0xBB
        if content[place] == 0xBF or points % 2 == 0:
            content[place] = 0xEC
        place += 2 + (content[place + 1] & 0x7F)
    path.write_bytes(content)
    for first in (80, 99, 105, 119, 120):
        assert np.array_equal(read_video(path, first=first).frames, whole[first:])


def test_wrongly_marked_key_frames(tmp_path):
    """Every frame is marked as one, as careless programs do; the decoder gives nothing until a true one comes."""
    path = encode(tmp_path / "a.mp4", numbered(FAR), codec="libx265", **{"x265-params": "keyint=50:log-level=0"})
    with av.open(str(path)) as file, av.open(str(tmp_path / "b.mkv"), "w") as marked:
        stream = file.streams.video[0]
        copy = marked.add_stream_from_template(stream)
        for packet in file.demux(stream):
            if packet.size:
                packet.stream, packet.is_keyframe = copy, True
                marked.mux(packet)
    assert len(timeline(tmp_path / "b.mkv").keys) == FAR
    whole = read_video(path).frames
    for first in (70, 100, 125):
        assert np.array_equal(read_video(tmp_path / "b.mkv", first=first).frames, whole[first:])


def test_an_edit_list_removes_frames(tmp_path):
    """A cut without re-encoding stores frames that are not shown."""
    path = encode(tmp_path / "whole.mp4", numbered(FAR), g="20")
    whole = read_video(path).frames
    with av.open(str(path)) as file, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = file.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in file.demux(stream):
            if packet.size:
                packet.stream = copy
                packet.pts, packet.dts = packet.pts - 7 * 512, packet.dts - 7 * 512
                cut.mux(packet)
    assert len(timeline(tmp_path / "cut.mp4")) == FAR - 7
    assert np.array_equal(read_video(tmp_path / "cut.mp4").frames, whole[7:])
    assert np.array_equal(read_video(tmp_path / "cut.mp4", first=80).frames, whole[87:])


def test_repeated_times_are_not_used_for_seeking(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(FAR), codec="mjpeg", pixels="yuvj420p")
    whole, index = read_video(path).frames, timeline(path)
    doubtful = [
        timeline_like(index, ticks=index.ticks + 3),
        timeline_like(index, ticks=np.concatenate([index.ticks[:90], index.ticks[90:] + 7])),
        timeline_like(index, exact=False),
    ]
    for wrong in doubtful:
        assert np.array_equal(read_video(path, first=80, last=100, index=wrong).frames, whole[80:100])
    at_once = join([path], tmp_path / "at_once.mkv", spacing=0)
    assert not timeline(at_once).exact
    assert np.array_equal(read_video(at_once, first=80, last=100).frames, whole[80:100])
    assert read_video(at_once, last=3).times_seconds == pytest.approx([0, 0.04, 0.08])  # by the stated rate


def timeline_like(index, **changes):
    settings = ("ticks", "time_base", "keys", "stated_fps", "exact", "complete", "fault")
    return type(index)(**{**{name: getattr(index, name) for name in settings}, **changes})


def test_a_frame_above_the_size_limit_is_not_decoded(tmp_path):
    """Two videos in one stream, of which the second is 30 times as large."""
    small = encode(tmp_path / "small.mkv", numbered(4), codec="mjpeg", pixels="yuvj420p")
    large = encode(tmp_path / "large.mkv", numbered(1, 600, 800), codec="mjpeg", pixels="yuvj420p")
    slightly = encode(tmp_path / "slightly.mkv", numbered(1, 48, 80), codec="mjpeg", pixels="yuvj420p")
    for other, pattern in (
        (slightly, "frame 4 is 80x48, those before it are 64x48"),
        (large, "the first 4 frames are"),
    ):
        both = join([small, other], tmp_path / "both.mkv")
        with pytest.raises(VideoError, match=pattern):
            read_video(both)


TWO_HOURS = 7200
MEMORY = """
import re, sys
from workbench.data.video.timeline import timeline
from workbench.data.video.read import read_video

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

read_video(sys.argv[1])
before = peak()
index = timeline(sys.argv[2])
frames = read_video(sys.argv[2], first=len(index) - 500, last=len(index) - 495, index=index).frames
print(len(index), index.times_seconds[-1], index.fps, peak() - before)
frames.tofile(sys.argv[3])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux tells it")
def test_counting_and_seeking_in_two_hours_needs_little_memory(tmp_path):
    short = encode(tmp_path / "short.mp4", numbered(200), rate=10, g="30")
    long = repeat(short, tmp_path / "long.mp4", TWO_HOURS * 10 // 200)
    output = subprocess.run(
        [sys.executable, "-c", MEMORY, str(short), str(long), str(tmp_path / "frames")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, end, fps, megabytes = map(float, output.stdout.split())
    assert (count, fps) == (TWO_HOURS * 10, 10)
    assert end == pytest.approx(TWO_HOURS - 1 / 10)
    assert megabytes < 50  # 72,000 frames of this size would be 663 MB
    last_minute = np.fromfile(tmp_path / "frames", np.uint8).reshape(-1, 48, 64, 3)
    assert numbers(last_minute) == [100, 101, 102, 103, 104]
    assert np.array_equal(last_minute, read_video(short, first=100, last=105).frames)


# -- damaged files ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.55, 0.7, 0.96])
def test_good_frames_of_a_truncated_file_are_kept_on_request(tmp_path, suffix, share):
    path = encode(tmp_path / f"whole{suffix}", numbered(28, noise=True), g="10")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VideoError, match=r"damaged .*\d+ frames.*on_damage='keep'"):
        read_video(cut)
    kept = read_video(cut, on_damage="keep")
    assert 1 <= len(kept) < 28
    assert numbers(kept.frames) == list(range(len(kept)))
    assert np.array_equal(kept.frames, read_video(path).frames[: len(kept)])
    assert np.array_equal(read_video(cut, last=len(kept)).frames, kept.frames)  # the advice of the message works


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_truncated_near_its_end(tmp_path, suffix):
    path = encode(tmp_path / f"whole{suffix}", numbered(FAR, noise=True), g="20")
    whole, cut = read_video(path).frames, tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
    assert timeline(cut).fault
    assert np.array_equal(read_video(cut, first=70, last=80).frames, whole[70:80])
    with pytest.raises(VideoError, match=r"damaged .* 1\d\d frames"):
        read_video(cut, first=70)
    kept = read_video(cut, first=70, on_damage="keep").frames
    assert 30 < len(kept) < 60
    assert np.array_equal(kept, whole[70 : 70 + len(kept)])


def test_a_file_truncated_anywhere_gives_a_prefix_or_an_error(tmp_path):
    whole = encode(tmp_path / "whole.mp4", numbered(12, noise=True), g="6").read_bytes()
    frames, cut, kept = read_video(tmp_path / "whole.mp4").frames, tmp_path / "cut.mp4", set()
    for size in range(1, len(whole), 499):
        cut.write_bytes(whole[:size])
        with pytest.raises(VideoError):
            read_video(cut)
        try:
            good = read_video(cut, on_damage="keep").frames
        except VideoError:
            continue
        assert np.array_equal(good, frames[: len(good)])
        kept.add(len(good))
    assert len(kept) > 3


def test_an_mp4_without_its_table_of_contents_raises(tmp_path):
    path = encode(tmp_path / "whole.mp4", numbered(10), moov_first=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="table of contents"):
        read_video(path, on_damage="keep")


DAMAGE = Path(__file__).with_name("damage.mp4")
"""Nine frames of H.264 with noise, in three groups; committed, so that its bytes depend on no encoder."""


def reported_frames(path):
    """Decode with PyAV alone: the frames before the first report of FFmpeg, and whether there was one."""
    frames = []
    with av.open(str(path)) as file:
        try:
            for frame in file.decode(video=0):
                if frame.is_corrupt:
                    return frames, True
                frames.append(frame.to_ndarray(format="rgb24"))
        except (av.error.FFmpegError, ValueError):
            return frames, True
    return frames, False


def test_errors_of_the_decoder_are_never_ignored(tmp_path):
    """Overwritten bytes: where FFmpeg reports damage it is raised. Where it reports none, nothing can be known."""
    whole, path, reports = DAMAGE.read_bytes(), tmp_path / "damaged.mp4", []
    begin = whole.index(b"mdat") + 4
    clean = read_video(DAMAGE).frames
    for place in np.linspace(begin, len(whole) - 200, 40).astype(int):
        spoiled = bytes(value ^ 0xFF for value in whole[place : place + 200])
        path.write_bytes(whole[:place] + spoiled + whole[place + 200 :])
        before, reported = reported_frames(path)
        reports.append(reported)
        if not reported:
            assert len(read_video(path)) == len(clean)
            continue
        with pytest.raises(VideoError, match=r"damaged|no frame"):
            read_video(path)
        try:
            kept = len(read_video(path, on_damage="keep"))
        except VideoError:
            kept = 0  # not even the first frame
        assert len(before) <= kept < len(clean)
    assert {True, False} == set(reports)  # so both were tried
