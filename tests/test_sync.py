"""Frames and sound stay together: flash and beep of every second, in the source and in what was made of it.

Random timestamp sequences of every kind that real files have. The offset of a flash from its beep is measured with PyAV
in both files; it may differ by a tick of either container.
"""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.videos import encode, numbered, numbers
from workbench.data.video.read import read_video
from workbench.inference.video import upscale_file
from workbench.models.bicubic import Bicubic

SECONDS = 6
TICK = Fraction(1, 1000)
"""Clock of Matroska, the coarsest of the containers."""


def times_of(kind, rng):
    """Milliseconds of the frames of a video, each at least a few milliseconds after the one before."""
    even = np.arange(int(SECONDS * 25)) * 40
    if kind == "jitter":
        return even + rng.integers(-15, 16, len(even)) + 15
    if kind == "drift":  # a clock that is not the stated 25 a second
        return np.rint(np.arange(int(SECONDS * 24.83)) * 1000 / 24.83).astype(int)
    if kind == "gaps":
        return even[np.sort(rng.choice(len(even), len(even) * 2 // 3, replace=False))]
    return even


def make_video(path, kind, rng, *, codec, audio):
    """A flash of 0.1 s and a beep of 0.05 s at every whole second from 1 on."""
    times = times_of(kind, rng)
    with av.open(str(path), "w") as file:
        options = {"bf": "2", "g": "30", "preset": "ultrafast"} if codec == "libx264" else {"cpu-used": "8", "g": "30"}
        video = file.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.codec_context.time_base = TICK
        sound = file.add_stream(audio, rate=48_000)
        packets = []
        for time in [*times.tolist(), None]:
            frame = None
            if time is not None:
                lit = time > 500 and time % 1000 < 100
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 230 if lit else 30, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time, TICK
            packets += video.encode(frame)
        if kind == "doubles":
            order = sorted(range(len(packets)), key=lambda n: packets[n].pts)
            for at in range(12, len(order) - 2, 31):
                if packets[order[at]].pts % 1000 not in (0, 40):  # a flash that moves is not what is measured
                    packets[order[at]].pts = packets[order[at - 1]].pts
                    packets[order[at]].dts = min(packets[order[at]].dts, packets[order[at]].pts)
        if kind == "edit list":  # frames and sound that a player leaves out
            for packet in packets:
                packet.pts, packet.dts = packet.pts - 200, packet.dts - 200
        tone = np.zeros(48_000 * SECONDS, np.float32)
        for second in range(1, SECONDS):
            tone[second * 48_000 :][:2400] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2400) / 48_000)
        coded = []
        for at in range(0, len(tone) - 960, 960):
            chunk = av.AudioFrame.from_ndarray(tone[None, at : at + 960], format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts = 48_000, at
            coded += sound.encode(chunk)
        coded += sound.encode(None)
        last = max(packets, key=lambda packet: packet.pts)
        last.duration = 700 if kind == "held last frame" else 40
        both = [*packets, *coded]
        for packet in sorted(both, key=lambda p: p.dts * p.time_base):
            file.mux(packet)
    return path


def cut_beginning(source, path, frames):
    """Copy a file without its first video packets, as a recording that begins between two key frames."""
    with av.open(str(source)) as file, av.open(str(path), "w") as cut:
        video, sound = file.streams.video[0], file.streams.audio[0]
        copies = {stream.index: cut.add_stream_from_template(stream) for stream in (video, sound)}
        passed = 0
        for packet in file.demux(video, sound):
            if packet.size:
                passed += packet.stream is video
                if packet.stream is not video or passed > frames:
                    packet.stream = copies[packet.stream.index]
                    cut.mux(packet)
    return path


def decoded(file, video):
    """Frames; errors of VP9 before its first key frame are passed over."""
    for packet in file.demux(video):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def flashes(path):
    found, lit_before = [], False
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        for frame in decoded(file, video):
            lit = frame.to_ndarray(format="gray").mean() > 120
            if lit and not lit_before:
                found.append(float(frame.pts * video.time_base))
            lit_before = lit
    return np.array(found)


def beeps(path):
    found, silent_since = [], -1.0
    with av.open(str(path)) as file:
        sound = file.streams.audio[0]
        for frame in file.decode(sound):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().reshape(-1)) > 0.1)
            if len(loud):
                start = float(frame.pts * frame.time_base)
                if start + loud[0] / frame.rate - silent_since > 0.5:
                    found.append(start + loud[0] / frame.rate)
                silent_since = start + loud[-1] / frame.rate
    return np.array(found)


def duration(path):
    with av.open(str(path)) as file:
        return file.duration / av.time_base


def offsets(path):
    """Flash minus beep, by the second at which the beep is heard."""
    sounds, found = beeps(path), {}
    for flash in flashes(path):
        nearest = sounds[np.abs(sounds - flash).argmin()]
        if abs(nearest - flash) < 0.4:
            found[round(nearest)] = flash - nearest
    return found


KINDS = ("even", "jitter", "drift", "gaps", "doubles", "edit list", "held last frame", "late beginning")


@pytest.mark.parametrize(
    ("name", "codec", "audio", "targets"),
    [
        ("a.mp4", "libx264", "aac", ("b.mp4", "b.mkv")),
        ("a.mkv", "libx264", "aac", ("b.mp4", "b.mkv")),
        ("a.webm", "libvpx-vp9", "libopus", ("b.webm", "b.mp4")),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_video_and_audio_stay_in_sync(tmp_path, kind, name, codec, audio, targets):
    if kind == "edit list" and name != "a.mp4":
        pytest.skip("Matroska has no edit lists")
    source = make_video(tmp_path / name, kind, np.random.default_rng(KINDS.index(kind)), codec=codec, audio=audio)
    if kind == "late beginning":
        source = cut_beginning(source, tmp_path / f"late{source.suffix}", 40)
    before = offsets(source)
    assert len(before) >= SECONDS - 3
    for target in targets:
        upscale_file(source, tmp_path / target, Bicubic(scale=2))
        after = offsets(tmp_path / target)
        assert after.keys() == before.keys()
        assert max(abs(after[second] - before[second]) for second in before) <= 2 * float(TICK) + 1e-6
        assert len(beeps(tmp_path / target)) == len(beeps(source))  # sound is never cut
        assert duration(tmp_path / target) == pytest.approx(duration(source), abs=0.045)


def test_a_constant_rate_keeps_sync_within_half_a_frame(tmp_path):
    source = make_video(tmp_path / "a.mkv", "gaps", np.random.default_rng(1), codec="libx264", audio="aac")
    made = upscale_file(source, tmp_path / "b.mp4", Bicubic(scale=2), fps=30)
    before, after = offsets(source), offsets(tmp_path / "b.mp4")
    assert after.keys() == before.keys()
    assert max(abs(after[second] - before[second]) for second in before) <= 1 / 60 + 0.002
    assert made.repeated > 0
    with av.open(str(tmp_path / "b.mp4")) as file:
        times = np.array([float(f.pts * file.streams.video[0].time_base) for f in file.decode(video=0)])
    assert np.abs(np.diff(times) - 1 / 30).max() < 1e-4


def test_half_of_the_rate_keeps_every_second_frame(tmp_path):
    """Rounding halves to even would take frames 1, 2, 5, 6, 9, 10."""
    source = encode(tmp_path / "in.mp4", numbered(40), rate=50)
    made = upscale_file(source, tmp_path / "out.webm", Bicubic(scale=2), fps=25)
    assert numbers(read_video(tmp_path / "out.webm").frames[:, ::2, ::2]) == list(range(0, 40, 2))
    assert (made.repeated, made.omitted) == (0, 20)


def test_a_pause_before_the_end_does_not_make_an_mp4_longer(tmp_path):
    """B-frames: the frame that is decoded last is not the one that is shown last."""
    times = [*range(0, 800, 40), 19_920, 19_960]
    source = encode(tmp_path / "in.mkv", numbered(22), times=times, bf="3")
    upscale_file(source, tmp_path / "out.mp4", Bicubic(scale=2))
    assert duration(tmp_path / "out.mp4") == pytest.approx(20, abs=0.05)
    assert read_video(tmp_path / "out.mp4").times_seconds == pytest.approx(np.array(times) / 1000, abs=0.001)


@pytest.mark.parametrize("wrong", [[1000, 0, 40, 80], [100, 0, 40, 80], [0, 40, 80_000, 120]])
def test_a_wrong_first_or_middle_timestamp_is_tolerated(tmp_path, wrong):
    times = [*wrong, *range(160, 1000, 40)]
    even = encode(tmp_path / "even.mkv", numbered(len(times)), codec="mjpeg", pixels="yuvj420p")
    with av.open(str(even)) as file, av.open(str(tmp_path / "in.mkv"), "w") as made:
        copy = made.add_stream_from_template(file.streams.video[0])
        packets = [packet for packet in file.demux(video=0) if packet.size]
        for number, (packet, time) in enumerate(zip(packets, times, strict=True)):
            packet.stream, packet.time_base, packet.pts, packet.dts = copy, TICK, time, min(40 * number, time)
            made.mux(packet)
    upscale_file(tmp_path / "in.mkv", tmp_path / "out.mp4", Bicubic(scale=2))
    seen = read_video(tmp_path / "out.mp4").times_seconds
    right = np.arange(len(times)) * 0.04
    assert np.abs(seen - right)[4:].max() <= 0.0011
    assert np.abs(seen - right).max() <= 0.041
