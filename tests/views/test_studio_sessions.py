"""Uploads and results belong to one browser session and end with it, with and without a login: over the real server."""

import json
import os
import sys
import textwrap
import time
from types import SimpleNamespace

import httpx
import pytest

from tests import specimens
from tests.videos import encode, numbered
from tests.visitors import Visitor, image_address, make_services, wait_until
from workbench.errors import FolderError
from workbench.scenes import read_scene
from workbench.views.studio import launch
from workbench.views.studio.folders import Studio
from workbench.views.studio.sessions import BrowserSessions
from workbench.views.studio.upload_store import Quota, UploadStore

USERS = {"ann": "one", "bob": "two"}
JOB = """
import json, pathlib, shutil, sys, time
request = json.load(sys.stdin)
if not request["ground_truth"]:
    print(json.dumps({"status": "working"}), flush=True)
    time.sleep(120)
folder = pathlib.Path(request["folder"])
shutil.copytree(sys.argv[1], folder)
record = json.loads((folder / "scene.json").read_text()) | {"name": folder.name}
(folder / "scene.json").write_text(json.dumps(record))
print(json.dumps({"result": {}}))
"""


@pytest.fixture
def services(scene_folder, tmp_path):
    (tmp_path / "job.py").write_text(textwrap.dedent(JOB))
    return make_services(
        command=lambda kind: [sys.executable, str(tmp_path / "job.py"), str(scene_folder)],
        methods=lambda: {"bicubic": "Bicubic"},
    )


@pytest.fixture
def open_studio(services, tmp_path):
    """Serves a studio and opens it in two browsers."""
    (tmp_path / "scenes").mkdir()
    opened = []

    def open_(auth=None, **options):
        app, url = launch(
            runs=[tmp_path / "runs"], scenes=[tmp_path / "scenes"], services=services, auth=auth, **options,
        )  # fmt: skip
        opened.append(app)
        return app, *(Visitor(app, url, login if auth else None) for login in USERS.items())

    yield open_
    for app in opened:
        app.close()


@pytest.fixture
def make_result(tmp_path):
    """Uploads a video and lets it be upscaled; returns keys and names."""
    content = encode(tmp_path / "video.mp4", numbered(6)).read_bytes()

    def make(visitor):
        upload = visitor.upload(content, "secret.mp4").json()["upload"]
        request = {"upload": upload, "frames": [0, 6], "region": [0, 0, 48, 64], "methods": ["bicubic"]}
        assert visitor.act(".submit", **request, ground_truth=True)["problem"] == ""
        wait_until(lambda: visitor.page()["results"])
        return SimpleNamespace(upload=upload, request=request, scene=visitor.page()["results"][0]["name"])

    return make


@pytest.mark.parametrize("auth", [None, USERS], ids=["without login", "with login"])
def test_another_session_cannot_list_or_fetch_uploads_and_results(open_studio, make_result, auth):
    app, ann, bob = open_studio(auth)
    made = make_result(ann)
    own, image = f"{app.studio.results_index}/{made.scene}", image_address(app, made.scene)
    video = image.replace("frames/low/00000.webp", "clips/low.webm")
    routes = [image, video, f"results/{made.scene}/scores.json", f"results/{made.scene}/frames.zip"]
    for visitor, status in ((ann, 200), (bob, 404)):
        assert [visitor.status(path) for path in routes] == [status] * len(routes)
    assert ann.page()["upload"]["key"] == made.upload
    assert ann.scenes() == [own]
    page = json.dumps(bob.page())
    assert not any(text in page for text in ("secret", made.upload, made.scene))
    assert bob.scenes() == []


def test_requests_for_names_of_another_session_are_refused(open_studio, make_result):
    app, ann, bob = open_studio()
    made = make_result(ann)
    own, image = f"{app.studio.results_index}/{made.scene}", image_address(app, made.scene)
    unknown = bob.act("Videos.open", upload="0" * 16, frame=0)
    assert bob.act("Videos.open", upload=made.upload, frame=0) == unknown
    assert "upload it again" in unknown["problem"]
    assert "upload it again" in bob.act(".submit", **made.request, ground_truth=True)["problem"]
    for action in ("Videos.delete", "Videos.save"):
        assert "not available" in bob.act(action, scene=made.scene)["problem"]
    assert "not in the list" in bob.send("compare_page.<locals>.pick", [own])["error"]
    assert "no scene" in app.studio.scene(own, bob.session)[0]["message"]
    assert app.studio.scene(own, ann.session)[0]["frame_count"] == 8
    stale = image.replace(image.split("/")[4], "abc")  # token of a scene that was rewritten
    assert (ann.status(stale), bob.status(stale)) == (410, 404)
    index = app.studio.results_index
    assert bob.status(image.replace(f"/{index}/", f"/0{index}/")) == 404
    assert ann.status(image) == 200
    assert ann.act("Videos.open", upload=made.upload, frame=1)["problem"] == ""
    assert ann.act("Videos.delete", scene=made.scene)["results"] == []
    assert ann.status(image) == 404


def test_another_tab_of_the_same_browser_has_the_same_uploads(open_studio, make_result):
    _, ann, _ = open_studio()
    made = make_result(ann)
    ann.session_hash = "another"
    assert ann.page()["upload"]["key"] == made.upload
    assert ann.status(f"results/{made.scene}/scores.json") == 200


def test_jobs_belong_to_a_session(open_studio, make_result):
    _, ann, bob = open_studio()
    made = make_result(ann)
    ann.act(".submit", **made.request, ground_truth=False)  # takes two minutes
    wait_until(lambda: ann.page()["jobs"][0]["state"] == "running")
    (job,) = ann.page()["jobs"]
    page = bob.page()
    assert (page["jobs"], page["other"]) == ([], "upscale")
    assert bob.act("Videos.cancel", job=job["key"]) == bob.act("Videos.cancel", job="0" * 16)
    assert ann.page()["jobs"][0]["state"] == "running"
    assert ann.act("Videos.cancel", job=job["key"])["jobs"][0]["state"] == "canceled"


def test_files_are_deleted_and_jobs_canceled_when_the_session_ends(open_studio, make_result):
    app, ann, bob = open_studio()
    app.sessions._grace_seconds = 0.0
    made, other = make_result(ann), make_result(bob)
    ann.act(".submit", **made.request, ground_truth=False)
    ann.leave()
    wait_until(lambda: not app.sessions.is_open(ann.session))
    wait_until(lambda: [path.name for path in app.store.scenes.iterdir()] == [other.scene])
    assert [path.name for path in app.store.uploads.iterdir()] == [other.upload]
    wait_until(lambda: bob.page()["other"] == "")
    assert ann.upload(b"").status_code == 403  # before a page is opened again
    ann.send("open_page")
    assert ann.page()["results"] == ann.scenes() == []
    assert ann.status(f"results/{made.scene}/scores.json") == 404
    assert bob.page()["upload"]["key"] == other.upload


def test_a_reload_within_the_grace_period_keeps_the_files(open_studio, make_result):
    app, ann, _ = open_studio()
    made = make_result(ann)
    ann.leave()
    wait_until(lambda: not app.sessions._pages[ann.session])
    ann.session_hash = "reloaded"
    ann.send("open_page")
    assert not app.sessions._timers
    assert ann.page()["upload"]["key"] == made.upload


def test_a_login_starts_a_new_session(open_studio, make_result):
    _, ann, _ = open_studio(USERS)
    make_result(ann)
    before = ann.session
    ann.client.post("login", data={"username": "bob", "password": USERS["bob"]})
    assert ann.session != before
    ann.send("open_page")
    assert ann.page()["results"] == []


def test_uploads_need_an_open_page(open_studio):
    _, ann, _ = open_studio()
    for cookies in ({}, {"workbench-session": "0" * 32}, {"workbench-session": "../../x"}, {"workbench-session": ""}):
        answer = httpx.post(f"{ann.url}uploads", content=b"x", cookies=cookies)
        assert (answer.status_code, answer.headers["connection"]) == (403, "close")


def test_save_as_scene_where_the_operator_allows_it(open_studio, make_result, tmp_path):
    app, ann, bob = open_studio(save_scenes=True)
    app.sessions._grace_seconds = 0.0
    made = make_result(ann)
    assert ann.page()["can_save"] is True
    assert [one["saved"] for one in ann.page()["results"]] == [False]
    for _ in range(2):
        assert [one["saved"] for one in ann.act("Videos.save", scene=made.scene)["results"]] == [True]
    assert ann.scenes() == bob.scenes() == [f"0/{made.scene}"]
    ann.leave()
    wait_until(lambda: not list(app.store.scenes.iterdir()))
    assert read_scene(tmp_path / "scenes" / made.scene).frames == 8


def test_save_as_scene_is_refused_where_it_is_not_allowed(open_studio, make_result, tmp_path):
    _, ann, _ = open_studio()
    made = make_result(ann)
    assert ann.page()["can_save"] is False
    assert "--save-scenes" in ann.act("Videos.save", scene=made.scene)["problem"]
    assert not list((tmp_path / "scenes").iterdir())


def test_runs_and_scenes_of_the_folders_are_visible_to_everybody(open_studio, tmp_path):
    app, *visitors = open_studio(USERS)
    folder = specimens.make_scene(tmp_path / "scenes" / "disc", frames=2)
    address = f"{app.studio.files.url(folder / 'frames' / 'low')}/00000.webp"
    for visitor in visitors:
        assert visitor.scenes() == ["0/disc"]
        assert visitor.status(address) == 200


def test_an_old_upload_is_deleted_when_the_page_is_loaded(open_studio, make_result):
    app, ann, _ = open_studio()
    made = make_result(ann)
    old = time.time() - 25 * 3600
    os.utime(app.store.uploads / made.upload, (old, old))
    assert "upload" not in ann.page()
    assert not list(app.store.uploads.iterdir())


class TestUploadStore:
    @pytest.fixture
    def store(self, tmp_path):
        made = UploadStore(Quota(saved=2), tmp_path, saved_scenes=tmp_path / "scenes")
        yield made
        made.close()

    def test_saved_results_are_listed_once_and_outlive_the_store(self, store, tmp_path):
        name = specimens.make_scene(store.new_scene("ann"), frames=2).name
        studio = Studio(runs=[], scenes=[tmp_path / "scenes"], results=store.scenes, owns=store.owns)
        assert [value for _, value in studio.scene_choices("ann")] == [f"1/{name}"]
        assert studio.scene_choices("bob") == studio.scene_choices("") == []
        store.save_as_scene(name, "ann")
        assert [value for _, value in studio.scene_choices("ann")] == [f"0/{name}"]
        store.close()
        assert [path.name for path in (tmp_path / "scenes").iterdir()] == [name]

    def test_the_number_of_saved_results_is_limited(self, store):
        names = [specimens.make_scene(store.new_scene("ann"), frames=2).name for _ in range(3)]
        for name in names[:2]:
            store.save_as_scene(name, "ann")
        with pytest.raises(FolderError, match=r"scenes: .*2"):
            store.save_as_scene(names[2], "ann")

    def test_a_result_that_cannot_be_copied_is_not_saved(self, store, tmp_path):
        (tmp_path / "scenes").write_text("not a folder")
        name = specimens.make_scene(store.new_scene("ann"), frames=2).name
        with pytest.raises(FolderError, match="cannot be saved"):
            store.save_as_scene(name, "ann")
        assert not store.is_saved(name)

    def test_a_scene_without_a_session_is_deleted(self, store):
        kept = specimens.make_scene(store.new_scene("ann"), frames=2)
        specimens.make_scene(store.scenes / "video-1", frames=2)
        store.clean()
        assert list(store.scenes.iterdir()) == [kept]

    def test_the_empty_session_owns_nothing(self, store):
        name = specimens.make_scene(store.new_scene(""), frames=2).name
        assert not store.owns(name, "")
        assert store.results("") == []


def test_a_session_ends_once_after_its_last_page():
    ended = []
    sessions = BrowserSessions(ended.append, grace_seconds=0.0)

    def request(page, session="a" * 32):
        return SimpleNamespace(cookies={"workbench-session": session}, session_hash=page)

    for page in ("one", "two"):
        sessions.open_page(request(page))
    sessions.close_page(request("one"))
    sessions.close_page(request("one"))
    sessions.close_page(request("two", "b" * 32))  # a page of another session
    assert sessions.is_open("a" * 32)
    assert not ended
    sessions.close_page(request("two"))
    wait_until(lambda: ended == ["a" * 32])
    assert not sessions.is_open("a" * 32)
    sessions.open_page(request("three", ""))
    assert not sessions.is_open("")
