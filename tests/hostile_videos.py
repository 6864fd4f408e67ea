"""Files that are no videos or unusual ones, and a record of the files that a process opens."""

import ctypes
import io
import struct
import sys
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.videos import encode, join, numbered


def small_video(count=6, **options):
    """Return a function that returns the bytes of a small video."""

    def made(folder: Path) -> bytes:
        name = options.pop("name", "a.mp4")
        return encode(folder / name, numbered(count), **options).read_bytes()

    return made


def odd(folder):
    frames = numbered(4)[:, :47, :63]
    return encode(folder / "a.mov", frames, codec="png", pixels="rgb24").read_bytes()


def enormous(folder):
    frame = av.VideoFrame(8192, 4320, "yuv420p")
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return encode(folder / "8k.mp4", [frame], preset="ultrafast").read_bytes()


def wrong_size(folder):
    """Return a file with 64x48 in its header and larger coded frames."""
    content = bytearray(enormous(folder))
    entry, track = content.index(b"avc1", content.index(b"stsd")) + 28, content.index(b"tkhd") + 80
    content[entry : entry + 4] = struct.pack(">HH", 64, 48)
    content[track : track + 8] = struct.pack(">II", 64 << 16, 48 << 16)
    return bytes(content)


def many(folder):
    frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
    with av.open(str(folder / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=1000, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for number in range(10_000):
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return (folder / "a.mp4").read_bytes()


def no_frames(folder):
    with av.open(str(folder / "a.mkv"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
    return (folder / "a.mkv").read_bytes()


def sizes(folder):
    one = encode(folder / "a.mkv", numbered(1), codec="mjpeg", pixels="yuvj420p")
    two = encode(folder / "b.mkv", numbered(1, 48, 80), codec="mjpeg", pixels="yuvj420p")
    return join([one, two], folder / "c.mkv").read_bytes()


def cut(folder):
    return small_video(30)(folder)[:-400]


def without_contents(folder):
    content = small_video(30, moov_first=False)(folder)
    return content[: len(content) // 2]


def rubbish_frames(folder):
    content = bytearray(small_video(10)(folder))
    start = content.index(b"mdat") + 4
    content[start:] = np.random.default_rng(0).integers(0, 256, len(content) - start, np.uint8).tobytes()
    return bytes(content)


def points_elsewhere(folder):
    content = encode(folder / "video.mov", numbered(4)).read_bytes()
    own = b"\x00\x00\x00\x0curl \x00\x00\x00\x01"
    place = content.index(own, content.index(b"vmhd"))
    return content[:place] + b"\x00\x00\x00\x0calis\x00\x00\x00\x00" + content[place + 12 :]


def sound_only(folder):
    with av.open(str(folder / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return (folder / "a.mp4").read_bytes()


def animation(kind):
    """Return an animated image of three frames."""
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in numbered(3))
    first.save(stream, kind, save_all=True, append_images=others)
    return stream.getvalue()


NO_VIDEOS = {
    "text": (b"I am a video.\n" * 100, "not a video"),
    "empty": (b"", "empty"),
    "zeros": (bytes(5000), "not a video"),
    "concat": (b"ffconcat version 1.0\nfile secret.mp4\n", "a playlist"),
    "concat, absolute": (b"ffconcat version 1.0\nfile {folder}/secret.mp4\n", "a playlist"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n", "a playlist"),
    "playlist, absolute": (b"#EXTM3U\n#EXTINF:1,\nfile://{folder}/secret.mp4\n#EXT-X-ENDLIST\n", "a playlist"),
    "DASH": (b"<?xml version='1.0'?><MPD><BaseURL>secret.mp4</BaseURL></MPD>", "text in markup"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='secret.mp4'/></svg>", "text in markup"),
    "HTML": (b"<html><script>alert(1)</script></html>", "text in markup"),
    "SDP": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not a video"),
    "archive": (b"PK\x03\x04" + bytes(100), "a document or an archive"),
    "program": (b"MZ" + bytes(1000), "not a video"),
    "GIF": (animation("GIF"), "a GIF"),
    "APNG": (animation("PNG"), "an image"),
    "animated WebP": (animation("WEBP"), "an image"),
    "bomb": (b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(10_000_000)), "an image"),
    "transport stream": (b"\x47\x40\x00\x10" + bytes(184) + (b"\x47\x1f\xff\x10" + bytes(184)) * 50, "an MPEG"),
}
"""Contents of files that are no videos or that name another file, and a part of the error message."""

REFUSED = NO_VIDEOS | {
    "8K header": (enormous, "8192x4320"),
    "8K frames under a small name": (wrong_size, "8192x4320"),
    "10,000 frames": (many, "more than 60 frames"),
    "61 frames": (small_video(61), "more than 60 frames"),
    "no frame": (no_frames, "not a video"),
    "too long": (small_video(30, rate=1), "seconds; up to 20"),
    "cut off": (cut, "damaged or incomplete"),
    "without its table of contents": (without_contents, "not a video"),
    "frames of rubbish": (rubbish_frames, "cannot be decoded|garbage"),
    "frames of two sizes": (sizes, "different sizes"),
    "only sound": (sound_only, "no video in this file"),
    "too large": (bytes(400_001), "up to 0 MB are taken"),
}


ACCEPTED = {
    "one frame": small_video(1),
    "odd size": odd,
    "10 bit": small_video(4, pixels="yuv420p10le"),
    "turned": small_video(4, rotation=90),
    "mirrored": small_video(4, mirror=True),
    "narrow pixels": small_video(4, aspect="4/3"),
    "uneven times": small_video(4, times=[0, 10, 500, 510]),
    "60 frames": small_video(60),
}


class opened_in:  # noqa: N801
    """Names of the files of a folder that this process opens meanwhile, from Linux' inotify."""

    def __init__(self, folder):
        self.folder, self.names = folder, set()

    def __enter__(self):
        if sys.platform.startswith("linux"):
            system = ctypes.CDLL(None, use_errno=True)
            self.watch = open(system.inotify_init1(0o4000), "rb", buffering=0)
            assert system.inotify_add_watch(self.watch.fileno(), str(self.folder).encode(), 0x20) >= 0
        return self.names

    def __exit__(self, *error):
        if sys.platform.startswith("linux"):
            with self.watch:
                events = self.watch.read(65536) or b""
            while events:
                size = struct.unpack("iIII", events[:16])[3]
                self.names.add(events[16 : 16 + size].rstrip(b"\0").decode())
                events = events[16 + size :]


def content_of(kind, folder):
    made = kind(folder) if callable(kind) else kind
    return made.replace(b"{folder}", str(folder).encode()) if isinstance(made, bytes) and len(made) < 500 else made
