"""Clips that are written for the lens; addresses of images are tested with the studio."""

import os

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests import specimens
from workbench.data.video.read import read_video
from workbench.errors import FolderError
from workbench.scenes import read_scene
from workbench.views import serving
from workbench.views.serving import SceneFileServer, StaleError


@pytest.fixture
def scene(tmp_path):
    return read_scene(specimens.make_scene(tmp_path / "scenes" / "disc", frames=4))


@pytest.fixture
def files(run, scene):
    return SceneFileServer(runs=[run.folder.parent], scenes=[scene.folder.parent])


@pytest.fixture
def client(files):
    return TestClient(Starlette(routes=[files.route()]))


def clip_address(files, folder, methods):
    return files.url(folder / "frames" / "x").replace("/frames/x", f"/clips/{methods}.webm")


def test_the_clip_contains_every_pixel_of_the_methods_side_by_side(files, client, scene, tmp_path):
    answer = client.get("/" + clip_address(files, scene.folder, "low+distilled+teacher"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/webm")
    (tmp_path / "clip.webm").write_bytes(answer.content)
    read = read_video(tmp_path / "clip.webm").frames
    low = scene.clip("low").repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(read, np.concatenate([low, scene.clip("distilled"), scene.clip("teacher")], 2))


def test_a_snapshot_is_combined_with_the_validation_clip(files, run, tmp_path):
    address = clip_address(files, run.folder / "snapshots" / "0000020", "student+teacher").removeprefix("lens/")
    scene, methods = files.clip(address)
    path = serving.write_clip(scene, methods, tmp_path / "clip.webm")
    student, teacher = read_scene(run.folder / "snapshots" / "0000020"), read_scene(run.folder / "validation_clip")
    expected = np.concatenate([student.clip("student"), teacher.clip("teacher")], 2)
    np.testing.assert_array_equal(read_video(path).frames, expected)


def test_invalid_addresses_of_clips_are_refused(files, client, scene, monkeypatch, tmp_path):
    address = clip_address(files, scene.folder, "teacher")
    token = address.split("/")[4]
    for bad, words in (
        (address.replace("teacher.webm", "missing.webm"), "no method 'missing'"),
        (address.replace("teacher.webm", "teacher+.webm"), "URL"),
        (address.replace("teacher.webm", "../teacher.webm"), "URL"),
        (address.replace("/clips/", "/frames/"), "URL"),
        (address.replace(f"/disc/{token}", f"/other/{token}"), "URL"),
    ):
        with pytest.raises(FolderError, match=words):
            files.clip(bad.removeprefix("lens/"))
        assert client.get("/" + bad).status_code == 404
    with pytest.raises(StaleError):
        files.clip(address.removeprefix("lens/").replace(token, "abc"))
    assert client.get("/" + address.replace(token, "abc")).status_code == 410
    with monkeypatch.context() as patch:
        patch.setattr(serving, "MAX_PIXELS", 4 * 48 * 64 - 1)
        with pytest.raises(FolderError, match="clip: want at most"):
            files.clip(address.removeprefix("lens/"))
    outside = tmp_path / "outside.webp"
    os.rename(scene.frame_path("teacher", 1), outside)
    scene.frame_path("teacher", 1).symlink_to(outside)
    with pytest.raises(FolderError, match="missing"):
        files.clip(address.removeprefix("lens/"))


def test_one_clip_at_a_time_and_no_files_are_left(files, client, scene, monkeypatch, tmp_path):
    monkeypatch.setattr(serving.tempfile, "tempdir", str(tmp_path))
    address = "/" + clip_address(files, scene.folder, "plain")
    files._writing.acquire()
    answer = client.get(address)
    assert (answer.status_code, answer.text) == (503, "another clip is being written; try again when it is done")
    files._writing.release()
    assert client.get(address).status_code == 200
    assert not list(tmp_path.glob("workbench-clip-*"))
    scene.frame_path("plain", 2).write_bytes(b"not an image")
    assert client.get(address).status_code == 500
    assert not list(tmp_path.glob("workbench-clip-*"))
    assert files._writing.acquire(blocking=False)
