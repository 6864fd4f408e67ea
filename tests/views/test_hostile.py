"""Hostile requests: files that are no videos, names that are paths, values of wrong types. Each gets a clear message.

Nothing is read outside the folders of the studio, nothing crashes, no file is left.
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

from tests.videos import encode, join, numbered
from tests.visitors import Visitor, wait_until
from workbench.data.video.inspect import Limits
from workbench.errors import ConfigError, FolderError, VideoError, WorkbenchError
from workbench.runs import create_run
from workbench.scenes import read_scene
from workbench.views.studio import Services, Studio, launch
from workbench.views.studio.job_queue import JobQueue
from workbench.views.studio.request_filter import RequestFilter
from workbench.views.studio.upload_store import PREFIX, Quota, UploadStore, clean_title, delete_abandoned
from workbench.views.studio.video import Videos

SECRET = b"the password is swordfish"
MARKUP = "<img src=x onerror=alert(1)>${7*7}{{8*8}}.mp4"
QUOTA = Quota(
    file=Limits(bytes=400_000, side=512, pixels=512 * 512, frames=60, seconds=20.0), bytes=2_000_000, uploads=3
)
SESSION = "a" * 32


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


def gif(folder):
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in numbered(3))
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def bomb(folder):
    """Return ten megabytes of zeros in ten kilobytes, marked as a PNG."""
    return b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(10_000_000))


REFUSED = {
    "renamed text": (b"I am a video.\n" * 50, "not a video"),
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
    "bomb": (bomb, "an image"),
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


@pytest.fixture
def store(tmp_path):
    made = UploadStore(QUOTA, tmp_path)
    yield made
    made.close()


def content_of(kind, folder):
    made = kind(folder) if callable(kind) else kind
    return made.replace(b"{folder}", str(folder).encode()) if isinstance(made, bytes) and len(made) < 500 else made


def add(store, content, title="video.mp4", session=SESSION):
    path = store.new_file()
    path.write_bytes(content)
    return store.add(path, title, session)


def raises(error):
    raise error


class TestVideos:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_refused_and_deleted(self, store, tmp_path, kind):
        source, pattern = REFUSED[kind]
        (tmp_path / "made").mkdir()
        content = content_of(source, tmp_path / "made")
        (tmp_path / "made" / "secret.txt").write_bytes(SECRET)
        uploads = store.uploads
        (uploads / "secret.txt").write_bytes(SECRET)
        with (
            opened_in(uploads) as seen,
            opened_in(tmp_path / "made") as outside,
            pytest.raises(VideoError, match=pattern) as error,
        ):
            add(store, content)
        assert "secret.txt" not in seen
        assert "secret.txt" not in outside
        assert str(error.value).startswith("video.mp4: ")
        assert str(tmp_path) not in str(error.value)  # no path of the server
        assert [path.name for path in uploads.iterdir()] == ["secret.txt"]

    @pytest.mark.parametrize("kind", ACCEPTED)
    def test_unusual_but_accepted(self, store, tmp_path, kind):
        (tmp_path / "made").mkdir()
        clip = add(store, ACCEPTED[kind](tmp_path / "made"))
        assert clip.info.frames >= 1
        assert store.preview(clip, clip.info.frames - 1).startswith("data:image/webp;base64,")

    def test_a_file_with_a_reference_to_another_file(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        with opened_in(tmp_path / "made") as seen:
            content = points_elsewhere(tmp_path / "made")
            seen.clear()
        with opened_in(tmp_path / "made") as seen:
            try:
                add(store, content)
            except VideoError as error:
                said = str(error)
            else:
                said = "video.mp4: accepted"
        assert said.startswith("video.mp4: ")
        assert not seen

    def test_flipped_bits_are_accepted_or_refused_with_a_message(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        good, rng, said = small_video(12)(tmp_path / "made"), np.random.default_rng(0), []
        for _ in range(25):
            content = bytearray(good)
            for place in rng.integers(0, len(content), 8):
                content[place] ^= 1 << int(rng.integers(8))
            try:
                store.preview(add(store, bytes(content)), 11)
            except VideoError as error:
                said.append(str(error))
        assert all(words.startswith("video.mp4: ") for words in said)
        assert len(list((store.uploads).iterdir())) <= QUOTA.uploads


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
    def test_file_names_are_used_as_titles_only(self, store, tmp_path, name, shown):
        assert clean_title(name) == shown
        (tmp_path / "made").mkdir()
        clip = add(store, small_video(2)(tmp_path / "made"), name)
        assert clip.title == shown
        assert clip.path.parent == store.uploads
        assert clip.path.name == clip.key

    def test_long_names_are_shortened(self):
        assert len(clean_title("x" * 5000 + ".mp4")) < 80

    @pytest.mark.parametrize(
        "name", [None, 7, "", ".", "..", "../clips", "video-00000000", "a/b", "\0", ["x"], {}, "x" * 9999]
    )
    def test_names_of_results_must_exist(self, store, name):
        with pytest.raises(FolderError, match="not available"):
            store.result(name, SESSION)
        with pytest.raises(FolderError, match="not available"):
            store.delete(name, SESSION)


class TestSelections:
    """Region and frames of a video of 12 frames of 64x48."""

    @pytest.fixture
    def videos(self, store, tmp_path):
        services = Services(
            prepare=create_run, names=dict, command=lambda kind: ["true"], methods=lambda: {"bicubic": "Bicubic"}
        )
        queue = JobQueue()
        (tmp_path / "made").mkdir()
        made = Videos(Studio(runs=[tmp_path / "runs"], scenes=[]), store, queue, services)
        made.key = add(store, small_video(12)(tmp_path / "made")).key
        yield made
        queue.close()

    def request(self, videos, **changes):
        request = {
            "upload": videos.key,
            "frames": [0, 6],
            "region": [0, 0, 48, 64],
            "ground_truth": True,
            "methods": ["bicubic"],
        }
        return request | changes

    def test_a_valid_selection(self, videos):
        job = videos.submit(self.request(videos), SESSION)
        assert job.request["region"] == [0, 0, 48, 64]
        assert Path(job.request["folder"]).parent == videos.store.scenes

    @pytest.mark.parametrize(
        ("changes", "pattern"),
        [
            ({"upload": None}, "upload it again"),
            ({"upload": "../alive"}, "upload it again"),
            ({"upload": {}}, "upload it again"),
            ({"frames": None}, "want 2 whole numbers"),
            ({"frames": [0]}, "want 2 whole numbers"),
            ({"frames": ["0", "6"]}, "want 2 whole numbers"),
            ({"frames": [0.5, 6]}, "want 2 whole numbers"),
            ({"frames": [True, 6]}, "want 2 whole numbers"),
            ({"frames": [0, 10**30]}, "want 2 whole numbers"),
            ({"frames": [-1, 6]}, "want a part of 0 to 12"),
            ({"frames": [6, 6]}, "want a part of 0 to 12"),
            ({"frames": [0, 13]}, "want a part of 0 to 12"),
            ({"region": [0, 0, 48]}, "want 4 whole numbers"),
            ({"region": [0, 0, 49, 64]}, "want a part of 64x48"),
            ({"region": [-4, 0, 48, 64]}, "want a part of 64x48"),
            ({"region": [0, 0, 16, 64]}, "at least 32 pixels a side"),
            ({"region": [0, 0, -48, -64]}, "want a part of 64x48"),
            ({"ground_truth": "yes"}, "ground_truth: want"),
            ({"methods": []}, "select one to 6"),
            ({"methods": "bicubic"}, "select one to 6"),
            ({"methods": ["bicubic"] * 7}, "select one to 6"),
            ({"methods": ["/etc/passwd.pth"]}, "select from the list"),
            ({"methods": [{}]}, "select from the list"),
        ],
    )
    def test_invalid_selections_are_refused(self, videos, changes, pattern):
        with pytest.raises(WorkbenchError, match=pattern):
            videos.submit(self.request(videos, **changes), SESSION)
        assert not videos.queue.jobs()

    def test_too_many_pixels(self, tmp_path):
        store = UploadStore(Quota(pixels=1000), tmp_path)
        (tmp_path / "made").mkdir()
        key = add(store, small_video(2)(tmp_path / "made")).key
        with pytest.raises(ConfigError, match=r"at most 0\.00 million pixels"):
            store.selection({"upload": key, "frames": [0, 2], "region": [0, 0, 48, 64], "ground_truth": False}, SESSION)
        store.close()


class TestQuota:
    def test_the_oldest_uploads_are_deleted_first(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        content = small_video(2)(tmp_path / "made")
        keys = [add(store, content).key for _ in range(5)]
        assert len(list((store.uploads).iterdir())) == QUOTA.uploads
        with pytest.raises(FolderError):
            store.upload(keys[0], SESSION)
        assert store.upload(keys[-1], SESSION)

    def test_uploads_of_queued_jobs_are_kept(self, tmp_path):
        in_use = []
        store = UploadStore(Quota(file=QUOTA.file, uploads=2, bytes=1, seconds=-1), tmp_path, in_use=lambda: in_use)
        (tmp_path / "made").mkdir()
        path = store.new_file()
        path.write_bytes(small_video(2)(tmp_path / "made"))
        in_use.append(str(path))
        upload = store.add(path, "mine.mp4", SESSION)
        for _ in range(3):
            add(store, path.read_bytes())
        assert store.upload(upload.key, SESSION) == upload
        assert list((store.uploads).iterdir()) == [path]
        in_use.clear()
        store.clean()
        assert not path.exists()
        store.close()

    def test_old_uploads_are_deleted(self, tmp_path):
        store = UploadStore(Quota(seconds=-1), tmp_path)
        (store.uploads / "abc").write_bytes(b"x")
        store.clean()
        assert not list((store.uploads).iterdir())
        store.close()

    def test_the_total_size_is_bounded(self, tmp_path, specimens):
        store = UploadStore(Quota(bytes=1), tmp_path)
        for _ in range(2):
            specimens.make_scene(store.new_scene(SESSION), frames=2)
        store.clean()
        assert len(store.results(SESSION)) == 1
        store.close()

    def test_partial_results_of_canceled_jobs_are_deleted(self, store):
        (store.scenes / ".video-1.77.partial").mkdir()
        store.clean()
        assert list(store.scenes.iterdir())
        store.clean(is_working=False)
        assert not list(store.scenes.iterdir())

    def test_canceling_a_queued_job_keeps_the_partial_result_of_the_running_one(self, tmp_path):
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        services = Services(
            prepare=create_run, names=dict, command=lambda kind: sleep, methods=lambda: {"bicubic": "Bicubic"}
        )
        app, url = launch(runs=[tmp_path / "runs"], scenes=[], services=services, quota=QUOTA, quiet=True, wait=False)
        try:
            visitor = Visitor(app, url)
            upload = visitor.upload(small_video(2)(tmp_path)).json()["upload"]
            request = {"upload": upload, "frames": [0, 2], "region": [0, 0, 48, 64], "methods": ["bicubic"]}
            visitor.act(".submit", **request, ground_truth=False)
            first, second = visitor.act(".submit", **request, ground_truth=False)["jobs"]
            wait_until(lambda: visitor.page()["jobs"][0]["state"] == "running")
            partial = app.store.scenes / ".video-1.77.partial"
            partial.mkdir()
            assert visitor.act("Videos.cancel", job=second["key"])["jobs"][1]["state"] == "canceled"
            assert partial.is_dir()
            visitor.act("Videos.cancel", job=first["key"])
            wait_until(lambda: not partial.exists())
        finally:
            app.close()

    @pytest.mark.parametrize("system", ["unix", "windows"])
    def test_only_the_folder_of_a_killed_studio_is_deleted(self, tmp_path, monkeypatch, system):
        if system == "windows":
            monkeypatch.delattr(os, "getuid", raising=False)
        living, dead, link = UploadStore(QUOTA, tmp_path), tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}link"
        dead.mkdir()
        (dead / "alive").touch()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "alive").touch()
        link.symlink_to(tmp_path / "mine")
        delete_abandoned(tmp_path)
        assert living.folder.is_dir()
        assert not dead.exists()
        assert (tmp_path / "mine" / "alive").exists()
        living.close()
        assert not living.folder.exists()


@pytest.fixture(scope="module")
def served(specimens, tmp_path_factory):
    """A studio with a run, a scene, and a result of a visitor; a secret file is next to them."""
    home = tmp_path_factory.mktemp("served")
    (home / "secret.txt").write_bytes(SECRET)
    run = specimens.make_run(home / "runs" / "mine")
    specimens.add_rows(run, range(1, 5))
    specimens.add_snapshot(run, 4)
    specimens.write_status(run, "stopped", 4)
    specimens.make_scene(home / "scenes" / "disc", frames=2)
    services = Services(
        prepare=create_run, names=dict, command=lambda kind: ["true"], methods=lambda: {"bicubic": "Bicubic"}
    )
    app, url = launch(
        runs=[home / "runs"], scenes=[home / "scenes"], services=services, quota=QUOTA, quiet=True, wait=False
    )
    app.home, app.url, app.visitor = home, url, Visitor(app, url)
    app.result = specimens.make_scene(app.store.new_scene(app.visitor.session), frames=2, title="mine").name
    yield app
    app.close()
    assert not app.store.folder.exists()


WRONG = [None, True, 1e308, "../../secret.txt", "<b>", [[]], {"a": {}}]


class TestEvents:
    """Every event of every page, through the raw interface."""

    @pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(value)[:20])
    def test_values_of_wrong_types_get_a_message(self, served, wrong, capfd):
        keys = (
            "step",
            "preset",
            "values",
            "keys",
            "upload",
            "frame",
            "job",
            "scene",
            "names",
            "methods",
            "region",
            "name",
            "ground_truth",
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
                assert "internal error" not in answer.text.lower(), (event.name, data)
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
            b'{"fn_index": 0, "data": [NaN, Infinity], "event_data": {"upload": NaN}}',
            b'{"fn_index": 0, "data": ["\\ud800"], "session_hash": "\\ud800"}',
            b'{"fn_index": 0, "data": [], "session_hash": {"a": 1}}',
            b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"data": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        ],
        ids=lambda body: str(body)[2:30],
    )
    def test_invalid_requests(self, served, body, capfd):
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
        assert "at most 2 MB" in answer.text
        pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))  # without a Content-Length
        with suppress(httpx.TransportError):
            assert httpx.post(f"{served.url}gradio_api/run/predict", content=pieces).status_code == 400

    def test_the_upload_route_of_gradio_is_closed(self, served):
        answer = httpx.post(f"{served.url}gradio_api/upload", files={"files": ("../../a.html", b"<script>")})
        assert answer.status_code == 413
        assert "page Your video" in answer.text

    def test_the_public_api_is_empty(self, served):
        assert httpx.get(f"{served.url}gradio_api/info").json()["named_endpoints"] == {}


class TestRoutes:
    @pytest.mark.parametrize(
        "path",
        [
            "results/{result}/..%2f..%2falive",
            "results/..%2f..%2fruns/scores.json",
            "results/%2e%2e/scores.json",
            "results/video-2/scores.json",
            "results/{result}/secret.txt",
            "results/{result}/none.mp4",
            "results/{result}/..%2Fteacher.mp4",
            "results/disc/scores.json",
            "gradio_api/file={home}/secret.txt",
            "gradio_api/file={home}/runs/mine/run.json",
            "gradio_api/file=../secret.txt",
            "lens/scene/0/disc/../../../../secret.txt",
            "file={home}/secret.txt",
        ],
    )
    def test_nothing_else_is_served(self, served, path):
        path = path.replace("{home}", quote(str(served.home))).replace("{result}", served.result)
        answer = served.visitor.client.get(path, follow_redirects=True)
        assert answer.status_code in (400, 403, 404, 405)
        assert "swordfish" not in answer.text

    def test_results_can_be_downloaded(self, served):
        get = served.visitor.client.get
        scores = get(f"results/{served.result}/scores.json")
        assert json.loads(scores.text)["curves"][0]["key"] == "psnr_y_db"
        assert "attachment" in scores.headers["content-disposition"]
        archive = get(f"results/{served.result}/frames.zip").content
        assert archive[:2] == b"PK"
        with av.open(io.BytesIO(get(f"results/{served.result}/teacher.mp4").content)) as film_:
            assert sum(1 for _ in film_.decode(video=0)) == 2
        wait_until(lambda: not list(served.store.exports.iterdir()))  # files are deleted after they were sent

    def test_uploads(self, served, tmp_path):
        good = served.visitor.upload(small_video(3)(tmp_path), quote(MARKUP))
        assert good.status_code == 200
        assert (served.store.uploads / good.json()["upload"]).is_file()
        for content, message in ((b"text", "not a video"), (b"", "empty"), (bytes(400_001), "at most 0 MB")):
            answer = served.visitor.upload(content, "%00../%ff")
            assert answer.status_code == 400
            assert message in answer.json()["message"]
        assert len(list(served.store.uploads.iterdir())) == 1
        assert served.visitor.status("uploads") == 405

    @pytest.fixture
    def upload_header(self, served):
        address, cookie = httpx.URL(served.url), f"workbench-session={served.visitor.session}"
        return f"POST /uploads HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nCookie: {cookie}\r\n"

    @pytest.fixture
    def connection(self, served):
        address = httpx.URL(served.url)
        with socket.create_connection((address.host, address.port), timeout=20) as made:
            yield made

    def test_an_interrupted_upload_is_deleted(self, served, upload_header, connection):
        uploads = served.store.uploads
        before = set(uploads.iterdir())
        connection.sendall(f"{upload_header}Content-Length: 90000\r\n\r\n".encode() + bytes(40_000))
        wait_until(lambda: set(uploads.iterdir()) - before)
        connection.close()
        wait_until(lambda: set(uploads.iterdir()) == before)

    @pytest.mark.parametrize("length", ["-5", "abc", "1e9", "9" * 30])
    def test_an_invalid_length(self, upload_header, connection, length):
        connection.sendall(f"{upload_header}Content-Length: {length}\r\n\r\nabc".encode())
        assert b" 400 " in connection.recv(100)

    def test_a_full_disk_is_reported(self, served, tmp_path, monkeypatch):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content, before = small_video(3)(tmp_path), set(served.store.uploads.iterdir())
        visitor, archive = served.visitor, f"results/{served.result}/frames.zip"
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
            assert "not enough space on the disk" in visitor.upload(content).json()["message"]
        with monkeypatch.context() as patch:
            patch.setattr(UploadStore, "new_file", lambda store: raises(full))
            answer = visitor.upload(content)
            assert (answer.status_code, answer.json()["message"][:31]) == (400, "the disk of the studio is full;")
        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, "write", lambda *_: raises(full))
            answer = visitor.client.get(archive)
            assert answer.status_code == 507
            assert "No space left on device" in answer.text
        assert set(served.store.uploads.iterdir()) == before
        assert not list(served.store.exports.iterdir())
        assert visitor.status(archive) == 200

    def test_an_endless_upload_is_cut_off(self, served, upload_header, connection):
        chunk, sent = b"10000\r\n" + bytes(65536) + b"\r\n", 0
        with suppress(OSError):
            connection.sendall(f"{upload_header}Transfer-Encoding: chunked\r\n\r\n".encode())
            while sent < 200:
                connection.sendall(chunk)
                sent += 1
        assert sent < 200  # 13 MB, where 0.4 are allowed
        assert all(path.stat().st_size < 400_000 for path in served.store.uploads.iterdir())

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "[::bad", "", "10.0.0.7"]
    )
    def test_foreign_hosts(self, served, host):
        assert httpx.get(served.url, headers={"host": host}).status_code in (400, 403)

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
    def test_foreign_origins(self, served, origin):
        body = {"fn_index": 0, "data": [], "session_hash": "s"}
        for path, arguments in (("gradio_api/run/predict", {"json": body}), ("uploads", {"content": b"x"})):
            answer = httpx.post(served.url + path, headers={"origin": origin}, **arguments)
            assert answer.status_code == 403
            assert "another site" in answer.text

    def test_own_names_and_the_content_policy(self, served):
        port = httpx.URL(served.url).port
        for name in (f"localhost:{port}", f"127.0.0.1:{port}"):
            answer = httpx.get(served.url, headers={"host": name, "origin": f"http://{name}"})
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]

    def test_a_public_studio_accepts_addresses_as_host_names(self):
        request_filter = RequestFilter(lambda *_: None, host="0.0.0.0", names=["lab.example"])
        for own in ("192.168.1.5:7860", "[fe80::1]:7860", "lab.example:7860", "localhost"):
            assert request_filter.problem(own, None) == ""
        assert "no such host name" in request_filter.problem("evil.example", None)

    def test_every_route_requires_the_login(self, tmp_path):
        app, url = launch(runs=[tmp_path], scenes=[], auth={"me": "word"}, quota=QUOTA, quiet=True, wait=False)
        try:
            assert httpx.post(f"{url}uploads", content=b"x").status_code == 401
            assert httpx.get(f"{url}results/video-1/scores.json").status_code == 401
            assert httpx.post(f"{url}gradio_api/run/predict", json={"fn_index": 0, "data": []}).status_code == 401
        finally:
            app.close()
