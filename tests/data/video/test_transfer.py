"""Tracks, metadata and colors of a source are kept, converted, or named in the result."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.data.video.doubled import double, save_frames
from tests.videos import encode, frame_from_planes, numbered, sound_packets
from workbench.data.video.read import Conversion, read_video
from workbench.data.video.timeline import timeline
from workbench.data.video.write_frames import TIMESTAMPS
from workbench.errors import ConfigError, VideoError


def every_track(path, *, container=None, audio="aac", subtitle="mov_text", attachment=False):
    """A video with two languages of sound, subtitles, a chapter, a title and, if wanted, a font."""
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = []
        for language, disposition in (("eng", av.stream.Disposition.default), ("jpn", av.stream.Disposition.comment)):
            sound = file.add_stream(audio, rate=48_000)
            sound.metadata["language"], sound.disposition = language, disposition
            sounds.append(sound)
        sounds[1].metadata["title"] = "Commentary"
        words = file.add_mux_stream(subtitle)
        words.metadata["language"] = "fra"
        words.time_base = Fraction(1, 1000)
        if attachment:
            file.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
        file.metadata["title"] = "My video"
        file.set_chapters(
            [{"id": 0, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for frame in numbered(25):
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for sound in sounds:
            for at in range(0, 46_000, 1024):
                chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                chunk.sample_rate, chunk.pts = 48_000, at
                file.mux(sound.encode(chunk))
            file.mux(sound.encode(None))
        text = b"\0\5hello" if subtitle == "mov_text" else b"hello"
        packet = av.Packet(text)
        packet.stream, packet.time_base = words, Fraction(1, 1000)
        packet.pts = packet.dts = 100
        packet.duration = 800
        file.mux(packet)
        file.mux(video.encode(None))
    return path


def described(path):
    """Streams with language, title and disposition; chapters; title of the file."""
    with av.open(str(path)) as file:
        streams = [
            (
                stream.type,
                stream.metadata.get("language", "und"),
                bool(stream.disposition & av.stream.Disposition.comment),
            )
            for stream in file.streams
            if stream.type != "data"  # the chapters of an MP4
        ]
        chapters = [
            (chapter["metadata"].get("title"), float(chapter["end"] * chapter["time_base"]))
            for chapter in file.chapters()
        ]
        return streams, chapters, file.metadata.get("title")


WHOLE = [("video", "und", False), ("audio", "eng", False), ("audio", "jpn", True), ("subtitle", "fra", False)]


def test_all_tracks_and_metadata_of_an_mp4_are_copied(tmp_path):
    source = every_track(tmp_path / "in.mp4")
    made = double(source, tmp_path / "out.mp4")
    assert described(tmp_path / "out.mp4") == described(source) == (WHOLE, [("one", 0.5)], "My video")
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(source)
    assert made.transfer.texts("lost") == []
    kept = "; ".join(made.transfer.texts("kept"))
    for name in ("2 audio tracks", "eng", "jpn", "1 subtitle track", "1 chapter", 'title "My video"'):
        assert name in kept
    with av.open(str(tmp_path / "out.mp4")) as file:
        (words,) = [bytes(packet) for packet in file.demux(subtitles=0) if packet.size > 2]
        assert words == b"\0\5hello"


def test_tracks_that_the_target_cannot_store_are_reported(tmp_path):
    source = every_track(tmp_path / "in.mkv", subtitle="subrip", attachment=True)
    made = double(source, tmp_path / "out.mkv")
    assert made.transfer.texts("lost") == []
    streams = described(tmp_path / "out.mkv")[0]
    assert streams == [*WHOLE, ("attachment", "und", False)]
    made = double(source, tmp_path / "out.mp4")
    lost = made.transfer.texts("lost")
    assert len(lost) == 2
    assert any("subtitle (subrip, fra" in text for text in lost)
    assert any("attachment" in text for text in lost)
    assert described(tmp_path / "out.mp4")[0] == WHOLE[:3]


def test_audio_that_the_target_cannot_store_raises_before_upscaling(tmp_path):
    source = every_track(tmp_path / "in.mp4")
    with pytest.raises(VideoError, match=r"out.webm: .*aac.*out.mkv.*--audio none"):
        double(source, tmp_path / "out.webm")
    made = double(source, tmp_path / "out.webm", audio=False)
    assert any("subtitle" in text for text in made.transfer.texts("lost"))
    assert [kind for kind, _, _ in described(tmp_path / "out.webm")[0]] == ["video"]


def test_the_pixel_aspect_is_kept(tmp_path):
    source = encode(tmp_path / "in.mp4", numbered(5), aspect="32/27")
    for name in ("out.mp4", "out.mkv"):
        made = double(source, tmp_path / name)
        assert read_video(tmp_path / name).pixel_aspect == Fraction(32, 27)
        assert "pixel aspect ratio 32:27" in made.transfer.texts("kept")
    for name in ("folder", "out.webm"):
        made = double(source, tmp_path / name)
        assert any("32:27" in text for text in made.transfer.texts("lost"))
    turned = encode(tmp_path / "turned.mp4", numbered(5), aspect="32/27", rotation=90)
    double(turned, tmp_path / "turned_out.mp4")
    assert read_video(tmp_path / "turned_out.mp4").pixel_aspect == Fraction(27, 32)


def test_more_than_eight_bits_are_reported(tmp_path):
    planes = [np.full(size, 512, "<u2") for size in ((48, 64), (24, 32), (24, 32))]
    source = encode(tmp_path / "in.mkv", [frame_from_planes(planes, "yuv420p10le")] * 2, pixels="yuv420p10le")
    assert any("10 bits" in text for text in double(source, tmp_path / "out.mp4").transfer.texts("converted"))


def test_metadata_of_the_video_track_and_custom_tags_are_copied(tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as file:
        video = file.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata["language"], video.metadata["title"] = "deu", "Main"
        file.metadata["DIRECTOR"] = "Jane Doe"
        for frame in numbered(3):
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(video.encode(None))
    assert double(tmp_path / "in.mkv", tmp_path / "out.mkv").transfer.texts("lost") == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.metadata["DIRECTOR"] == "Jane Doe"
        tags = file.streams.video[0].metadata
        assert (tags["language"], tags["title"]) == ("deu", "Main")
    (lost,) = double(tmp_path / "in.mkv", tmp_path / "out.mp4").transfer.texts("lost")
    assert "DIRECTOR" in lost
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].metadata["language"] == "deu"


def test_a_chapter_before_the_first_frame_is_kept(tmp_path):
    """The file begins at 0.4 s, its first chapter at 0: it begins at 0 in the output, too."""
    source = encode(tmp_path / "in.mkv", numbered(10), times=list(range(400, 800, 40)))
    chapters = [
        {"id": 0, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
        {"id": 1, "start": 500, "end": 800, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
    ]
    with av.open(str(source)) as file, av.open(str(tmp_path / "marked.mkv"), "w") as marked:
        copy = marked.add_stream_from_template(file.streams.video[0])
        marked.set_chapters(chapters)
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = copy
                marked.mux(packet)
    for name in ("out.mkv", "out.mp4"):
        double(tmp_path / "marked.mkv", tmp_path / name)
        assert described(tmp_path / name)[1] == [("one", 0.1), ("two", 0.4)]


def transparent(path):
    """Left half transparent with hidden red, right half opaque green."""
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32], rgba[:, 32:] = (255, 0, 0, 0), (0, 255, 0, 255)
    if path.suffix:
        frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva444p10le")
        return encode(path, [frame] * 2, codec="prores_ks", pixels="yuva444p10le", profile="4444")
    path.mkdir()
    for number in range(2):
        Image.fromarray(rgba).save(path / f"{number}.png")
    return path


@pytest.mark.parametrize("name", ["a.mov", "a"])
def test_transparency_needs_a_background(tmp_path, name):
    source = transparent(tmp_path / name)
    with pytest.raises(VideoError, match=r"--background"):
        double(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = double(source, tmp_path / "out", conversion=Conversion(background=(0, 0, 255)))
    seen = np.asarray(Image.open(sorted((tmp_path / "out").glob("*.png"))[0])).astype(int)
    assert np.abs(seen[:, 10] - (0, 0, 255)).max() <= 3
    assert np.abs(seen[:, -10] - (0, 255, 0)).max() <= 3
    assert any("composited" in text for text in made.transfer.texts("converted"))


def test_alpha_of_a_webm_raises_with_a_command(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as file:
        stream = file.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for frame in numbered(2):
            rgba = np.dstack([frame, frame[..., :1]])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        file.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"alpha.*ffmpeg -c:v libvpx-vp9"):
        double(tmp_path / "a.webm", tmp_path / "b.mp4", conversion=Conversion(background=(0, 0, 0)))


def test_closed_captions_in_frames_are_reported(tmp_path):
    """A53 closed captions, as an SEI message that is put in front of the first slice (ATSC A/53, part 4)."""
    source = encode(tmp_path / "in.h264.mkv", numbered(5), bf="0", **{"x264-params": "annexb=1"})
    captions = bytes([0xB5, 0, 0x31]) + b"GA94" + bytes([3, 0x41, 0xFF, 0xFC, 0x94, 0x20, 0xFF])
    message = bytes([6, 4, len(captions)]) + captions + b"\x80"
    with av.open(str(source)) as file, av.open(str(tmp_path / "captions.mp4"), "w") as marked:
        stream = file.streams.video[0]
        copy = marked.add_stream_from_template(stream)
        for packet in file.demux(stream):
            if packet.size:
                new = av.Packet(len(message).to_bytes(4, "big") + message + bytes(packet))
                new.pts, new.dts, new.time_base, new.duration = packet.pts, packet.dts, packet.time_base, 40
                new.is_keyframe, new.stream = packet.is_keyframe, copy
                marked.mux(new)
    made = double(tmp_path / "captions.mp4", tmp_path / "out.mp4")
    assert made.frames == 5
    assert any("closed captions" in text for text in made.transfer.texts("lost"))


def test_a_color_profile_is_reported(tmp_path):
    save_frames(tmp_path / "in", ["0.png", "1.png"])
    frame = Image.fromarray(numbered(1)[0])
    for name, profile in (("0.png", ImageCms.createProfile("LAB")), ("srgb", ImageCms.createProfile("sRGB"))):
        content = ImageCms.ImageCmsProfile(profile).tobytes()
        frame.save(tmp_path / "in" / "0.png", icc_profile=content)
        made = double(tmp_path / "in", tmp_path / f"out{name[0]}")
        assert any("ICC" in text for text in made.transfer.texts("lost")) == (name == "0.png")


def test_gaps_in_numbers_are_reported_and_names_kept(tmp_path):
    names = [f"im{number}.png" for number in (0, 1, 2, 7, 8)]
    made = double(save_frames(tmp_path / "in", names), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert any("3 to 6 (4)" in text for text in made.transfer.texts("noticed"))


def test_the_frame_rate_of_a_folder_is_an_option(tmp_path):
    source = save_frames(tmp_path / "in", [f"{number}.png" for number in range(6)])
    double(source, tmp_path / "out.mp4", fps=24000 / 1001)
    times = timeline(tmp_path / "out.mp4").times_seconds
    assert times == pytest.approx(np.arange(6) * 1001 / 24000, abs=1e-6)
    double(source, tmp_path / "usual.mp4")
    assert timeline(tmp_path / "usual.mp4").fps == 25
    with pytest.raises(ConfigError, match=r"fps: .* got -1"):
        double(source, tmp_path / "none.mp4", fps=-1)


def test_an_output_folder_contains_the_times_of_the_video(tmp_path):
    source = encode(tmp_path / "in.mkv", numbered(4), times=[0, 40, 300, 340])
    made = double(source, tmp_path / "out")
    lines = (tmp_path / "out" / TIMESTAMPS).read_text().splitlines()
    assert lines[0] == "# timestamp format v2"
    assert [float(line) for line in lines[1:]] == [0, 40, 300, 340]
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    assert any(TIMESTAMPS in text for text in made.transfer.texts("kept"))
