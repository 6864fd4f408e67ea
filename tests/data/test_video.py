import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from workbench.data.samples import sample
from workbench.data.video import FOLDER_FPS, Video, read_clip, read_frames, read_video, stream_video, write_video
from workbench.errors import ShapeError, VideoError


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that carry their number as so many white blocks on dark grey."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for number in range(count):
        for block in range(number + 1):
            frames[number, 8 * (block // 6) : 8 * (block // 6) + 6, 10 * (block % 6) : 10 * (block % 6) + 8] = 230
    return frames


def number_of(frame: np.ndarray) -> int:
    return (
        sum(
            int(frame[8 * row + 1 : 8 * row + 5, 10 * column + 2 : 10 * column + 6].mean() > 135)
            for row in range(5)
            for column in range(6)
        )
        - 1
    )


def numbers(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def encode(path, frames, *, container="matroska", moov_first=True, codec="libx264", rotation=0, **options):
    """A file as strangers make them: B-frames, several groups of pictures."""
    flags = {"movflags": "+faststart"} if moov_first and container == "mp4" else {}
    with av.open(str(path), "w", format=container, options=flags) as file:
        stream = file.add_stream(codec, rate=25, options={"crf": "10", **options} if codec == "libx264" else options)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def test_seven_frames_in_seven_out_in_order(tmp_path):
    write_video(tmp_path / "seven.mp4", numbered(7), 25)
    video = read_video(tmp_path / "seven.mp4")
    assert numbers(video.frames) == [0, 1, 2, 3, 4, 5, 6]
    assert video.fps == 25
    assert [path.name for path in tmp_path.iterdir()] == ["seven.mp4"]


@pytest.mark.parametrize("fps", [23.976, 30000 / 1001, 12.5, 60])
def test_the_rate_survives(tmp_path, fps):
    write_video(tmp_path / "clip.mp4", numbered(3), fps)
    assert read_video(tmp_path / "clip.mp4").fps == pytest.approx(fps, rel=1e-4)


def test_colours_survive_the_preview(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 64, 32)]
    frames = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    write_video(tmp_path / "colours.mp4", frames, 5)
    seen = read_video(tmp_path / "colours.mp4").frames[:, 16, 16].astype(int)
    assert np.abs(seen - colours).max() <= 4
    with av.open(str(tmp_path / "colours.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.colorspace, stream.codec_context.pix_fmt) == (1, "yuv420p")  # marked BT.709


def test_odd_sizes_gain_a_repeated_row_and_column(tmp_path):
    frames = np.zeros((2, 35, 61, 3), np.uint8)
    frames[:, :, -1] = frames[:, -1] = 200
    write_video(tmp_path / "odd.mp4", frames, 25)
    video = read_video(tmp_path / "odd.mp4")
    assert (video.width, video.height) == (62, 36)
    assert video.frames[:, -1].mean() == pytest.approx(200, abs=6)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, numbered(2), 25)
    before = path.read_bytes()

    def frames():
        yield from numbered(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames(), 25)
    with pytest.raises(ShapeError, match="frame 1: want 64x48 like the first frame, got 60x48"):
        write_video(path, [numbered(1)[0], numbered(1)[0, :, :60]], 25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "frames", "fps", "error", "says"),
    [
        ("a.mp4", [], 25, VideoError, "no frames to write"),
        ("a.mkv", numbered(1), 25, VideoError, "ends in .mp4"),
        ("a.mp4", numbered(1), 0, VideoError, "positive number"),
        ("a.mp4", numbered(1) / 255, 25, ShapeError, "want uint8"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, frames, fps, error, says):
    with pytest.raises(error, match=says):
        write_video(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


def test_a_range_of_frames(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(20))
    assert numbers(read_video(path, first=3, last=6).frames) == [3, 4, 5]
    assert numbers(read_video(path, first=17).frames) == [17, 18, 19]
    assert len(read_video(path, first=18, last=99)) == 2
    with pytest.raises(VideoError, match="has 20 frames, so there is none from frame 20"):
        read_video(path, first=20)
    with pytest.raises(VideoError, match="0 <= first < last"):
        read_video(path, first=4, last=4)
    assert [number_of(frame) for frame in stream_video(path, first=3, last=6)] == [3, 4, 5]


def test_a_stream_gives_the_good_frames_before_it_says_what_is_wrong(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(20))
    path.write_bytes(path.read_bytes()[:-300])
    seen: list[np.ndarray] = []
    kept = list(stream_video(path, on_damage="keep"))
    with pytest.raises(VideoError, match="damaged or not whole"):
        seen.extend(stream_video(path))
    assert 0 < len(kept) < 20
    assert np.array_equal(seen, kept)
    assert numbers(np.stack(seen)) == list(range(len(seen)))


@pytest.mark.parametrize(
    ("suffix", "container", "codec"),
    [(".mp4", "mp4", "libx264"), (".mov", "mov", "libx264"), (".avi", "avi", "mpeg4"), (".webm", "webm", "libvpx-vp9")],
)
def test_containers(tmp_path, suffix, container, codec):
    path = encode(tmp_path / f"clip{suffix}", numbered(12), container=container, codec=codec)
    assert numbers(read_video(path).frames) == list(range(12))


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_clip_stored_lying_down_comes_out_upright(tmp_path, degrees):
    path = encode(tmp_path / "phone.mp4", numbered(4), container="mp4", rotation=degrees)
    stored = read_video(encode(tmp_path / "plain.mp4", numbered(4), container="mp4")).frames
    assert np.array_equal(read_video(path).frames, np.rot90(stored, degrees // 90, axes=(1, 2)))


# What is not a video


def test_a_missing_file(tmp_path):
    with pytest.raises(VideoError, match="no such file; give a video file, a folder"):
        read_clip(tmp_path / "nothing.mp4")


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="the file is empty"):
        read_video(tmp_path / "empty.mp4")


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 4096, b"RIFF\x00\x00\x00\x00AVI LIST"])
def test_not_a_video(tmp_path, content):
    (tmp_path / "text.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"text.mp4: "):
        read_video(tmp_path / "text.mp4")


def test_a_picture_is_not_a_video(tmp_path):
    Image.fromarray(numbered(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match="a picture, not a video; give the folder"):
        read_clip(tmp_path / "a.png")


def test_a_script_that_names_another_file_is_refused(tmp_path):
    encode(tmp_path / "secret.mp4", numbered(2), container="mp4")
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    for name in ("script.mp4", "list.mp4"):
        with pytest.raises(VideoError, match="not a video that can be read"):
            read_video(tmp_path / name)


def test_sound_only(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video in this file, only audio"):
        read_video(tmp_path / "sound.mp4")


# Damaged files


@pytest.mark.parametrize(("container", "suffix"), [("mp4", ".mp4"), ("matroska", ".mkv")])
@pytest.mark.parametrize("share", [0.55, 0.7, 0.96])
def test_a_truncated_file_keeps_its_good_frames_only_if_asked(tmp_path, container, suffix, share):
    path = encode(tmp_path / f"whole{suffix}", numbered(28), container=container, g="10")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VideoError, match=r"damaged or not whole .* the first \d+ frames are good; .*on_damage='keep'"):
        read_video(cut)
    kept = read_video(cut, on_damage="keep")
    assert 1 <= len(kept) < 28
    assert numbers(kept.frames) == list(range(len(kept)))
    assert np.array_equal(kept.frames, read_video(path).frames[: len(kept)])
    assert np.array_equal(read_video(cut, last=len(kept)).frames, kept.frames)  # the advice of the message works


def test_every_cut_of_a_file_is_a_whole_prefix_or_an_error(tmp_path):
    whole = encode(tmp_path / "whole.mp4", numbered(12), container="mp4", g="6").read_bytes()
    frames, cut, kept = read_video(tmp_path / "whole.mp4").frames, tmp_path / "cut.mp4", set()
    for size in range(1, len(whole), 97):
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


def test_an_mp4_without_its_table_of_contents(tmp_path):
    path = encode(tmp_path / "whole.mp4", numbered(10), container="mp4", moov_first=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="lost its table of contents"):
        read_video(path, on_damage="keep")


def test_a_scribbled_over_file_never_yields_garbage(tmp_path):
    path = encode(tmp_path / "whole.mp4", numbered(28), container="mp4", g="10")
    whole, frames = bytearray(path.read_bytes()), read_video(path).frames
    middle = len(whole) * 2 // 3
    whole[middle : middle + 200] = bytes(value ^ 0xFF for value in whole[middle : middle + 200])
    path.write_bytes(whole)
    with pytest.raises(VideoError, match="damaged or not whole"):
        read_video(path)
    kept = read_video(path, on_damage="keep").frames
    assert 1 <= len(kept) < 28
    assert np.array_equal(kept, frames[: len(kept)])


# Folders


def save(folder, names, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def test_pictures_come_in_natural_order(tmp_path):
    save(tmp_path / "clip", [f"im{n}.png" for n in (0, 1, 2, 9, 10, 11)], numbered(6))
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    (tmp_path / "clip" / ".im3.png").write_text("not a frame either")
    frames = read_frames(tmp_path / "clip")
    assert np.array_equal(frames, numbered(6))
    assert np.array_equal(read_frames(tmp_path / "clip", first=2, last=4), numbered(6)[2:4])
    assert read_clip(tmp_path / "clip").fps == FOLDER_FPS


@pytest.mark.parametrize(("suffix", "exact"), [("png", True), ("bmp", True), ("webp", False), ("jpg", False)])
def test_kinds_of_pictures(tmp_path, suffix, exact):
    frames = read_frames(save(tmp_path, [f"{n}.{suffix.upper()}" for n in range(3)], numbered(3)))
    assert np.array_equal(frames, numbered(3)) if exact else numbers(frames) == [0, 1, 2]


def test_grey_and_transparent_pictures_become_rgb(tmp_path):
    Image.fromarray(numbered(1)[0]).convert("L").save(tmp_path / "0.png")
    Image.fromarray(numbered(1)[0]).convert("RGBA").save(tmp_path / "1.png")
    assert np.array_equal(*read_frames(tmp_path))


def test_folders_that_are_not_a_clip(tmp_path):
    with pytest.raises(VideoError, match="no such folder"):
        read_frames(tmp_path / "nothing")
    with pytest.raises(VideoError, match=r"no pictures there; want files ending in .png"):
        read_clip(tmp_path)
    save(tmp_path / "mixed", ["0.png", "1.png"], [numbered(1)[0], numbered(1)[0, :, :60]])
    with pytest.raises(VideoError, match=r"1.png: 60x48, but the pictures before it are 64x48"):
        read_frames(tmp_path / "mixed")
    with pytest.raises(VideoError, match="has 2 frames"):
        read_frames(tmp_path / "mixed", first=2)


def test_pictures_that_cannot_be_read(tmp_path):
    save(tmp_path / "cut", ["0.png"], numbered(1))
    whole = (tmp_path / "cut" / "0.png").read_bytes()
    (tmp_path / "cut" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match=r"0.png: not a picture that can be read"):
        read_frames(tmp_path / "cut")
    save(tmp_path / "deep", ["0.png"], [np.zeros((8, 8), np.uint16)])
    with pytest.raises(VideoError, match="more than 8 bits"):
        read_frames(tmp_path / "deep")


def test_a_video_has_frames_and_a_rate():
    with pytest.raises(ShapeError, match="want uint8"):
        Video(np.zeros((0, 4, 4, 3), np.uint8), 25)
    with pytest.raises(ShapeError, match="positive number"):
        Video(numbered(1), 0)
    assert (Video(numbered(3), 25).width, Video(numbered(3), 25).height, len(Video(numbered(3), 25))) == (64, 48, 3)


def test_reading_video_needs_no_torch():
    code = "import sys, workbench.data.video, workbench.data.samples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_real_clip_is_whole():
    assert len(sample("carphone")) == 120
