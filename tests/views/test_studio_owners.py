"""Two people log in: what one brought, and what was made of it, is not there for the other. Over the real server."""

import json
import os
import socket
import stat
import sys
import textwrap
import time
from types import SimpleNamespace

import httpx
import pytest

from tests.films import encode, numbered
from workbench.errors import BusyError, FolderError
from workbench.runs import create_run
from workbench.scenes import read_scene
from workbench.views.studio import Services, launch
from workbench.views.studio.desk import Desk, Room
from workbench.views.studio.folders import Studio
from workbench.views.studio.owners import LEFT_SECONDS, Owners
from workbench.views.studio.serve import PEOPLE
from workbench.views.studio.video import keeping

USERS = {"ann": "one", "bob": "two"}
WORK = """
import json, pathlib, shutil, sys, time
order = json.load(sys.stdin)
if not order["truth"]:
    print(json.dumps({"say": "thinking"}), flush=True)
    time.sleep(120)
made = pathlib.Path(order["folder"])
shutil.copytree(sys.argv[1], made)
told = json.loads((made / "scene.json").read_text()) | {"name": made.name}
(made / "scene.json").write_text(json.dumps(told))
print(json.dumps({"done": {}}))
"""


class Person:
    """Somebody at a browser."""

    def __init__(self, app, url, name):
        self.app, self.name, self.client = app, name, httpx.Client(base_url=url, timeout=30)
        assert self.client.post("login", data={"username": name, "password": USERS[name]}).status_code == 200

    def get(self, path):
        return self.client.get(path).status_code

    def event(self, name, data=(), event=None):
        """The answer of an event, by the qualified name of its handler."""
        index = next(index for index, one in self.app.fns.items() if name in getattr(one.fn, "__qualname__", ""))
        body = {"fn_index": index, "data": list(data), "event_data": event, "session_hash": self.name}
        return self.client.post("gradio_api/run/predict", json=body).json()

    def page(self):
        """What the page Your video shows."""
        return self.event("video_page.<locals>.load")["data"][0]

    def scenes(self):
        """What can be chosen on the page Compare."""
        return [value for _, value in self.event("compare_page.<locals>.load")["data"][0]["choices"]]

    def act(self, name, **data):
        answer = self.event(f"video_page.<locals>.{name}", event=data)["data"]
        return answer[0].get("problem", "")


@pytest.fixture
def open_studio(scene_folder, tmp_path):
    """Opens a studio for the two, again and again on the same folders."""
    (tmp_path / "work.py").write_text(textwrap.dedent(WORK))
    (tmp_path / "scenes").mkdir()
    services = Services(
        prepare=create_run,
        names=dict,
        command=lambda kind: [sys.executable, str(tmp_path / "work.py"), str(scene_folder)],
        methods=lambda: {"bicubic": "Bicubic"},
    )
    opened = []

    def start():
        app, url = launch(
            runs=[tmp_path / "runs"],
            scenes=[tmp_path / "scenes"],
            services=services,
            auth=USERS,
            quiet=True,
            wait=False,
        )
        opened.append(app)
        return app, *(Person(app, url, name) for name in USERS)

    yield start
    for app in opened:
        app.close()


@pytest.fixture
def bring(tmp_path):
    """Somebody uploads a film and lets it be enlarged; the clip and the scene."""
    content = encode(tmp_path / "film.mp4", numbered(6)).read_bytes()

    def brought(person):
        clip = person.client.post("clips", content=content, headers={"x-name": "secret.mp4"}).json()["clip"]
        wish = {"clip": clip, "frames": [0, 6], "region": [0, 0, 48, 64], "methods": ["bicubic"]}
        assert person.act("ask", **wish, truth=True) == ""
        deadline = time.monotonic() + 120
        while not person.page()["results"] and time.monotonic() < deadline:
            time.sleep(0.05)
        return SimpleNamespace(clip=clip, wish=wish, scene=person.page()["results"][0]["name"])

    return brought


def picture(app, scene):
    folder = app.studio.scenes[app.studio.own] / scene
    return f"{app.studio.gallery.address(folder / 'frames' / 'low')}/00000.webp"


def test_the_owner_sees_it_and_others_do_not(open_studio, bring):
    app, ann, bob = open_studio()
    made = bring(ann)
    own = f"{app.studio.own}/{made.scene}"
    film = picture(app, made.scene).replace("frames/low/00000.webp", "films/low.webm")
    routes = [picture(app, made.scene), film, f"results/{made.scene}/scores.json", f"results/{made.scene}/frames.zip"]
    for person, status in ((ann, 200), (bob, 404)):
        assert [person.get(path) for path in routes] == [status] * len(routes)
    assert ann.page()["clip"]["key"] == made.clip
    assert ann.scenes() == [own]
    page = json.dumps(bob.page())
    assert "secret" not in page
    assert made.clip not in page
    assert made.scene not in page
    assert bob.scenes() == []


def test_what_others_guess_is_as_if_it_were_not_there(open_studio, bring):
    app, ann, bob = open_studio()
    made = bring(ann)
    own, there = f"{app.studio.own}/{made.scene}", picture(app, made.scene)
    assert bob.act("show", clip=made.clip, frame=0) == bob.act("show", clip="0" * 16, frame=0) != ""
    assert "upload it again" in bob.act("ask", **made.wish, truth=True)
    assert "not here any more" in bob.act("delete", scene=made.scene)
    assert "not in the list" in bob.event("compare_page.<locals>.pick", [own])["error"]
    assert "no scene" in app.studio.scene(own, "bob")[0]["message"]
    assert app.studio.scene(own, "ann")[0]["frames"] == 8
    stale = there.replace(there.split("/")[4], "abc")  # the token of a scene that was rewritten since
    assert (ann.get(stale), bob.get(stale)) == (410, 404)
    assert bob.get(there.replace(f"/{app.studio.own}/", f"/0{app.studio.own}/")) == 404
    assert bob.get(f"lens/scene/0/{PEOPLE}/{'/'.join(there.split('/')[4:])}") == 404
    assert ann.get(there) == 200  # still there
    assert ann.act("show", clip=made.clip, frame=1) == ""
    assert ann.act("delete", scene=made.scene) == ""
    assert ann.get(there) == 404


def test_only_the_owner_keeps_it(open_studio, bring):
    _, ann, bob = open_studio()
    made = bring(ann)
    assert "not here any more" in bob.act("keep", scene=made.scene)
    assert [one["kept"] for one in ann.page()["results"]] == [False]
    assert ann.act("keep", scene=made.scene) == ann.act("keep", scene=made.scene) == ""
    assert [one["kept"] for one in ann.page()["results"]] == [True]


def test_a_job_is_its_owners(open_studio, bring):
    _, ann, bob = open_studio()
    made = bring(ann)
    ann.act("ask", **made.wish, truth=False)  # works for a long time
    (job,) = ann.page()["jobs"]
    page = bob.page()
    assert page["jobs"] == []
    assert {one["title"] for one in page["line"]} <= {"somebody's video"}
    assert bob.act("cancel", job=job["key"]) == bob.act("cancel", job="0" * 16) != ""
    assert ann.page()["jobs"][0]["state"] in ("waiting", "working")
    ann.act("cancel", job=job["key"])
    assert ann.page()["jobs"][0]["state"] == "cancelled"


def test_after_a_restart_it_is_still_so(open_studio, bring, tmp_path):
    app, ann, bob = open_studio()
    made = bring(ann)
    bobs = bring(bob)
    app.close()
    app, ann, bob = open_studio()
    assert ann.page()["clip"] | {"picture": ""} == ann.page()["clip"] | {"picture": "", "key": made.clip}
    assert ann.page()["clip"]["title"] == "secret.mp4"
    assert [one["name"] for one in ann.page()["results"]] == [made.scene]
    assert [one["name"] for one in bob.page()["results"]] == [bobs.scene]
    assert ann.act("show", clip=made.clip, frame=2) == ""
    assert "upload it again" in bob.act("show", clip=made.clip, frame=2)
    assert (ann.get(picture(app, made.scene)), bob.get(picture(app, made.scene))) == (200, 404)
    assert stat.S_IMODE((tmp_path / "scenes" / PEOPLE).stat().st_mode) == 0o700


def test_runs_and_scenes_of_the_folders_are_everybodys(open_studio, specimens, tmp_path):
    app, *people = open_studio()
    folder = specimens.make_scene(tmp_path / "scenes" / "disc", frames=2)
    address = f"{app.studio.gallery.address(folder / 'frames' / 'low')}/00000.webp"
    for person in people:
        assert person.scenes() == ["0/disc"]
        assert person.get(address) == 200


def test_one_studio_at_a_time_on_the_same_scenes(open_studio, tmp_path):
    app, *_ = open_studio()
    with pytest.raises(BusyError, match="another studio with a login is open"):
        open_studio()
    app.close()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BusyError, match="--port"):
        launch(runs=[], scenes=[tmp_path / "scenes"], auth=USERS, port=taken.getsockname()[1], quiet=True, wait=False)
    open_studio()  # one that could not be served has let go


def test_the_page_says_who_sees_it_and_how_long(tmp_path):
    for desk, words in (
        (Desk(home=tmp_path), "and goes when the studio ends, with those results that you do not keep."),
        (
            Desk(lasting=tmp_path / "people"),
            "for up to 24 hours, and only you can see it; results that you keep stay until you delete them.",
        ),
    ):
        assert keeping(desk) == words
        desk.close()


def test_what_is_too_old_is_not_shown(open_studio, bring):
    app, ann, _ = open_studio()
    made = bring(ann)
    old = time.time() - 25 * 3600
    clips = app.studio.scenes[app.studio.own].parent / "clips"
    os.utime(clips / made.clip, (old, old))
    assert "clip" not in ann.page()
    assert not list(clips.iterdir())


class TestDesk:
    def test_a_lasting_folder_has_one_studio(self, tmp_path):
        first = Desk(lasting=tmp_path / "people")
        with pytest.raises(BusyError, match="another studio"):
            Desk(lasting=tmp_path / "people")
        first.close()
        Desk(lasting=tmp_path / "people").close()

    def test_what_was_half_made_goes_at_the_start(self, tmp_path, specimens):
        first = Desk(lasting=tmp_path / "people")
        (first.folder / "clips" / "half").write_bytes(b"x")
        (first.folder / "made" / "half.zip").write_bytes(b"x")
        (first.scenes / ".video-1.77.partial").mkdir()
        specimens.make_scene(first.new_scene("ann"), frames=2)
        first.close()
        again = Desk(lasting=tmp_path / "people")
        assert [len(list((again.folder / name).iterdir())) for name in ("clips", "made", "scenes")] == [0, 0, 1]
        assert len(again.results("ann")) == 1
        again.close()

    def test_what_was_kept_outlives_its_hours_and_the_studio(self, tmp_path, specimens):
        desk = Desk(Room(scenes=1, kept=2), lasting=tmp_path / "people")
        names = [specimens.make_scene(desk.new_scene("ann"), frames=2).name for _ in range(4)]
        for name in names[:2]:
            desk.keep(name, "ann")
        with pytest.raises(FolderError, match="2 results are kept already"):
            desk.keep(names[2], "ann")
        for name in names[:3]:
            os.utime(desk.scenes / name, (0, 0))
        desk.tidy()
        desk.close()
        again = Desk(Room(scenes=1, kept=2), lasting=tmp_path / "people")
        assert {scene.name for scene in again.results("ann")} == {*names[:2], names[3]}
        again.delete(names[0], "ann")
        again.keep(names[3], "ann")
        assert [again.kept(name) for name in names] == [False, True, False, True]
        again.close()

    def test_without_a_login_it_is_copied_to_the_scenes(self, tmp_path, specimens):
        desk = Desk(home=tmp_path, shelf=tmp_path / "scenes")
        name = specimens.make_scene(desk.new_scene(), frames=2).name
        studio = Studio(runs=[], scenes=[tmp_path / "scenes"], own=desk.scenes, owns=desk.owns)
        assert [value for _, value in studio.scene_choices()] == [f"1/{name}"]
        desk.keep(name)
        assert desk.kept(name)
        assert [value for _, value in studio.scene_choices()] == [f"0/{name}"]  # not twice
        desk.close()
        assert read_scene(tmp_path / "scenes" / name).frames == 2
        assert [path.name for path in (tmp_path / "scenes").iterdir()] == [name]

    def test_a_scene_that_cannot_be_copied_is_told_of(self, tmp_path, specimens):
        (tmp_path / "scenes").write_text("not a folder")
        for shelf, words in ((tmp_path / "scenes", "cannot be kept"), (None, "no folder to keep results in")):
            desk = Desk(home=tmp_path, shelf=shelf)
            name = specimens.make_scene(desk.new_scene(), frames=2).name
            assert desk.keeps is (shelf is not None)
            with pytest.raises(FolderError, match=words):
                desk.keep(name)
            assert not desk.kept(name)
            desk.close()

    def test_what_has_no_record_is_nobodys(self, tmp_path, specimens):
        desk = Desk(lasting=tmp_path / "people")
        specimens.make_scene(desk.scenes / "video-1", frames=2)
        assert desk.results("ann") == []
        desk.close()


class TestOwners:
    def test_records_that_cannot_be_read_are_none(self, tmp_path):
        (tmp_path / "owners").mkdir()
        for number, text in enumerate(("{", "[]", '{"owner": 1, "title": ""}', '{"owner": "ann"}', "\udcff")):
            (tmp_path / "owners" / f"{number}.json").write_bytes(text.encode(errors="surrogateescape"))
        owners = Owners(tmp_path / "owners")
        assert not any(owners.owns(str(number), "ann") for number in range(5))

    def test_a_record_of_nothing_goes_in_time(self, tmp_path):
        owners = Owners(tmp_path / "owners")
        owners.note("a", "ann")
        assert owners.left() == []
        old = time.time() - LEFT_SECONDS - 1
        os.utime(tmp_path / "owners" / "a.json", (old, old))
        assert owners.left() == ["a"]
        owners.forget("a")
        assert not owners.owns("a", "ann")
        assert not list((tmp_path / "owners").iterdir())

    def test_a_full_disk(self, tmp_path, monkeypatch):
        owners = Owners(tmp_path / "owners")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("workbench.views.studio.owners.write_atomic", full)
        with pytest.raises(FolderError, match="No space left"):
            owners.note("a", "ann")
        assert not owners.owns("a", "ann")
