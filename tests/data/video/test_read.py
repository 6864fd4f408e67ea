import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.videos import encode, number_of, numbered, numbers, repeat, write_video
from workbench.data.datasets.samples import sample
from workbench.data.video.decode import Decoding
from workbench.data.video.read import FOLDER_FPS, Conversion, Video, read_clip, read_frames, read_video, stream_video
from workbench.data.video.timeline import timeline
from workbench.errors import ShapeError, VideoError


def test_a_range_of_frames_is_read(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(20))
    assert numbers(read_video(path, first=3, last=6).frames) == [3, 4, 5]
    assert numbers(read_video(path, first=17).frames) == [17, 18, 19]
    assert len(read_video(path, first=18, last=99)) == 2
    with pytest.raises(VideoError, match=r"first: want less than 20,.* got 20"):
        read_video(path, first=20)
    with pytest.raises(VideoError, match="0 <= first < last"):
        read_video(path, first=4, last=4)
    assert numbers(stream_video(path, first=3, last=6)) == [3, 4, 5]


def test_a_stream_yields_the_good_frames_before_it_raises(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(20, noise=True))
    path.write_bytes(path.read_bytes()[:-300])
    seen: list[np.ndarray] = []
    kept = list(stream_video(path, on_damage="keep"))
    with pytest.raises(VideoError, match="damaged or incomplete"):
        seen.extend(stream_video(path))
    assert 0 < len(kept) < 20
    assert np.array_equal(seen, kept)
    assert numbers(seen) == list(range(len(seen)))


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mov", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx-vp9")]
)
def test_frames_do_not_depend_on_the_container(tmp_path, suffix, codec):
    path = encode(tmp_path / f"clip{suffix}", numbered(12), codec=codec)
    assert numbers(read_video(path).frames) == list(range(12))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_rotated_and_mirrored_videos_are_read_upright(tmp_path, degrees, mirror):
    path = encode(tmp_path / "phone.mp4", numbered(2), rotation=degrees, mirror=mirror, aspect="4/3")
    stored = read_video(encode(tmp_path / "plain.mp4", numbered(2))).frames
    turned = np.rot90(stored, degrees // 90, axes=(1, 2))
    video = read_video(path)
    assert np.array_equal(video.frames, turned[:, :, ::-1] if mirror else turned)
    assert video.pixel_aspect == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))


def test_rotations_other_than_quarter_turns_raise(tmp_path):
    path = encode(tmp_path / "phone.mp4", numbered(2), rotation=30)
    with pytest.raises(VideoError, match=r"phone.mp4: .* rotation"):
        read_video(path)


def test_nonsquare_pixels_are_kept_and_reported(tmp_path):
    video = read_video(encode(tmp_path / "dvd.mp4", numbered(2), aspect="16/15"))
    assert (video.width, video.height, video.pixel_aspect) == (64, 48, Fraction(16, 15))
    assert read_video(encode(tmp_path / "plain.mp4", numbered(2))).pixel_aspect == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_times_are_kept(tmp_path, suffix):
    shown = [0, 40, 60, 200, 233, 267, 500, 540]
    video = read_video(encode(tmp_path / f"phone{suffix}", numbered(8), times=shown))
    assert video.times_seconds == pytest.approx(np.array(shown) / 1000, abs=1e-3)
    assert numbers(video.frames) == list(range(8))
    part = read_video(tmp_path / f"phone{suffix}", first=3, last=6)
    assert part.times_seconds == pytest.approx([0, 0.033, 0.067], abs=1e-3)


STREAMED = """
import gc, re, sys
from workbench.data.video.read import stream_video
from workbench.data.video.write import VideoWriter

gc.disable()  # no frame shall wait for it
with VideoWriter(sys.argv[2], fps=25) as writer:
    for number, frame in enumerate(stream_video(sys.argv[1])):
        writer.write(frame[:48, :64])
        if number in (100, 599):
            print(int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux tells it")
def test_memory_does_not_grow_with_the_video(tmp_path):
    short = encode(tmp_path / "short.mp4", numbered(30, 240, 320), g="15")
    long = repeat(short, tmp_path / "long.mp4", 20)
    command = [sys.executable, "-c", STREAMED, str(long), str(tmp_path / "copy.mp4")]
    early, late = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert late - early < 10  # 500 frames are 110 MB


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        read_clip(tmp_path / "nothing.mp4")


def test_an_empty_file_raises(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="the file is empty"):
        read_video(tmp_path / "empty.mp4")


def test_a_device_raises():
    with pytest.raises(VideoError, match="a device"):
        read_video(os.devnull)


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 4096, b"RIFF\x00\x00\x00\x00AVI LIST"])
def test_files_that_are_no_videos_raise(tmp_path, content):
    (tmp_path / "text.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"text.mp4: "):
        read_video(tmp_path / "text.mp4")


def test_an_image_is_no_video(tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match="an image, not a video"):
        read_clip(tmp_path / "a.png")


def test_a_playlist_raises(tmp_path):
    encode(tmp_path / "secret.mp4", numbered(2))
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    for name in ("script.mp4", "list.mp4"):
        with pytest.raises(VideoError, match=f"{name}: a playlist"):
            read_video(tmp_path / name)


def test_a_file_with_audio_alone_raises(tmp_path):
    sound_only(tmp_path / "sound.mp4")
    with pytest.raises(VideoError, match=r"no video .*audio"):
        read_video(tmp_path / "sound.mp4")


def test_audio_with_a_cover_image_raises(tmp_path):
    sound_only(tmp_path / "song.mp4", cover=True)
    with pytest.raises(VideoError, match=r"no video .*cover image, audio"):
        read_video(tmp_path / "song.mp4")


def sound_only(path, cover=False):
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=8000)
        if cover:
            image = file.add_stream("mjpeg", rate=1)
            image.width, image.height, image.pix_fmt = 64, 48, "yuvj420p"
            image.disposition = 0x400  # an attached image
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if cover:
            file.mux(image.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")))
            file.mux(image.encode(None))


def test_unknown_options_raise(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(2))
    with pytest.raises(VideoError, match=r"on_damage: .* got 'drop'"):
        read_video(path, on_damage="drop")
    for name, value in (("assume_matrix", "bt470"), ("deinterlace", "yes"), ("hdr", "sdr")):
        with pytest.raises(VideoError, match=rf"{name}: .* got '{value}'"):
            Conversion(**{name: value})


def test_a_clip_is_a_file_or_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for number, frame in enumerate(numbered(5)):
        Image.fromarray(frame).save(tmp_path / "folder" / f"{number}.png")
    write_video(tmp_path / "file.webm", numbered(5), 12.5)
    for path, fps in ((tmp_path / "folder", FOLDER_FPS), (tmp_path / "file.webm", 12.5)):
        clip = read_clip(path, first=1, last=4)
        assert (numbers(clip.frames), clip.fps) == ([1, 2, 3], fps)
        assert (len(timeline(path)), timeline(path).fps) == (5, fps)
    assert np.array_equal(read_frames(tmp_path / "folder"), read_clip(tmp_path / "file.webm").frames)


def test_a_stream_decodes_no_frames_ahead(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(20, noise=True))
    path.write_bytes(path.read_bytes()[:-300])
    frames = stream_video(path)
    assert number_of(next(frames)) == 0
    frames.close()
    decoding = Decoding(path)
    assert next(decoding.frames()).pts == 0
    assert (decoding.number, decoding.fault, decoding.fps) == (1, None, 25)


def test_a_video_has_frames_and_a_rate():
    with pytest.raises(ShapeError, match="want uint8"):
        Video(np.zeros((0, 4, 4, 3), np.uint8), 25)
    with pytest.raises(ShapeError, match="positive number"):
        Video(numbered(1), 0)
    with pytest.raises(ShapeError, match="want 3 times"):
        Video(numbered(3), 25, np.zeros(2))
    assert (Video(numbered(3), 25).width, Video(numbered(3), 25).height, len(Video(numbered(3), 25))) == (64, 48, 3)


def test_reading_video_needs_no_torch():
    modules = "workbench.data.video.read, workbench.data.video.inspect, workbench.data.datasets.samples"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_real_clip_has_all_frames():
    assert len(sample("carphone")) == 120
