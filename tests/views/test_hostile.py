"""What strangers send: files that are no films, names that are paths, values of wrong types. A kind word for each.

Nothing is read outside the folders on show, nothing crashes, nothing stays behind.
"""

import ctypes
import errno
import io
import json
import os
import shutil
import socket
import struct
import sys
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.films import encode, join, numbered
from workbench.data.video.inspect import Limits
from workbench.errors import ConfigError, FolderError, VideoError, WorkbenchError
from workbench.runs import create_run
from workbench.scenes import read_scene
from workbench.views.studio import Services, Studio, launch
from workbench.views.studio.desk import PREFIX, Desk, Room, clean_title, sweep
from workbench.views.studio.guard import Guard
from workbench.views.studio.jobs import Jobs
from workbench.views.studio.video import Videos

SECRET = b"the password is swordfish"
MARKUP = "<img src=x onerror=alert(1)>${7*7}{{8*8}}.mp4"
ROOM = Room(film=Limits(bytes=400_000, side=512, pixels=512 * 512, frames=60, seconds=20.0), bytes=2_000_000, clips=3)


def film(count=6, **options):
    """The bytes of a small film."""

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


def lying_size(folder):
    """The header of the file says 64x48, the coded frames say otherwise."""
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
    return film(30)(folder)[:-400]


def without_contents(folder):
    content = film(30, moov_first=False)(folder)
    return content[: len(content) // 2]


def rubbish_frames(folder):
    content = bytearray(film(10)(folder))
    start = content.index(b"mdat") + 4
    content[start:] = np.random.default_rng(0).integers(0, 256, len(content) - start, np.uint8).tobytes()
    return bytes(content)


def points_elsewhere(folder):
    content = encode(folder / "film.mov", numbered(4)).read_bytes()
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


def gif(folder):
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in numbered(3))
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def bomb(folder):
    """Ten megabytes of nothing in ten kilobytes, in a picture's clothes."""
    return b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(10_000_000))


REFUSED = {
    "renamed text": (b"I am a film.\n" * 50, "not a video"),
    "empty": (b"", "empty"),
    "zeros": (bytes(5000), "not a video"),
    "ffconcat": (b"ffconcat version 1.0\nfile secret.txt\n", "playlist"),
    "ffconcat, absolute": (b"ffconcat version 1.0\nfile {folder}/secret.txt\n", "playlist"),
    "m3u": (b"#EXTM3U\n#EXTINF:1,\nfile://{folder}/secret.txt\n#EXT-X-ENDLIST\n", "playlist"),
    "DASH": (b"<?xml version='1.0'?><MPD><BaseURL>secret.txt</BaseURL></MPD>", "markup"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='secret.txt'/></svg>", "markup"),
    "HTML": (b"<html><script>alert(1)</script></html>", "markup"),
    "SDP": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "not a video"),
    "archive": (b"PK\x03\x04" + bytes(100), "archive"),
    "program": (b"MZ" + bytes(1000), "not a video"),
    "GIF": (gif, "GIF"),
    "bomb": (bomb, "a picture"),
    "8K header": (enormous, "8192x4320"),
    "8K frames under a small name": (lying_size, "8192x4320"),
    "10,000 frames": (many, "more than 60 frames"),
    "61 frames": (film(61), "more than 60 frames"),
    "no frame": (no_frames, "not a video"),
    "too long": (film(30, rate=1), "seconds; up to 20"),
    "cut off": (cut, "damaged or not whole"),
    "without its table of contents": (without_contents, "not a video"),
    "frames of rubbish": (rubbish_frames, "cannot be decoded|garbage"),
    "frames of two sizes": (sizes, "different sizes"),
    "only sound": (sound_only, "no video in this file"),
    "too large": (bytes(400_001), "up to 0 MB are taken"),
}

TAKEN = {
    "one frame": film(1),
    "odd size": odd,
    "10 bit": film(4, pixels="yuv420p10le"),
    "turned": film(4, rotation=90),
    "mirrored": film(4, mirror=True),
    "narrow pixels": film(4, aspect="4/3"),
    "uneven times": film(4, times=[0, 10, 500, 510]),
    "60 frames": film(60),
}


class opened_in:  # noqa: N801
    """The names of the files of a folder that this process opens meanwhile, as Linux tells it."""

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
                told = self.watch.read(65536) or b""
            while told:
                size = struct.unpack("iIII", told[:16])[3]
                self.names.add(told[16 : 16 + size].rstrip(b"\0").decode())
                told = told[16 + size :]


@pytest.fixture
def desk(tmp_path):
    made = Desk(ROOM, tmp_path)
    yield made
    made.close()


def content_of(kind, folder):
    made = kind(folder) if callable(kind) else kind
    return made.replace(b"{folder}", str(folder).encode()) if isinstance(made, bytes) and len(made) < 500 else made


def bring(desk, content, title="film.mp4"):
    path = desk.place()
    path.write_bytes(content)
    return desk.take(path, title)


def raises(error):
    raise error


def waited_for(what):
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


class TestFilms:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_refused_in_words_and_gone(self, desk, tmp_path, kind):
        source, says = REFUSED[kind]
        (tmp_path / "made").mkdir()
        content = content_of(source, tmp_path / "made")
        (tmp_path / "made" / "secret.txt").write_bytes(SECRET)
        clips = desk.folder / "clips"
        (clips / "secret.txt").write_bytes(SECRET)
        with (
            opened_in(clips) as seen,
            opened_in(tmp_path / "made") as outside,
            pytest.raises(VideoError, match=says) as told,
        ):
            bring(desk, content)
        assert "secret.txt" not in seen
        assert "secret.txt" not in outside
        assert str(told.value).startswith("film.mp4: ")
        assert str(tmp_path) not in str(told.value)  # no path of the server
        assert [path.name for path in clips.iterdir()] == ["secret.txt"]

    @pytest.mark.parametrize("kind", TAKEN)
    def test_strange_but_good(self, desk, tmp_path, kind):
        (tmp_path / "made").mkdir()
        clip = bring(desk, TAKEN[kind](tmp_path / "made"))
        assert clip.info.frames >= 1
        assert desk.preview(clip, clip.info.frames - 1).startswith("data:image/webp;base64,")

    def test_one_that_points_to_another_file(self, desk, tmp_path):
        (tmp_path / "made").mkdir()
        with opened_in(tmp_path / "made") as seen:
            content = points_elsewhere(tmp_path / "made")
            seen.clear()
        with opened_in(tmp_path / "made") as seen:
            try:
                bring(desk, content)
            except VideoError as error:
                said = str(error)
            else:
                said = "film.mp4: taken for what is in it"
        assert said.startswith("film.mp4: ")
        assert not seen

    def test_flipped_bits_are_an_answer_or_an_error_in_words(self, desk, tmp_path):
        (tmp_path / "made").mkdir()
        good, rng, said = film(12)(tmp_path / "made"), np.random.default_rng(0), []
        for _ in range(25):
            content = bytearray(good)
            for place in rng.integers(0, len(content), 8):
                content[place] ^= 1 << int(rng.integers(8))
            try:
                desk.preview(bring(desk, bytes(content)), 11)
            except VideoError as error:
                said.append(str(error))
        assert all(words.startswith("film.mp4: ") for words in said)
        assert len(list((desk.folder / "clips").iterdir())) <= ROOM.clips


class TestNames:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\windows\\system.ini", "system.ini"),
            ("/etc/shadow", "shadow"),
            ("a\0b\n.mp4", "ab.mp4"),
            ("", "video"),
            ("/", "video"),
            (MARKUP, MARKUP),
            ("\u202egpj.exe", "gpj.exe"),
        ],
    )
    def test_of_files_are_for_people_only(self, desk, tmp_path, name, shown):
        assert clean_title(name) == shown
        (tmp_path / "made").mkdir()
        clip = bring(desk, film(2)(tmp_path / "made"), name)
        assert clip.title == shown
        assert clip.path.parent == desk.folder / "clips"
        assert clip.path.name == clip.key

    def test_long_ones_are_shortened(self):
        assert len(clean_title("x" * 5000 + ".mp4")) < 80

    @pytest.mark.parametrize(
        "name", [None, 7, "", ".", "..", "../clips", "video-00000000", "a/b", "\0", ["x"], {}, "x" * 9999]
    )
    def test_of_scenes_come_from_the_list(self, desk, name):
        with pytest.raises(FolderError, match="not here any more"):
            desk.scene(name)
        with pytest.raises(FolderError, match="not here any more"):
            desk.delete(name)


class TestParts:
    """The region and frames of a clip of 12 frames of 64x48."""

    @pytest.fixture
    def videos(self, desk, tmp_path):
        services = Services(
            prepare=create_run, names=dict, command=lambda kind: ["true"], methods=lambda: {"bicubic": "Bicubic"}
        )
        jobs = Jobs()
        (tmp_path / "made").mkdir()
        made = Videos(Studio(runs=[tmp_path / "runs"], scenes=[]), desk, jobs, services)
        made.key = bring(desk, film(12)(tmp_path / "made")).key
        yield made
        jobs.close()

    def wish(self, videos, **changes):
        part = {"clip": videos.key, "frames": [0, 6], "region": [0, 0, 48, 64], "truth": True, "methods": ["bicubic"]}
        return part | changes

    def test_a_good_one(self, videos):
        job = videos.ask(self.wish(videos))
        assert job.order["region"] == [0, 0, 48, 64]
        assert Path(job.order["folder"]).parent == videos.desk.scenes

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"clip": None}, "upload it again"),
            ({"clip": "../alive"}, "upload it again"),
            ({"clip": {}}, "upload it again"),
            ({"frames": None}, "want 2 whole numbers"),
            ({"frames": [0]}, "want 2 whole numbers"),
            ({"frames": ["0", "6"]}, "want 2 whole numbers"),
            ({"frames": [0.5, 6]}, "want 2 whole numbers"),
            ({"frames": [True, 6]}, "want 2 whole numbers"),
            ({"frames": [0, 10**30]}, "want 2 whole numbers"),
            ({"frames": [-1, 6]}, "want some of 0 to 12"),
            ({"frames": [6, 6]}, "want some of 0 to 12"),
            ({"frames": [0, 13]}, "want some of 0 to 12"),
            ({"region": [0, 0, 48]}, "want 4 whole numbers"),
            ({"region": [0, 0, 49, 64]}, "want a part of 64x48"),
            ({"region": [-4, 0, 48, 64]}, "want a part of 64x48"),
            ({"region": [0, 0, 16, 64]}, "32 pixels to a side"),
            ({"region": [0, 0, -48, -64]}, "want a part of 64x48"),
            ({"truth": "yes"}, "high resolution or the low"),
            ({"methods": []}, "choose one to 6"),
            ({"methods": "bicubic"}, "choose one to 6"),
            ({"methods": ["bicubic"] * 7}, "choose one to 6"),
            ({"methods": ["/etc/passwd.pth"]}, "choose some of the list"),
            ({"methods": [{}]}, "choose some of the list"),
        ],
    )
    def test_refused_in_words(self, videos, changes, says):
        with pytest.raises(WorkbenchError, match=says):
            videos.ask(self.wish(videos, **changes))
        assert not videos.jobs.known()

    def test_too_many_pixels(self, tmp_path):
        desk = Desk(Room(pixels=1000), tmp_path)
        (tmp_path / "made").mkdir()
        key = bring(desk, film(2)(tmp_path / "made")).key
        with pytest.raises(ConfigError, match=r"there is room for 0\.00"):
            desk.part({"clip": key, "frames": [0, 2], "region": [0, 0, 48, 64], "truth": False})
        desk.close()


class TestRoom:
    def test_the_oldest_clips_go_first(self, desk, tmp_path):
        (tmp_path / "made").mkdir()
        content = film(2)(tmp_path / "made")
        keys = [bring(desk, content).key for _ in range(5)]
        assert len(list((desk.folder / "clips").iterdir())) == ROOM.clips
        with pytest.raises(FolderError):
            desk.clip(keys[0])
        assert desk.clip(keys[-1])

    def test_what_work_in_line_needs_stays(self, tmp_path):
        wanted = []
        desk = Desk(Room(film=ROOM.film, clips=2, bytes=1, seconds=-1), tmp_path, wanted=lambda: wanted)
        (tmp_path / "made").mkdir()
        path = desk.place()
        path.write_bytes(film(2)(tmp_path / "made"))
        wanted.append(str(path))
        clip = desk.take(path, "mine.mp4")
        for _ in range(3):
            bring(desk, path.read_bytes())
        assert desk.clip(clip.key) == clip
        assert list((desk.folder / "clips").iterdir()) == [path]
        wanted.clear()
        desk.tidy()
        assert not path.exists()
        desk.close()

    def test_what_is_old_goes(self, tmp_path):
        desk = Desk(Room(seconds=-1), tmp_path)
        (desk.folder / "clips" / "abc").write_bytes(b"x")
        desk.tidy()
        assert not list((desk.folder / "clips").iterdir())
        desk.close()

    def test_bytes_are_bounded(self, tmp_path, specimens):
        desk = Desk(Room(bytes=1), tmp_path)
        for name in ("video-1", "video-2"):
            specimens.make_scene(desk.scenes / name, frames=2)
        desk.tidy()
        assert len(desk.results()) == 1
        desk.close()

    def test_what_a_cancelled_job_left_goes(self, desk):
        (desk.scenes / ".video-1.77.partial").mkdir()
        desk.tidy()
        assert list(desk.scenes.iterdir())
        desk.tidy(working=False)
        assert not list(desk.scenes.iterdir())

    def test_taking_one_out_of_the_line_leaves_what_another_is_making(self, tmp_path):
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        services = Services(
            prepare=create_run, names=dict, command=lambda kind: sleep, methods=lambda: {"bicubic": "Bicubic"}
        )
        app, url = launch(runs=[tmp_path / "runs"], scenes=[], services=services, room=ROOM, quiet=True, wait=False)
        try:
            events = {event.api_name: index for index, event in app.fns.items()}

            def send(name, **data):
                body = {"fn_index": events[name], "data": [], "event_data": data, "session_hash": "s"}
                return httpx.post(f"{url}gradio_api/run/predict", json=body).json()["data"][0]

            key = httpx.post(f"{url}clips", content=film(2)(tmp_path)).json()["clip"]
            wish = {"clip": key, "frames": [0, 2], "region": [0, 0, 48, 64], "truth": False, "methods": ["bicubic"]}
            send("ask", **wish)
            first, second = send("ask", **wish)["jobs"]
            waited_for(lambda: send("load_4")["jobs"][0]["state"] == "working")
            half = app.studio.scenes[app.studio.own] / ".video-1.77.partial"
            half.mkdir()
            assert send("cancel_1", job=second["key"])["jobs"][1]["state"] == "cancelled"
            assert half.is_dir()
            send("cancel_1", job=first["key"])
            waited_for(lambda: not half.exists())
        finally:
            app.close()

    @pytest.mark.parametrize("system", ["unix", "windows"])
    def test_a_killed_studio_is_swept_and_a_living_one_is_not(self, tmp_path, monkeypatch, system):
        if system == "windows":
            monkeypatch.delattr(os, "getuid", raising=False)
        living, dead, link = Desk(ROOM, tmp_path), tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}link"
        dead.mkdir()
        (dead / "alive").touch()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "alive").touch()
        link.symlink_to(tmp_path / "mine")
        sweep(tmp_path)
        assert living.folder.is_dir()
        assert not dead.exists()
        assert (tmp_path / "mine" / "alive").exists()
        living.close()
        assert not living.folder.exists()


@pytest.fixture(scope="module")
def served(specimens, tmp_path_factory):
    """A studio with a run, a scene, and a result of a video; a secret lies beside them."""
    home = tmp_path_factory.mktemp("served")
    (home / "secret.txt").write_bytes(SECRET)
    run = specimens.make_run(home / "runs" / "mine")
    specimens.add_rows(run, range(1, 5))
    specimens.add_snapshot(run, 4)
    specimens.say(run, "stopped", 4)
    specimens.make_scene(home / "scenes" / "disc", frames=2)
    services = Services(
        prepare=create_run, names=dict, command=lambda kind: ["true"], methods=lambda: {"bicubic": "Bicubic"}
    )
    app, url = launch(
        runs=[home / "runs"], scenes=[home / "scenes"], services=services, room=ROOM, quiet=True, wait=False
    )
    app.home, app.url = home, url
    specimens.make_scene(app.studio.scenes[app.studio.own] / "video-1", frames=2, title="mine")
    yield app
    app.close()
    assert not app.studio.scenes[app.studio.own].exists()


WRONG = [None, True, 1e308, "../../secret.txt", "<b>", [[]], {"a": {}}]


class TestEvents:
    """Every event of every page, through the raw interface."""

    @pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(value)[:20])
    def test_wrong_types_get_a_kind_word(self, served, wrong, capfd):
        keys = (
            "step",
            "preset",
            "values",
            "keys",
            "clip",
            "frame",
            "job",
            "scene",
            "names",
            "methods",
            "region",
            "name",
        )
        with httpx.Client(base_url=served.url, timeout=30) as client:
            for index, event in served.fns.items():
                data = wrong if event.inputs else dict.fromkeys(keys, wrong)
                body = {"fn_index": index, "data": [wrong] * len(event.inputs), "event_data": data, "session_hash": "s"}
                answer = client.post("gradio_api/run/predict", json=body)
                assert answer.status_code in (200, 500), event.name
                said = answer.json()
                if answer.status_code == 500:
                    assert isinstance(said["error"], str), event.name
                    assert len(said["error"]) > 10
                assert "Traceback" not in answer.text
                assert "swordfish" not in answer.text
                assert "something went wrong in the studio" not in answer.text.lower(), (event.name, data)
        assert "Traceback" not in capfd.readouterr().err
        assert read_scene(served.home / "scenes" / "disc").frames == 2
        assert not (served.home / "runs" / "mine" / "stop").exists()
        assert [path.name for path in (served.home / "runs").iterdir()] == ["mine"]

    def test_too_few_and_too_many_values(self, served, capfd):
        with httpx.Client(base_url=served.url, timeout=30) as client:
            for index, event in served.fns.items():
                for data in ([], [1] * (len(event.inputs) + 5)):
                    body = {"fn_index": index, "data": data, "event_data": None, "session_hash": "s"}
                    assert "Traceback" not in client.post("gradio_api/run/predict", json=body).text, event.name

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff\xfe{{{",
            b"[1, 2, 3]",
            b'{"fn_index": 99999, "data": []}',
            b'{"fn_index": -1, "data": []}',
            b'{"fn_index": "0", "data": {}}',
            b'{"fn_index": 0, "data": [NaN, Infinity], "event_data": {"clip": NaN}}',
            b'{"fn_index": 0, "data": ["\\ud800"], "session_hash": "\\ud800"}',
            b'{"fn_index": 0, "data": [], "session_hash": {"a": 1}}',
            b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"data": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        ],
        ids=lambda body: str(body)[2:30],
    )
    def test_requests_that_are_none(self, served, body, capfd):
        answer = httpx.post(
            f"{served.url}gradio_api/run/predict", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (200, 400, 422, 500)
        assert "Internal Server Error" not in answer.text
        assert "Traceback" not in capfd.readouterr().err
        assert httpx.get(served.url).status_code == 200

    def test_a_large_request_is_refused_before_it_is_read(self, served):
        body = b'{"fn_index": 0, "data": ["' + b"x" * 2_100_000 + b'"]}'
        answer = httpx.post(f"{served.url}gradio_api/run/predict", content=body)
        assert answer.status_code == 413
        assert "up to 2 MB was wanted" in answer.text
        pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))  # without saying how much will come
        with suppress(httpx.TransportError):
            assert httpx.post(f"{served.url}gradio_api/run/predict", content=pieces).status_code == 400

    def test_files_come_by_no_other_way(self, served, tmp_path, monkeypatch):
        answer = httpx.post(f"{served.url}gradio_api/upload", files={"files": ("../../a.html", b"<script>")})
        assert answer.status_code == 413
        assert "page Your video" in answer.text

    def test_nothing_is_offered_to_programs(self, served):
        assert httpx.get(f"{served.url}gradio_api/info").json()["named_endpoints"] == {}


class TestRoutes:
    @pytest.mark.parametrize(
        "path",
        [
            "results/video-1/..%2f..%2falive",
            "results/..%2f..%2fruns/scores.json",
            "results/%2e%2e/scores.json",
            "results/video-2/scores.json",
            "results/video-1/secret.txt",
            "results/video-1/none.mp4",
            "results/video-1/..%2Fteacher.mp4",
            "results/disc/scores.json",
            "gradio_api/file={home}/secret.txt",
            "gradio_api/file={home}/runs/mine/run.json",
            "gradio_api/file=../secret.txt",
            "lens/scene/0/disc/../../../../secret.txt",
            "file={home}/secret.txt",
        ],
    )
    def test_nothing_else_is_served(self, served, path):
        answer = httpx.get(served.url + path.replace("{home}", quote(str(served.home))), follow_redirects=True)
        assert answer.status_code in (400, 403, 404, 405)
        assert "swordfish" not in answer.text

    def test_results_are(self, served):
        scores = httpx.get(f"{served.url}results/video-1/scores.json")
        assert json.loads(scores.text)["curves"][0]["key"] == "psnr_y_db"
        assert "attachment" in scores.headers["content-disposition"]
        archive = httpx.get(f"{served.url}results/video-1/frames.zip").content
        assert archive[:2] == b"PK"
        with av.open(io.BytesIO(httpx.get(f"{served.url}results/video-1/teacher.mp4").content)) as film_:
            assert sum(1 for _ in film_.decode(video=0)) == 2
        made = served.studio.scenes[served.studio.own].parent / "made"
        until = time.monotonic() + 120
        while list(made.iterdir()) and time.monotonic() < until:  # what was sent is removed after it was sent
            time.sleep(0.05)
        assert not list(made.iterdir())

    def test_uploads(self, served, tmp_path):
        clips = served.studio.scenes[served.studio.own].parent / "clips"
        good = httpx.post(f"{served.url}clips", content=film(3)(tmp_path), headers={"x-name": quote(MARKUP)})
        assert good.status_code == 200
        assert (clips / good.json()["clip"]).is_file()
        for content, says in ((b"text", "not a video"), (b"", "empty"), (bytes(400_001), "up to 0 MB")):
            answer = httpx.post(f"{served.url}clips", content=content, headers={"x-name": "%00../%ff"})
            assert answer.status_code == 400
            assert says in answer.json()["message"]
        assert len(list(clips.iterdir())) == 1
        assert httpx.get(f"{served.url}clips").status_code == 405

    def test_an_upload_that_breaks_off_leaves_nothing(self, served):
        clips = served.studio.scenes[served.studio.own].parent / "clips"
        before, address = set(clips.iterdir()), httpx.URL(served.url)
        head = f"POST /clips HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nContent-Length: 90000\r\n\r\n"
        with socket.create_connection((address.host, address.port), timeout=20) as line:
            line.sendall(head.encode() + bytes(40_000))
            waited_for(lambda: set(clips.iterdir()) - before)
        waited_for(lambda: set(clips.iterdir()) == before)

    @pytest.mark.parametrize("length", ["-5", "abc", "1e9", "9" * 30])
    def test_a_length_that_cannot_be(self, served, length):
        address = httpx.URL(served.url)
        head = f"POST /clips HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nContent-Length: {length}\r\n\r\nabc"
        with socket.create_connection((address.host, address.port), timeout=20) as line:
            line.sendall(head.encode())
            assert b" 400 " in line.recv(100)

    def test_a_full_disk_is_said_to_be_one(self, served, tmp_path, monkeypatch):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content, clips = film(3)(tmp_path), served.studio.scenes[served.studio.own].parent / "clips"
        before = set(clips.iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
            answer = httpx.post(f"{served.url}clips", content=content)
            assert "not enough space on the disk" in answer.json()["message"]
        with monkeypatch.context() as patch:
            patch.setattr(Desk, "place", lambda desk: raises(full))
            answer = httpx.post(f"{served.url}clips", content=content)
            assert (answer.status_code, answer.json()["message"][:31]) == (400, "the disk of the studio is full;")
        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, "write", lambda *_: raises(full))
            answer = httpx.get(f"{served.url}results/video-1/frames.zip")
            assert (answer.status_code, answer.text) == (507, "it could not be made: No space left on device")
        assert set(clips.iterdir()) == before
        assert not list((clips.parent / "made").iterdir())
        assert httpx.get(f"{served.url}results/video-1/frames.zip").status_code == 200

    def test_an_endless_upload_is_cut_off(self, served):
        address = httpx.URL(served.url)
        head = f"POST /clips HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece, sent = b"10000\r\n" + bytes(65536) + b"\r\n", 0
        with socket.create_connection((address.host, address.port), timeout=20) as line, suppress(OSError):
            line.sendall(head.encode())
            while sent < 200:
                line.sendall(piece)
                sent += 1
        assert sent < 200  # 13 MB would have been taken from somebody who may send 0.4
        clips = served.studio.scenes[served.studio.own].parent / "clips"
        assert all(path.stat().st_size < 400_000 for path in clips.iterdir())

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "[::bad", "", "10.0.0.7"]
    )
    def test_foreign_hosts(self, served, host):
        assert httpx.get(served.url, headers={"host": host}).status_code in (400, 403)

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
    def test_foreign_origins(self, served, origin):
        body = {"fn_index": 0, "data": [], "session_hash": "s"}
        for path, arguments in (("gradio_api/run/predict", {"json": body}), ("clips", {"content": b"x"})):
            answer = httpx.post(served.url + path, headers={"origin": origin}, **arguments)
            assert answer.status_code == 403
            assert "another page" in answer.text

    def test_own_names_and_a_policy(self, served):
        port = httpx.URL(served.url).port
        for name in (f"localhost:{port}", f"127.0.0.1:{port}"):
            answer = httpx.get(served.url, headers={"host": name, "origin": f"http://{name}"})
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]

    def test_where_others_may_connect_addresses_are_names_too(self):
        guard = Guard(lambda *_: None, host="0.0.0.0", names=["lab.example"])
        for own in ("192.168.1.5:7860", "[fe80::1]:7860", "lab.example:7860", "localhost"):
            assert guard.problem(own, None) == ""
        assert "not known under this name" in guard.problem("evil.example", None)

    def test_a_login_is_asked_for_everywhere(self, tmp_path):
        app, url = launch(runs=[tmp_path], scenes=[], auth={"me": "word"}, room=ROOM, quiet=True, wait=False)
        try:
            assert httpx.post(f"{url}clips", content=b"x").status_code == 401
            assert httpx.get(f"{url}results/video-1/scores.json").status_code == 401
            assert httpx.post(f"{url}gradio_api/run/predict", json={"fn_index": 0, "data": []}).status_code == 401
        finally:
            app.close()
