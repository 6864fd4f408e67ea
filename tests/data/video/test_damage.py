"""Damaged and truncated videos, and containers that are not supported."""

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.video.doubled import double
from tests.videos import encode, numbered, numbers
from workbench.data.video.read import read_video
from workbench.errors import VideoError


def spoiled(path, **settings):
    """Frames 40 to 47 of 120 cannot be decoded; key frames are 0, 20, 40 ..."""
    source = encode(path, numbered(120, noise=True), g="20", sc_threshold="0", **settings)
    with av.open(str(source)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    content = source.read_bytes()
    for number in range(40, 48):
        content = content.replace(packets[number], packets[number][:4] + bytes(len(packets[number]) - 4), 1)
    source.write_bytes(content)
    return source


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damaged_frames_are_skipped_and_times_are_kept(tmp_path, suffix):
    source = spoiled(tmp_path / f"in{suffix}")
    stopped = double(source, tmp_path / "stop.mp4")
    assert stopped.frames <= 40
    made = double(source, tmp_path / "skip.mp4", on_damage="skip")
    assert made.fault
    video = read_video(tmp_path / "skip.mp4")
    seen = numbers(video.frames[:, ::2, ::2])
    assert seen[-60:] == list(range(60, 120))  # from the next key frame on
    assert seen[: stopped.frames] == list(range(stopped.frames))
    assert video.times_seconds == pytest.approx(np.array(seen) / 25, abs=0.001)
    ((start, end),) = made.missing_seconds
    assert start == pytest.approx(stopped.frames / 25, abs=0.001)
    assert end == pytest.approx(60 / 25, abs=0.001)


def test_skipping_and_stopping_are_equal_for_a_truncated_file(tmp_path):
    source = encode(tmp_path / "in.mkv", numbered(40, noise=True), g="10")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    stopped, skipped = (double(source, tmp_path / f"{how}.mp4", on_damage=how) for how in ("stop", "skip"))
    assert stopped.frames == skipped.frames > 5
    assert skipped.missing_seconds[-1][1] is None
    assert stopped.expected == 40


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_file_that_begins_with_an_open_group_is_undamaged(tmp_path, codec):
    """Frames that follow the first key frame and are shown before it cannot be decoded; they are named, not damage."""
    params = "keyint=20:open-gop=1:bframes=3:scenecut=0" + ":log-level=0" * (codec == "libx265")
    source = encode(tmp_path / "whole.mkv", numbered(60), codec=codec, **{f"{codec[3:]}-params": params})
    with av.open(str(source)) as file, av.open(str(tmp_path / "cut.mkv"), "w") as cut:
        copy, keys = cut.add_stream_from_template(file.streams.video[0]), 0
        for packet in file.demux(video=0):
            keys += bool(packet.size and packet.is_keyframe)
            if packet.size and keys > 1:
                packet.stream = copy
                cut.mux(packet)
    made = double(tmp_path / "cut.mkv", tmp_path / "out.mp4")
    assert made.fault is None
    seen = numbers(read_video(tmp_path / "out.mp4").frames[:, ::2, ::2])
    assert seen == list(range(seen[0], 60))


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_a_truncated_avi_is_damaged(tmp_path, share):
    source = encode(tmp_path / "in.avi", numbered(40, noise=True), codec="mpeg4", g="10")
    assert double(source, tmp_path / "whole.mp4").fault is None
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    made = double(source, tmp_path / "out.mp4")
    assert made.fault
    assert 0 < made.frames < 40


def test_an_avi_without_its_index_is_undamaged(tmp_path):
    source = encode(tmp_path / "in.avi", numbered(40, noise=True), codec="mpeg4", g="10")
    content = source.read_bytes()
    source.write_bytes(content[: content.index(b"idx1", len(content) // 2) + 20])
    made = double(source, tmp_path / "out.mp4")
    assert (made.fault, made.frames) == (None, 40)


def test_an_avi_that_begins_between_key_frames_keeps_its_times(tmp_path):
    source = encode(tmp_path / "in.avi", numbered(40), codec="mpeg4", g="10", bf="0", sc_threshold="1000000000")
    with av.open(str(source)) as file, av.open(str(tmp_path / "cut.avi"), "w") as cut:
        copy = cut.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(file.demux(video=0)):
            if packet.size and number >= 5:
                packet.stream, packet.pts, packet.dts = copy, packet.pts - 5, packet.dts - 5
                cut.mux(packet)
    made = double(tmp_path / "cut.avi", tmp_path / "out.mp4")
    video = read_video(tmp_path / "out.mp4")
    assert made.fault is None
    assert numbers(video.frames[:, ::2, ::2]) == list(range(10, 40))
    with av.open(str(tmp_path / "out.mp4")) as file:
        frame = next(file.decode(video=0))
        assert float(frame.pts * file.streams.video[0].time_base) == pytest.approx(0.2, abs=0.001)
    assert any("5 frames (0.20 s)" in text for text in made.transfer.texts("lost"))


def test_damage_in_the_first_group_is_skipped(tmp_path):
    source = encode(tmp_path / "in.mkv", numbered(60, noise=True), g="20", sc_threshold="0")
    with av.open(str(source)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    content = source.read_bytes()
    for number in range(4):
        content = content.replace(packets[number], packets[number][:4] + bytes(len(packets[number]) - 4), 1)
    source.write_bytes(content)
    made = double(source, tmp_path / "out.mp4", on_damage="skip")
    assert made.fault
    assert made.frames >= 40
    assert numbers(read_video(tmp_path / "out.mp4").frames[-40:, ::2, ::2]) == list(range(20, 60))


@pytest.mark.parametrize("format_", ["mpegts", "vob", "flv", "asf"])
def test_other_containers_raise_with_a_command_that_works(tmp_path, format_):
    source = tmp_path / f"a.{format_}"
    codec = {"mpegts": "libx264", "vob": "mpeg2video", "flv": "flv", "asf": "wmv2"}[format_]
    encode(source, numbered(10), container=format_, codec=codec)
    with pytest.raises(VideoError, match="without loss: ffmpeg ") as caught:
        read_video(source)
    if not shutil.which("ffmpeg"):
        pytest.skip("the command needs ffmpeg, which is not installed")
    command = str(caught.value).partition("without loss: ")[2]
    subprocess.run([*command.split(), "-v", "error"], check=True, cwd=tmp_path)
    assert len(read_video(Path(tmp_path / "a.mkv"))) == 10
