"""Hostile requests to events and routes of the studio: each has a clear answer, and no file remains."""

import errno
import io
import json
import os
import shutil
import socket
import zipfile
from contextlib import suppress
from types import SimpleNamespace
from urllib.parse import quote

import av
import httpx
import pytest

from tests.hostile_videos import small_video
from tests.views.uploads import MARKUP, QUOTA, raises
from tests.visitors import make_services, wait_until
from workbench.scenes import read_scene
from workbench.views.studio import launch
from workbench.views.studio.request_filter import RequestFilter
from workbench.views.studio.upload_store import UploadStore

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
    def test_invalid_requests_are_answered(self, served, body, capfd):
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
        with av.open(io.BytesIO(get(f"results/{served.result}/teacher.mp4").content)) as video_file:
            assert sum(1 for _ in video_file.decode(video=0)) == 2
        wait_until(lambda: not list(served.store.exports.iterdir()))  # files are deleted after they were sent

    def test_uploads_over_http(self, served, tmp_path):
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
    def test_an_invalid_length_is_rejected(self, upload_header, connection, length):
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
    def test_foreign_hosts_are_rejected(self, served, host):
        assert httpx.get(served.url, headers={"host": host}).status_code in (400, 403)

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
    def test_foreign_origins_are_rejected(self, served, origin):
        body = {"fn_index": 0, "data": [], "session_hash": "s"}
        for path, arguments in (("gradio_api/run/predict", {"json": body}), ("uploads", {"content": b"x"})):
            answer = httpx.post(served.url + path, headers={"origin": origin}, **arguments)
            assert answer.status_code == 403
            assert "another site" in answer.text

    def test_own_host_names_are_accepted_with_a_content_policy(self, served):
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

    def test_only_named_sites_can_show_the_studio_in_a_frame(self):
        async def page(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})

        def headers(**settings):
            sent = []
            scope = {"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}
            answer = RequestFilter(page, host="0.0.0.0", **settings)(scope, receive=None, send=collect(sent))
            with pytest.raises(StopIteration):  # it awaits nothing, and browser tests leave a running event loop
                answer.send(None)
            return {name: value.decode() for name, value in sent[0]["headers"]}

        def collect(sent):
            async def send(message):
                sent.append(message)

            return send

        alone, framed = headers(), headers(frame_ancestors=["https://huggingface.co"])
        assert alone[b"content-security-policy"].endswith("frame-ancestors 'self'")
        assert framed[b"content-security-policy"].endswith("frame-ancestors 'self' https://huggingface.co")
        assert "SameSite=Lax" in alone[b"set-cookie"]
        assert "SameSite=None; Secure" in framed[b"set-cookie"]

    def test_every_route_requires_the_login(self, tmp_path):
        app, url = launch(runs=[tmp_path], scenes=[], auth={"me": "word"}, quota=QUOTA, services=make_services())
        try:
            assert httpx.post(f"{url}uploads", content=b"x").status_code == 401
            assert httpx.get(f"{url}results/video-1/scores.json").status_code == 401
            assert httpx.post(f"{url}gradio_api/run/predict", json={"fn_index": 0, "data": []}).status_code == 401
        finally:
            app.close()
