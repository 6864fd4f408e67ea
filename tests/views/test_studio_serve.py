"""Addresses of files, login and hosts of a served studio."""

import os
import shutil

import httpx
import pytest

from tests import specimens
from tests.visitors import make_services
from workbench.errors import ConfigError, FolderError
from workbench.views.serving import SceneFileServer, StaleError
from workbench.views.studio import launch


class TestServing:
    @pytest.fixture
    def files(self, run, scene_folder):
        return SceneFileServer(runs=[run.folder.parent], scenes=[scene_folder.parent])

    def test_an_address_is_resolved_to_its_file(self, files, run, scene_folder):
        for folder in (
            scene_folder / "frames" / "low",
            scene_folder / "overlays" / "memory" / "teacher",
            run.folder / "validation_clip" / "frames" / "high",
            run.folder / "snapshots" / "0000020" / "overlays" / "attention" / "student",
        ):
            address = files.url(folder).removeprefix("lens/")
            assert files.find(f"{address}/00001.webp") == (folder / "00001.webp").resolve()

    def test_nothing_else_has_an_address(self, files, run, scene_folder, tmp_path):
        (run.folder / "weights").mkdir()
        (run.folder / "weights" / "student.safetensors").write_bytes(b"w")
        (run.folder / "frames" / "state").mkdir(parents=True)
        shutil.copy(scene_folder / "frames" / "low" / "00000.webp", run.folder / "frames" / "state" / "00000.webp")
        address = files.url(run.folder / "validation_clip" / "frames" / "high").removeprefix("lens/")
        token = address.split("/")[4]
        for bad in (
            f"{address}/00099.webp",
            f"{address}/0.webp",
            f"{address}/00000.webp/x",
            address.replace("frames/high", "../weights") + "/student.safetensors",
            f"run/0/mine/{token}/frames/state/00000.webp",
            f"run/0/mine/validation_clip/{token}/scene.json",
            f"run/7/mine/validation_clip/{token}/frames/high/00000.webp",
            f"run/0/../mine/validation_clip/{token}/frames/high/00000.webp",
            f"scene/0/disc/probe/{token}/frames/high/00000.webp",
            "",
        ):
            with pytest.raises(FolderError, match="URL"):
                files.find(bad)
        with pytest.raises(FolderError, match="not in a folder"):
            files.url(tmp_path)

    def test_links_out_of_the_scene_are_refused(self, tmp_path):
        folder = specimens.make_scene(tmp_path / "scenes" / "linked", frames=2)
        secret = tmp_path / "secret.webp"
        secret.write_bytes(b"secret")
        image = folder / "frames" / "low" / "00000.webp"
        image.unlink()
        image.symlink_to(secret)
        files = SceneFileServer(runs=[], scenes=[tmp_path / "scenes"])
        with pytest.raises(FolderError):
            files.find(files.url(image.parent).removeprefix("lens/") + "/00000.webp")

    def test_a_rewritten_scene_has_new_addresses(self, tmp_path):
        folder = specimens.make_scene(tmp_path / "scenes" / "twice", frames=2)
        files = SceneFileServer(runs=[], scenes=[tmp_path / "scenes"])
        old = files.url(folder / "frames" / "low")
        os.utime(folder / "scene.json", ns=(1, 1))
        assert files.url(folder / "frames" / "low") != old
        with pytest.raises(StaleError):
            files.find(old.removeprefix("lens/") + "/00000.webp")

    def test_files_are_served_over_http(self, run, scene_folder):
        app, url = launch(runs=[run.folder.parent], scenes=[scene_folder.parent], services=make_services())
        try:
            address = app.studio.files.url(scene_folder / "frames" / "teacher")
            answer = httpx.get(f"{url}{address}/00000.webp")
            assert answer.content == (scene_folder / "frames" / "teacher" / "00000.webp").read_bytes()
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["content-type"] == "image/webp"
            for path, status in (
                (f"{address}/00099.webp", 404),
                ("lens/run/0/mine/run.json", 404),
                (f"{address.replace(address.split('/')[4], 'abc')}/00000.webp", 410),
                (f"gradio_api/file={run.folder / 'run.json'}", 403),
                (f"gradio_api/file={scene_folder / 'scene.json'}", 403),
            ):
                assert httpx.get(url + path).status_code == status, path
            assert httpx.post(f"{url}{address}/00000.webp").status_code == 405
            named = httpx.get(f"{url}gradio_api/info").json()["named_endpoints"]
            assert named == {}
        finally:
            app.close()

    def test_files_need_the_login_of_the_pages(self, scene_folder):
        app, url = launch(runs=[], scenes=[scene_folder.parent], auth={"me": "word"}, services=make_services())
        try:
            address = f"{url}{app.studio.files.url(scene_folder / 'frames' / 'low')}/00000.webp"
            assert httpx.get(address).status_code == 401
            with httpx.Client() as client:
                client.post(f"{url}login", data={"username": "me", "password": "word"})
                assert client.get(address).status_code == 200
        finally:
            app.close()

    def test_the_run_of_the_address_is_shown_first(self, run):
        app, url = launch(runs=[run.folder.parent], scenes=[], services=make_services())
        try:
            names = [(getattr(event.fn, "__qualname__", ""), index) for index, event in app.fns.items()]
            events = {name.removeprefix("run_view.<locals>."): index for name, index in reversed(names)}
            for name, shown in (("tick", False), ("load", True)):
                body = {
                    "fn_index": events[name],
                    "data": [None] * len(app.fns[events[name]].inputs),
                    "session_hash": "s",
                }
                answer = httpx.post(f"{url}gradio_api/run/predict", json=body)
                assert ("mine-40" in answer.text) == shown, name
        finally:
            app.close()

    def test_other_computers_need_a_password(self):
        with pytest.raises(ConfigError, match="password"):
            launch(runs=[], scenes=[], host="0.0.0.0", services=make_services())
