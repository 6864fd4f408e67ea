"""A video through a network: every frame, in order, whole or not at all, and never more memory than was asked."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from tests.footage import save
from tests.videos import encode, numbered, numbers, repeat, sound_packets, with_sound
from workbench.data.video.read import read_clip, read_frames, read_video
from workbench.data.video.timeline import timeline
from workbench.errors import ConfigError, ResultError, VideoError
from workbench.inference.chunks import chunks, upscale
from workbench.inference.memory_estimate import fit_memory_model
from workbench.inference.prefetch import prefetch
from workbench.inference.video import Plan, peak_bytes, plan_memory, upscale_file
from workbench.models.bicubic import Bicubic
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.models.zoo import build
from workbench.tensors import to_float

DOUBLE = Bicubic(scale=2)


class Fails(VideoSR):
    """Returns NaN from its third call on."""

    def __init__(self):
        super().__init__(scale=2)
        self.calls = 0

    def forward(self, clip, return_features=None):
        self.calls += 1
        frames = clip.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return Upscaled(frames * float("nan") if self.calls > 2 else frames)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Thirty numbered frames of 64x48."""
    return encode(tmp_path_factory.mktemp("videos") / "video.mp4", numbered(30))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Nine images of 31x23."""
    frames = np.random.default_rng(0).integers(0, 256, (9, 23, 31, 3), np.uint8)
    return save(tmp_path_factory.mktemp("images") / "odd", frames)


# -- what is written --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk_frames", [1, 4, None])
def test_frames_of_a_video_equal_those_of_the_whole_clip(odd, tmp_path, chunk_frames):
    torch.manual_seed(0)
    network = build("vespcn_paper").eval()
    whole = upscale(network, read_frames(odd), chunk_frames=9)
    made = upscale_file(odd, tmp_path / "out", network, plan=Plan(chunk_frames=chunk_frames))
    got = read_frames(tmp_path / "out")
    assert (made.frames, made.expected, made.fault, made.lossy) == (9, 9, None, False)
    assert (made.width, made.height) == (124, 92)
    assert got.shape == whole.shape == (9, 92, 124, 3)
    assert np.abs(got.astype(int) - whole).max() <= 1  # 1e-5 of the range may tip a rounding
    assert (got != whole).mean() < 1e-3


@pytest.mark.parametrize("chunk_frames", [1, 2, 4])
def test_chunks_equal_the_whole_clip_before_rounding(odd, chunk_frames):
    torch.manual_seed(0)
    network, low = build("vespcn_paper").eval(), read_frames(odd)
    parts = [chunk.upscaled.frames for chunk in chunks(network, low, chunk_frames=chunk_frames)]
    with torch.inference_mode():
        assert (torch.cat(parts, dim=1) - network(to_float(low)).frames).abs().max() < 1e-5


def test_a_webm_is_lossless_and_an_mp4_is_close(odd, tmp_path):
    whole = upscale(Bicubic(scale=3), read_frames(odd))
    exact = upscale_file(odd, tmp_path / "out.webm", Bicubic(scale=3))
    assert not exact.lossy
    assert np.array_equal(read_video(tmp_path / "out.webm").frames, whole)
    lossy = upscale_file(odd, tmp_path / "out.mp4", Bicubic(scale=3))
    assert lossy.lossy
    seen = read_video(tmp_path / "out.mp4").frames
    assert seen.shape == (9, 70, 94, 3)  # 69x93: H.264 in 4:2:0 wants even sizes


def test_every_frame_is_written_in_order_and_reported(video, tmp_path):
    seen = []
    made = upscale_file(video, tmp_path / "out.mp4", DOUBLE, progress=lambda *counts: seen.append(counts))
    shrunk = read_video(tmp_path / "out.mp4").frames[:, ::2, ::2]
    assert numbers(shrunk) == list(range(30))
    assert seen == [(number, 30) for number in range(1, 31)]
    assert timeline(tmp_path / "out.mp4").fps == 25
    assert made.fps == pytest.approx(30 / made.seconds)


def test_variable_frame_times_are_kept(tmp_path):
    times = [0, 40, 80, 400, 440, 1000, 1040]
    source = encode(tmp_path / "uneven.mkv", numbered(7), times=times)
    upscale_file(source, tmp_path / "out.mp4", DOUBLE)
    assert timeline(tmp_path / "out.mp4").times_seconds == pytest.approx(np.array(times) / 1000, abs=1e-3)


@pytest.mark.parametrize("audio", [True, False])
def test_audio_is_copied_unchanged(tmp_path, audio):
    source = with_sound(tmp_path / "in.mp4", 50, codec="aac")
    upscale_file(source, tmp_path / "out.mp4", DOUBLE, audio=audio)
    if audio:
        assert [data for data, _ in sound_packets(tmp_path / "out.mp4")] == [data for data, _ in sound_packets(source)]
    else:
        with pytest.raises(IndexError):
            sound_packets(tmp_path / "out.mp4")
    assert len(timeline(tmp_path / "out.mp4")) == 50


def test_unsupported_audio_raises_and_leaves_no_output(tmp_path):
    source = with_sound(tmp_path / "in.mp4", 5, codec="aac")
    with pytest.raises(VideoError, match=r"audio .*\(aac\)"):
        upscale_file(source, tmp_path / "out.webm", DOUBLE)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    upscale_file(source, tmp_path / "images", DOUBLE)  # a folder has no audio, and none was requested
    assert len(read_frames(tmp_path / "images")) == 5


@pytest.mark.parametrize("plan", [Plan(chunk_frames=2), Plan(chunk_frames=3, tile=16, overlap=30)])
def test_chunks_and_tiles_equal_whole_frames(odd, tmp_path, plan):
    torch.manual_seed(0)
    network = build("vespcn_paper").eval()
    upscale_file(odd, tmp_path / "out", network, plan=plan)
    whole = upscale(network, read_frames(odd))
    assert np.abs(read_frames(tmp_path / "out").astype(int) - whole).max() <= 1


def test_half_precision_is_used_on_request(odd, tmp_path):
    network = build("vespcn_paper").eval()
    upscale_file(odd, tmp_path / "full", network)
    upscale_file(odd, tmp_path / "half", network, precision="bf16")
    full, half = read_frames(tmp_path / "full"), read_frames(tmp_path / "half")
    assert (full != half).any()
    assert np.abs(full.astype(int) - half).max() < 16
    assert not torch.is_autocast_enabled("cpu")


# -- what is damaged --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("noise", [False, True])
def test_a_truncated_video_is_upscaled_up_to_the_damage(tmp_path, noise):
    source = encode(tmp_path / "in.mp4", numbered(40, noise=noise))
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 3 // 5])
    good = len(read_clip(source, on_damage="keep"))
    assert 0 < good < 40
    made = upscale_file(source, tmp_path / "out.mp4", DOUBLE)
    assert made.frames == good
    assert made.fault is not None
    assert "in.mp4" in made.fault
    assert numbers(read_video(tmp_path / "out.mp4").frames[:, ::2, ::2]) == list(range(good))


def test_damage_ends_video_and_audio(tmp_path):
    source = with_sound(tmp_path / "in.mp4", 100, codec="aac")
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 6] = bytes(len(content) // 6)
    source.write_bytes(content)
    good = len(read_clip(source, on_damage="keep"))
    assert 0 < good < 100
    made = upscale_file(source, tmp_path / "out.mp4", DOUBLE)
    assert (made.frames, made.expected) == (good, 100)
    assert made.fault is not None
    assert len(timeline(tmp_path / "out.mp4")) == good
    assert sound_packets(tmp_path / "out.mp4")[-1][1] <= good / 25


def test_an_unreadable_image_ends_the_video(odd, tmp_path):
    folder = save(tmp_path / "in", read_frames(odd))
    (folder / "0005.png").write_bytes(b"no image")
    made = upscale_file(folder, tmp_path / "out", DOUBLE)
    assert (made.frames, made.expected) == (5, 9)
    assert made.fault is not None
    assert "0005.png: not an image" in made.fault
    (folder / "0000.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"0000\.png: not an image"):
        upscale_file(folder, tmp_path / "none", DOUBLE)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_failing_network_leaves_no_output(video, tmp_path, name):
    with pytest.raises(ResultError, match="NaN or infinity"):
        upscale_file(video, tmp_path / name, Fails(), plan=Plan(chunk_frames=4))
    assert list(tmp_path.iterdir()) == []
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


def test_an_interrupt_leaves_no_output(video, tmp_path):
    def interrupt(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_file(video, tmp_path / "out.mp4", DOUBLE, plan=Plan(chunk_frames=2), progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.posix
def test_a_killed_process_leaves_no_output_file(video, tmp_path):
    long = repeat(video, tmp_path / "long.mp4", 200)
    script = f"""
from pathlib import Path
from workbench.models.bicubic import Bicubic
from workbench.inference.video import upscale_file
report = lambda done, total: print(done, flush=True)
upscale_file({str(long)!r}, {str(tmp_path / "out.mp4")!r}, Bicubic(scale=4), progress=report)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = {path.name for path in tmp_path.iterdir()} - {"long.mp4"}
    assert left == {f".out.mp4.{process.pid}.partial"}


def test_existing_files_are_not_overwritten(video, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"out\.mp4: exists already"):
        upscale_file(video, target, DOUBLE)
    assert target.read_bytes() == b"mine"
    upscale_file(video, target, DOUBLE, replace=True)
    assert len(timeline(target)) == 30
    with pytest.raises(ConfigError, match="that is the source"):
        upscale_file(video, video, DOUBLE, replace=True)
    with pytest.raises(VideoError, match=r"\.mp4"):
        upscale_file(video, tmp_path / "out.avi", DOUBLE)
    with pytest.raises(VideoError, match="no such file"):
        upscale_file(tmp_path / "none.mp4", tmp_path / "other.mp4", DOUBLE)


# -- memory -----------------------------------------------------------------------------------------------------------
def test_more_memory_allows_longer_chunks_and_larger_tiles():
    network = build("vespcn").eval()
    plans = []
    for memory in np.geomspace(1e9, 2e10, 14):
        try:
            plans.append(plan_memory(network, 270, 480, int(memory), overlap=24))
        except ConfigError:
            assert not plans  # once enough is enough
        else:
            assert plans[-1].bytes is not None
            assert plans[-1].bytes <= memory
    work = [(plan.tile or 10_000, plan.chunk_frames) for plan in plans]
    assert work == sorted(work)
    assert work[0][0] < 10_000
    assert work[-1] == (10_000, 16)


def test_too_little_memory_raises_with_the_required_amount():
    with pytest.raises(ConfigError, match=r"960x540 to 3840x2160 .*[\d.]+ GB") as error:
        plan_memory(build("vespcn_paper"), 540, 960, 100_000_000, overlap=24)
    needed = float(str(error.value).split("needs ")[1].split(" GB")[0]) * 1e9
    plan = plan_memory(build("vespcn_paper"), 540, 960, int(needed * 1.1), overlap=24)
    assert plan.chunk_frames == 1


def test_upscaling_follows_the_memory_plan(odd, tmp_path):
    network = build("vespcn_paper").eval()
    memory = 10 * peak_bytes()
    made = upscale_file(odd, tmp_path / "out", network, memory=memory)
    assert made.plan.chunk_frames == 16
    assert made.plan.tile is None
    assert made.plan.bytes is not None
    assert made.plan.bytes < memory


def test_the_peak_memory_stays_below_the_plan(video, tmp_path):
    """In a process of its own, where nothing was taken before: 64x48 in a network that holds 60 MB a frame."""
    script = f"""
import torch
from workbench.models.zoo import build
from workbench.tensors import to_float
from workbench.inference.video import upscale_file
torch.set_num_threads(1)
made = upscale_file({str(video)!r}, {str(tmp_path / "out.mp4")!r}, build("vespcn").eval(), memory=1_000_000_000)
print(made.plan.bytes, made.peak_bytes)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    planned, peak = map(int, done.stdout.split())
    assert peak <= planned <= 1_000_000_000


def test_a_memory_plan_includes_the_context():
    network = build("rsdn", channels=8, blocks=1)
    alone, between = fit_memory_model(network), fit_memory_model(network, context=8)
    assert alone is not None
    assert between is not None
    clip = 2 * 8 * 3 * 4 * 100 * 100  # of the sixteen frames alone, in float32
    assert between.bytes(4, 100, 100) > alone.bytes(4, 100, 100) + clip


# -- ahead ------------------------------------------------------------------------------------------------------------
def test_prefetching_is_bounded():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    waiting = prefetch(items(), waiting=3)
    assert next(waiting) == 0
    until = time.monotonic() + 60
    while len(made) < 5 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    assert made == [0, 1, 2, 3, 4]  # one taken, three wait, one in the hand
    assert list(waiting) == list(range(1, 20))


def test_errors_are_raised_after_earlier_items():
    def items():
        yield 1
        raise VideoError("torn")

    waiting = prefetch(items())
    assert next(waiting) == 1
    with pytest.raises(VideoError, match="torn"):
        next(waiting)


def test_closing_the_consumer_stops_the_thread():
    closed = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    waiting = prefetch(items())
    next(waiting)
    waiting.close()
    assert closed.is_set()
