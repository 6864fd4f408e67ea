import sys
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.hostile_videos import NO_VIDEOS, enormous, many, opened_in, points_elsewhere, sizes, wrong_size
from tests.videos import encode, frame_from_planes, join, numbered, with_sound
from workbench.data.video.inspect import Limits, VideoInfo, inspect_video
from workbench.data.video.read import read_video
from workbench.data.video.tracks import Track
from workbench.errors import VideoError


def info_metadata(path):
    with av.open(str(path)) as file:
        return tuple(sorted(file.metadata.items()))


def test_properties_of_a_video(tmp_path):
    path = with_sound(tmp_path / "a.mp4", 30, codec="aac")
    assert inspect_video(path) == VideoInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        bytes=path.stat().st_size,
        width=64,
        height=48,
        frames=30,
        fps=25.0,
        seconds=pytest.approx(1.2),
        constant_rate=True,
        pixel_aspect=Fraction(1),
        bits=8,
        matrix="bt601",
        rotated=False,
        primaries=2,
        transfer=2,
        tracks=(Track(index=1, kind="audio", codec="aac", disposition=("default",)),),
        metadata=info_metadata(path),
    )


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [
        ("a.webm", "libvpx-vp9", "vp9"),
        ("a.mkv", "libx265", "hevc"),
        ("a.avi", "mpeg4", "mpeg4"),
        ("a.mov", "png", "png"),
    ],
)
def test_properties_do_not_depend_on_the_codec(tmp_path, name, codec, said):
    pixels = "rgb24" if codec == "png" else "yuv420p"
    options = {"x265-params": "log-level=0"} if codec == "libx265" else {}
    info = inspect_video(encode(tmp_path / name, numbered(5), codec=codec, pixels=pixels, **options))
    assert (info.codec, info.frames, info.audio) == (said, 5, ())


def test_one_frame(tmp_path):
    info = inspect_video(encode(tmp_path / "a.mp4", numbered(1)))
    assert (info.frames, info.seconds, info.constant_rate) == (1, pytest.approx(0.04), True)


def test_odd_sizes(tmp_path):
    info = inspect_video(encode(tmp_path / "a.webm", numbered(3, 49, 65), codec="libvpx-vp9", pixels="yuv444p"))
    assert (info.width, info.height) == (65, 49)


def test_ten_bits(tmp_path):
    planes = [np.full(size, 512, "<u2") for size in ((48, 64), (24, 32), (24, 32))]
    frames = [frame_from_planes(planes, "yuv420p10le") for _ in range(2)]
    info = inspect_video(encode(tmp_path / "a.mkv", frames, pixels="yuv420p10le", colors=(9, 2)))
    assert (info.bits, info.matrix) == (10, "bt2020")


@pytest.mark.parametrize(("rotation", "mirror"), [(90, False), (-90, True), (180, False), (0, True)])
def test_rotation_of_a_phone_video(tmp_path, rotation, mirror):
    path = encode(tmp_path / "a.mp4", numbered(3), rotation=rotation, mirror=mirror, aspect="4/3")
    info, video = inspect_video(path), read_video(path)
    assert (info.width, info.height) == (video.width, video.height) == ((48, 64) if rotation % 180 else (64, 48))
    assert info.pixel_aspect == video.pixel_aspect == (Fraction(3, 4) if rotation % 180 else Fraction(4, 3))
    assert info.rotated
    assert inspect_video(encode(tmp_path / "b.mp4", numbered(3))).rotated is False


def test_videos_with_all_frames_at_one_time(tmp_path):
    """Nothing sensible can be said of such a clip but how many frames it has."""
    clip = encode(tmp_path / "clip.mkv", numbered(5), codec="mjpeg", pixels="yuvj420p")
    info = inspect_video(join([clip], tmp_path / "a.mkv", spacing=0))
    assert (info.frames, info.fps) == (5, 25)


def test_uneven_times(tmp_path):
    info = inspect_video(encode(tmp_path / "a.mkv", numbered(5), times=[0, 40, 60, 700, 900]))
    assert not info.constant_rate
    assert info.seconds == pytest.approx(0.9, abs=0.3)


@pytest.mark.parametrize(
    ("limits", "pattern"),
    [
        (Limits(bytes=1000), r"MB; up to 0 MB are taken, send a part of it"),
        (
            Limits(side=50),
            r"64x48; up to 2.1 million pixels a frame are taken, and 50 to a side: send a smaller version",
        ),
        (Limits(pixels=3000), r"64x48; up to 0.0 million pixels"),
        (Limits(frames=29), r"more than 29 frames; send a part of it"),
        (Limits(seconds=1.0), r"1 seconds; up to 1 are taken"),
    ],
)
def test_videos_beyond_the_limits_raise(tmp_path, limits, pattern):
    path = encode(tmp_path / "a.mp4", numbered(30))
    with pytest.raises(VideoError, match=rf"a.mp4: .*{pattern}"):
        inspect_video(path, limits)
    assert inspect_video(path, Limits(side=64, pixels=64 * 48, frames=30, seconds=1.2)).frames == 30


def test_too_many_frames_in_a_small_file_raise(tmp_path):
    many(tmp_path)
    with pytest.raises(VideoError, match="more than 600 frames"):
        inspect_video(tmp_path / "a.mp4")
    assert inspect_video(tmp_path / "a.mp4", Limits(frames=10_000)).frames == 10_000


@pytest.mark.parametrize("make", [enormous, wrong_size])
def test_too_large_frames_raise(make, tmp_path):
    (tmp_path / "a.mp4").write_bytes(make(tmp_path))
    with pytest.raises(VideoError, match=r"a.mp4: 8192x4320; .*2.1 million pixels"):
        inspect_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("kind", NO_VIDEOS)
def test_files_that_are_no_videos_raise(tmp_path, kind):
    """And nothing but the file itself is opened to find out."""
    content, message = NO_VIDEOS[kind]
    encode(tmp_path / "secret.mp4", numbered(2))
    path = tmp_path / "clip.mp4"
    path.write_bytes(content.replace(b"{folder}", str(tmp_path).encode()))
    with opened_in(tmp_path) as seen, pytest.raises(VideoError, match=rf"clip.mp4: .*{message}"):
        inspect_video(path)
    assert seen <= {"clip.mp4"}


def test_a_video_never_opens_another_file(tmp_path):
    """QuickTime can keep the images in a second file and name it."""
    encode(tmp_path / "secret.mp4", numbered(4))
    path = tmp_path / "clip.mov"
    path.write_bytes(points_elsewhere(tmp_path))
    with opened_in(tmp_path) as seen, suppress(VideoError):
        inspect_video(path)
    assert seen <= {"clip.mov"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches files as Linux can")
def test_opened_files_are_recorded(tmp_path):
    encode(tmp_path / "secret.mp4", numbered(2))
    (tmp_path / "clip.mp4").write_bytes(NO_VIDEOS["concat"][0])
    with opened_in(tmp_path) as seen, av.open(str(tmp_path / "clip.mp4")) as file:
        assert file.format.name == "concat"  # without the whitelist the other file is opened
    assert seen == {"clip.mp4", "secret.mp4"}


def test_missing_files_and_files_without_video_raise(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        inspect_video(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="a folder"):
        inspect_video(tmp_path)
    path = with_sound(tmp_path / "a.mkv", 10, codec="aac")
    with av.open(str(path)) as file, av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as sound:
        copy = sound.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(audio=0):
            if packet.size:
                packet.stream = copy
                sound.mux(packet)
    with pytest.raises(VideoError, match=r"no video.* audio"):
        inspect_video(tmp_path / "sound.m4a")


def test_a_video_without_frames_raises(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            file.start_encoding()
        with pytest.raises(VideoError, match=rf"{name}: "):
            inspect_video(tmp_path / name)


def test_an_unsupported_codec_raises(tmp_path):
    path = encode(tmp_path / "a.avi", numbered(3), codec="snow", pixels="yuv420p", strict="experimental")
    with pytest.raises(VideoError, match=r"a.avi: .*(Snow|coding)"):
        inspect_video(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_truncated_file_raises(tmp_path, suffix):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = encode(tmp_path / f"a{suffix}", numbered(30, noise=True), codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match="damaged or incomplete"):
        inspect_video(path)


def test_frames_of_different_sizes_raise(tmp_path):
    (tmp_path / "a.mkv").write_bytes(sizes(tmp_path))
    with pytest.raises(VideoError, match="64x48, 80x48"):
        inspect_video(tmp_path / "a.mkv")


def test_a_first_frame_of_garbage_raises(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered(8, noise=True), g="4")
    with av.open(str(path)) as file:
        packet = next(file.demux(video=0))
        start, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[start + 4 : start + size] = b"\xff" * (size - 4)
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a.mp4: .*(decoded|garbage)"):
        inspect_video(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_flipped_bits_give_a_result_or_a_video_error(tmp_path, suffix):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    whole = encode(tmp_path / f"a{suffix}", numbered(6), codec=codec).read_bytes()
    path, taken, refused = tmp_path / f"b{suffix}", [], []
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for position in rng.integers(0, len(broken), rng.integers(1, 4)):
            broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            info = inspect_video(path)
        except VideoError as error:
            refused.append(str(error))
        else:
            taken.append(info)
    assert min(len(taken), len(refused)) > 10
    assert all(str(path) in message for message in refused)
    assert all(0 < info.width <= 4096 and 0 < info.frames <= 600 and info.seconds <= 60 for info in taken)
