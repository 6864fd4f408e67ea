import os
import signal
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.videos import numbered, numbers, sound_packets, with_sound, write_video
from workbench.data.video import write as writing
from workbench.data.video.frame_folder import read_frames
from workbench.data.video.read import read_video
from workbench.data.video.timeline import timeline
from workbench.data.video.write import VideoWriter, open_writer
from workbench.data.video.write_frames import FrameFolderWriter
from workbench.errors import ShapeError, VideoError

NOISE = np.random.default_rng(0).integers(0, 256, (5, 35, 61, 3), dtype=np.uint8)


def seven(kind, path):
    """Seven numbered frames, in every kind of file."""
    with open_writer(path / kind, fps=25) as writer:
        for frame in numbered(7):
            writer.write(frame)
    return path / kind


@pytest.mark.parametrize("kind", ["seven.mp4", "seven.webm", "SEVEN.MP4"])
def test_a_written_video_has_all_frames_in_order(tmp_path, kind):
    video = read_video(seven(kind, tmp_path))
    assert numbers(video.frames) == [0, 1, 2, 3, 4, 5, 6]
    assert video.fps == 25
    assert [path.name for path in tmp_path.iterdir()] == [kind]


def test_frames_are_written_as_images(tmp_path):
    frames = read_frames(seven("folder", tmp_path))
    assert np.array_equal(frames, numbered(7))
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [f"0000000{n}.png" for n in range(7)]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("fps", [23.976, 30000 / 1001, 12.5, 60])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_frame_rate_is_kept(tmp_path, fps, suffix):
    write_video(tmp_path / f"clip{suffix}", numbered(3), fps)
    assert read_video(tmp_path / f"clip{suffix}").fps == pytest.approx(fps, rel=1e-4)


# -- the preview -----------------------------------------------------------------------------------------------------
def test_colors_are_kept_in_a_preview(tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 64, 32)]
    frames = np.stack([np.full((32, 32, 3), color, np.uint8) for color in colors])
    write_video(tmp_path / "colors.mp4", frames, 5)
    seen = read_video(tmp_path / "colors.mp4").frames[:, 16, 16].astype(int)
    assert np.abs(seen - colors).max() <= 3
    with av.open(str(tmp_path / "colors.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")  # marked BT.709


def test_odd_sizes_are_padded_by_a_repeated_row_and_column(tmp_path):
    frames = np.zeros((2, 35, 61, 3), np.uint8)
    frames[:, :, -1] = frames[:, -1] = 200
    write_video(tmp_path / "odd.mp4", frames, 25)
    video = read_video(tmp_path / "odd.mp4")
    assert (video.width, video.height) == (62, 36)
    assert video.frames[:, -1].mean() == pytest.approx(200, abs=6)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3)])
def test_the_smallest_images(tmp_path, size):
    frames = np.full((2, *size, 3), 90, np.uint8)
    write_video(tmp_path / "a.mp4", frames, 25)
    assert read_video(tmp_path / "a.mp4").frames.mean() == pytest.approx(90, abs=3)
    write_video(tmp_path / "a.webm", frames, 25)
    assert np.array_equal(read_video(tmp_path / "a.webm").frames, frames)


# -- what is lossless ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["noise.webm", "noise"])
def test_lossless_frames_are_read_unchanged(tmp_path, kind):
    """Noise, saturated colors and every level; odd in both directions."""
    frames = NOISE.copy()
    frames[0, ::2], frames[1, :, ::2] = (255, 0, 0), (0, 0, 255)
    frames[2].reshape(-1)[:256] = np.arange(256)
    with open_writer(tmp_path / kind, fps=25) as writer:
        for frame in frames:
            writer.write(frame)
    seen = read_video(tmp_path / kind).frames if kind.endswith("webm") else read_frames(tmp_path / kind)
    assert np.array_equal(seen, frames)


# -- times -----------------------------------------------------------------------------------------------------------
def write_at(path, times):
    with VideoWriter(path, fps=25) as writer:
        for frame, seconds in zip(numbered(len(times)), times, strict=True):
            writer.write(frame, seconds)


@pytest.mark.parametrize(("suffix", "error"), [(".mp4", 1 / 180_000), (".webm", 0.0006)])
def test_variable_frame_times_are_kept(tmp_path, suffix, error):
    shown = np.array([0, 0.04, 0.05, 0.3, 1 / 3, 0.9, 2.0])
    write_at(tmp_path / f"clip{suffix}", shown)
    video = read_video(tmp_path / f"clip{suffix}")
    assert numbers(video.frames) == list(range(7))
    assert np.abs(video.times_seconds - shown).max() <= error + 1e-9
    assert not timeline(tmp_path / f"clip{suffix}").constant


@pytest.mark.parametrize(
    ("times", "pattern"),
    [
        ((0.0, 0.0), "frame 1: start: .*got 0.0 s"),
        ((0.5, 0.2), "frame 1: start: .*got 0.2 s"),
        ((0.0, None), "frame 1: want the time of every frame or of none"),
        ((None, 0.1), "frame 1: want the time of every frame or of none"),
        ((-1.0, 0.1), "frame 0: start: .*got -1.0 s"),
        ((float("nan"), 0.1), "frame 0: start: .*got nan s"),
    ],
)
def test_invalid_times_raise(tmp_path, times, pattern):
    with pytest.raises(VideoError, match=pattern):
        write_at(tmp_path / "a.mp4", times)
    assert not list(tmp_path.iterdir())


# -- sound -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "codec", "video", "target"),
    [
        ("a.mp4", "aac", "libx264", "b.mp4"),
        ("a.mkv", "aac", "libx264", "b.mp4"),
        ("a.mkv", "libmp3lame", "libx264", "b.mp4"),
        ("a.webm", "libopus", "libvpx-vp9", "b.webm"),
        ("a.mkv", "flac", "libx264", "b.mp4"),
    ],
)
def test_audio_is_copied_unchanged(tmp_path, source, codec, video, target):
    with_sound(tmp_path / source, 40, codec=codec, video=video)
    with VideoWriter(tmp_path / target, fps=25, tracks_from=tmp_path / source, tracks=[1]) as writer:
        for frame in numbered(40):
            writer.write(frame)
    before, after = sound_packets(tmp_path / source), sound_packets(tmp_path / target)
    assert len(before) > 10
    assert [content for content, _ in after] == [content for content, _ in before]
    assert [at for _, at in after] == pytest.approx([at for _, at in before], abs=1e-4)
    assert numbers(read_video(tmp_path / target).frames) == list(range(40))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, target])


def test_audio_keeps_its_own_clock(tmp_path):
    """Streams that all begin at half a second: the file begins there, and so does the output."""
    with_sound(tmp_path / "a.mkv", 40, codec="flac")
    with av.open(str(tmp_path / "a.mkv")) as file, av.open(str(tmp_path / "late.mkv"), "w") as late:
        copies = {stream.index: late.add_stream_from_template(stream) for stream in file.streams}
        for packet in file.demux():
            if packet.size:
                shift = round(Fraction(1, 2) / packet.time_base)
                packet.pts += shift
                packet.dts = None if packet.dts is None else packet.dts + shift
                packet.stream = copies[packet.stream.index]
                late.mux(packet)
    with VideoWriter(tmp_path / "b.mp4", fps=25, tracks_from=tmp_path / "late.mkv", tracks=[1]) as writer:
        for frame in numbered(40):
            writer.write(frame)
    assert sound_packets(tmp_path / "late.mkv")[0][1] == pytest.approx(0.5)
    assert sound_packets(tmp_path / "b.mp4")[0][1] == pytest.approx(0, abs=1e-3)


def test_audio_that_cannot_be_copied_raises(tmp_path):
    with pytest.raises(VideoError, match=r"none.mp4: no such file"):
        VideoWriter(tmp_path / "b.mp4", fps=25, tracks_from=tmp_path / "none.mp4")
    assert not any(tmp_path.iterdir())


def test_a_silent_video_stays_silent(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), 25)
    with VideoWriter(tmp_path / "b.mp4", fps=25, tracks_from=tmp_path / "a.mp4") as writer:
        writer.write(numbered(1)[0])
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert [stream.type for stream in file.streams] == ["video"]


# -- nothing half-written --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["clip.mp4", "clip.webm"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, kind):
    path = tmp_path / kind
    write_video(path, numbered(2), 25)
    before = path.read_bytes()

    def frames():
        yield from numbered(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames(), 25)
    with pytest.raises(ShapeError, match=r"frame 1: want 64x48.* got 60x48"):
        write_video(path, [numbered(1)[0], numbered(1)[0, :, :60]], 25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "frames", "fps", "error", "pattern"),
    [
        ("a.mp4", [], 25, VideoError, "no frames to write"),
        ("a.webm", [], 25, VideoError, "no frames to write"),
        ("a.avi", numbered(1), 25, VideoError, r"ends in .mp4 or .mkv \(preview, lossy\) or .webm \(lossless\)"),
        ("a.mp4", numbered(1), 0, VideoError, "positive number"),
        ("a.mp4", numbered(1) / 255, 25, ShapeError, "want uint8"),
        ("nowhere/a.mp4", numbered(1), 25, VideoError, r"a.mp4: cannot be written \(No such file.*folder exists"),
    ],
)
def test_invalid_frames_and_names_raise(tmp_path, name, frames, fps, error, pattern):
    with pytest.raises(error, match=pattern):
        write_video(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


def write_images(path, frames):
    with FrameFolderWriter(path) as writer:
        for frame in frames:
            writer.write(frame)


def test_images_that_cannot_be_written_raise(tmp_path):
    with pytest.raises(VideoError, match="no frames to write"):
        write_images(tmp_path / "none", [])
    with pytest.raises(ShapeError, match="frame 1: want 64x48"):
        write_images(tmp_path / "mixed", [numbered(1)[0], numbered(1)[0, :, :60]])
    with pytest.raises(VideoError, match=r"clip: .*No such file"):
        FrameFolderWriter(tmp_path / "nowhere" / "clip")
    assert not list(tmp_path.iterdir())
    (tmp_path / "taken").mkdir()
    write_images(tmp_path / "taken", numbered(1))  # it was empty
    with pytest.raises(VideoError, match="taken: exists already"):
        open_writer(tmp_path / "taken", fps=25)
    assert len(list((tmp_path / "taken").iterdir())) == 1


@pytest.mark.parametrize("kind", ["clip.mp4", "clip.webm", "clip"])
def test_a_folder_without_write_permission_raises(tmp_path, kind):
    """A file where the folder should be: that stops root too, whom permissions do not."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(VideoError, match="cannot be written"):
        open_writer(tmp_path / "file" / kind, fps=25)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop root")
@pytest.mark.parametrize("kind", ["clip.mp4", "clip.webm", "clip"])
def test_a_read_only_folder_raises(tmp_path, kind):
    tmp_path.chmod(0o500)
    with pytest.raises(VideoError, match="Permission denied"):
        open_writer(tmp_path / kind, fps=25)
    tmp_path.chmod(0o700)


FULL = """
import os, resource, signal, sys
import numpy as np
from workbench.data.video.write import open_writer
from workbench.errors import VideoError

noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for name in ("clip.mp4", "clip.webm", "clip"):
    with open_writer(name, fps=25) as writer:
        for frame in noise:
            writer.write(frame)
    size = os.path.getsize(name if "." in name else "clip/00000000.png")
    os.rename(name, "whole_" + name)
    for limit in (size - 1, size // 2, 200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            with open_writer(name, fps=25) as writer:
                for frame in noise:
                    writer.write(frame)
        except VideoError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit as POSIX does")
def test_a_full_disk_raises(tmp_path):
    """The system refuses to write on, at the last byte, in the middle and at once: what a full disk does."""
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == 9
    assert all("cannot be written (File too large); partial output is removed" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole_clip", "whole_clip.mp4", "whole_clip.webm"]


@pytest.mark.parametrize("kind", ["clip.mp4", "clip.webm", "clip"])
def test_a_disk_that_is_full_at_the_end_raises(tmp_path, monkeypatch, kind):
    def full(_source, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(VideoError, match="No space left on device"):
        seven(kind, tmp_path)
    assert not list(tmp_path.iterdir())


KILLED = """
import sys, time
import numpy as np
from workbench.data.video.write import open_writer

with open_writer(sys.argv[1], fps=25) as writer:
    for number in range(1000):
        writer.write(np.full((48, 64, 3), number % 256, np.uint8))
        if number == 100:
            print("begun", flush=True)
            time.sleep(60)
"""


@pytest.mark.posix
@pytest.mark.parametrize("kind", ["clip.mp4", "clip"])
def test_a_killed_process_leaves_hidden_files_only(tmp_path, kind):
    if kind.endswith("mp4"):
        write_video(tmp_path / kind, numbered(2), 25)
    before = sorted(path.name for path in tmp_path.iterdir())
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / kind)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == b"begun"
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*before, f".{kind}.{process.pid}.partial"])
    if before:
        assert numbers(read_video(tmp_path / kind).frames) == [0, 1]


def test_frames_are_written_as_they_arrive(tmp_path):
    """While frames are written they go to the disk; they are not collected first."""
    with VideoWriter(tmp_path / "a.webm", fps=5) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (90, 48, 64, 3), dtype=np.uint8):
            writer.write(frame)
        (partial,) = tmp_path.iterdir()
        assert partial.name.endswith(".partial")
        assert partial.stat().st_size > 200_000
    with FrameFolderWriter(tmp_path / "b") as images:
        images.write(numbered(1)[0])
        assert len(list(tmp_path.glob(".b.*.partial/*.png"))) == 1
    assert Image.open(tmp_path / "b" / "00000000.png").size == (64, 48)
