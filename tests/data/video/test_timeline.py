from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from tests.videos import encode, numbered
from workbench.data.video.container import opened
from workbench.data.video.decode import Decoding
from workbench.data.video.timeline import REORDER, scan, timeline
from workbench.errors import VideoError


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_the_timeline_equals_decoding(tmp_path, name, codec):
    path = encode(tmp_path / name, numbered(50), codec=codec, g="12")
    found = timeline(path)
    shown = [frame.pts for frame in Decoding(path).frames()]
    assert found.ticks.tolist() == shown
    assert found.ticks.dtype == np.int64
    assert (len(found), found.fps, found.constant, found.exact, found.fault) == (50, 25, True, True, None)
    assert found.times_seconds == pytest.approx(np.arange(50) / 25, abs=1e-3)
    assert found.keys[0].tolist() == [0, 0]
    assert len(found.keys) >= 5


def test_key_frames_by_hand(tmp_path):
    """Closed groups of twelve, so as many packets as frames lie before each key frame."""
    found = timeline(encode(tmp_path / "a.mp4", numbered(50), g="12"))
    assert found.keys.tolist() == [[number, number] for number in (0, 12, 24, 36, 48)]
    assert [found.key_before(number) for number in (0, 11, 12, 49)] == [(0, 0), (0, 0), (12, 12), (48, 48)]


def test_frames_of_open_groups_before_their_key_frame_are_kept(tmp_path):
    found = timeline(encode(tmp_path / "a.mp4", numbered(60), **{"x264-params": "keyint=12:open-gop=1:bframes=3"}))
    numbers, stored_before = found.keys.T
    assert (numbers[1:] > stored_before[1:]).all()


@pytest.mark.parametrize(("rate", "fps"), [(24, 24.0), (Fraction(30000, 1001), 30000 / 1001), (60, 60.0)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frame_rates_are_exact_with_a_coarse_clock(tmp_path, suffix, rate, fps):
    """Matroska counts milliseconds."""
    found = timeline(encode(tmp_path / f"a{suffix}", numbered(40), rate=rate))
    assert found.fps == pytest.approx(fps, rel=1e-9)
    assert found.constant


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_timeline_of_variable_frame_times(tmp_path, suffix):
    shown = [0, 30, 60, 500, 520, 560, 1900, 2000]
    found = timeline(encode(tmp_path / f"a{suffix}", numbered(8), times=shown))
    assert found.times_seconds == pytest.approx(np.array(shown) / 1000, abs=1e-3)
    assert found.fps == pytest.approx(7 / 2, rel=0.15)  # eight frames in two seconds, the last of unknown length
    assert not found.constant


def test_jittered_times_have_a_constant_rate(tmp_path):
    jitter = np.random.default_rng(0).integers(-8, 9, 30)
    found = timeline(encode(tmp_path / "a.mp4", numbered(30), times=(np.arange(30) * 40 + 20 + jitter).tolist()))
    assert found.constant


def test_one_frame(tmp_path):
    found = timeline(encode(tmp_path / "a.mp4", numbered(1)))
    assert (len(found), found.fps, found.constant, found.times_seconds.tolist()) == (1, 25, True, [0])


def test_hidden_frames_of_vp8_are_not_counted(tmp_path):
    """RFC 6386, 9.1: the fifth lowest bit of a frame's first byte says whether it is shown."""
    path = encode(tmp_path / "a.webm", numbered(20), codec="libvpx", **{"cpu-used": "8"})
    with opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        at, size = packets[7].pos, packets[7].size
    content = bytearray(path.read_bytes())
    start = content.index(bytes(packets[7]), at)
    content[start] &= ~0x10
    path.write_bytes(content)
    assert size == packets[7].size
    assert len(timeline(path)) == 19
    assert sum(1 for _ in Decoding(path).frames()) == 19


def test_the_timeline_of_the_first_frames(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered(100), g="12", bf="3")
    whole = timeline(path)
    with opened(path) as (container, stream):
        part = scan(container, stream, frames=30)
    assert part.ticks.tolist() == whole.ticks[:30].tolist()
    assert part.keys.tolist() == whole.keys[whole.keys[:, 0] < 30].tolist()
    assert not part.complete
    with opened(path) as (container, stream):
        everything = scan(container, stream, frames=100 - REORDER + 1)
    assert everything.complete
    assert len(everything) == 100


def test_a_folder_has_the_default_frame_rate(tmp_path):
    for number in range(3):
        Image.fromarray(numbered(1)[0]).save(tmp_path / f"{number}.png")
    found = timeline(tmp_path)
    assert (len(found), found.fps, found.constant) == (3, 25, True)
    assert found.times_seconds == pytest.approx([0, 0.04, 0.08])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_timeline_of_a_truncated_video_has_its_fault(tmp_path, suffix):
    path = encode(tmp_path / f"a{suffix}", numbered(40, noise=True), g="12")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found = timeline(path)
    assert found.fault in ("a frame is truncated", "the file ends before its last frame")
    assert 10 < len(found) < 40


def test_files_that_are_no_videos_raise(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        timeline(tmp_path / "nothing.mp4")
    with pytest.raises(VideoError, match=r"\.png"):
        timeline(tmp_path)
