"""Report page: content, size, policy, and no path of this machine."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import specimens
from workbench.cli import main
from workbench.cli.reporting import find
from workbench.errors import ConfigError, FolderError, UnknownNameError
from workbench.runs import Run, shipped
from workbench.scenes import Scene, read_scene
from workbench.views.privacy import without_paths
from workbench.views.report import write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
ATTRIBUTES_THAT_LOAD = ("src", "href", "srcset", "data", "action", "poster", "background")


class Read(HTMLParser):
    """Parsed page: data blocks by id, scripts, the policy, text outside of scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.blocks, self.scripts, self.loads, self.handlers, self.text, self.tags = {}, [], [], [], "", []
        self.policy, self._in = "", None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [given[name] for name in ATTRIBUTES_THAT_LOAD if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._in = (given.get("id") or "script") if tag == "script" else "style" if tag == "style" else None

    def handle_data(self, data):
        if self._in in ("report", "images"):
            self.blocks[self._in] = json.loads(data)
        elif self._in == "script":
            self.scripts.append(data)
        elif self._in is None:
            self.text += data

    def handle_endtag(self, tag):
        self._in = None

    def image(self, folder: str, index: int) -> np.ndarray:
        data = base64.b64decode(self.blocks["images"][f"{folder}/{index:05d}.webp"])
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)


@pytest.fixture
def scene(scene_folder) -> Scene:
    return read_scene(scene_folder)


@pytest.fixture
def copied(scene_folder, tmp_path) -> Path:
    """Scene that a test may change."""
    return Path(shutil.copytree(scene_folder, tmp_path / "copied"))


def edit(folder: Path, **changes) -> Scene:
    path = folder / "scene.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return read_scene(folder)


def test_every_image_is_that_of_the_scene(scene, tmp_path):
    made = write_report(scene, tmp_path / "page.html")
    page = Read(made.path)
    value = page.blocks["report"]["scenes"]["0"]
    assert made.bytes == made.path.stat().st_size
    assert (made.frames, made.of, made.left_out, made.steps) == (scene.frames, scene.frames, "", ())
    assert value["frame_count"] == scene.frames
    for method in value["methods"]:
        ours = np.stack([page.image(method["image_folder"], i) for i in range(scene.frames)])
        np.testing.assert_array_equal(ours, scene.clip(method["key"]))
    maps = 0
    for kind in value["overlays"]:
        for method, one in kind["by_method"].items():
            overlay = next(o for o in scene.overlays if (o.kind, o.method) == (kind["kind"], method))
            numbers = scene.array(overlay).astype(np.float32).reshape(scene.frames, -1, scene.width // 4)
            for i in range(scene.frames):
                drawn = one["vmin"] + page.image(one["image_folder"], i)[..., 0] / 255 * (one["vmax"] - one["vmin"])
                inside = numbers[i].clip(one["vmin"], one["vmax"])
                np.testing.assert_allclose(drawn, inside, atol=(one["vmax"] - one["vmin"]) / 255)
            maps += 1
    assert maps == len(scene.overlays)
    expected = len(scene.frames * (value["methods"] + list(scene.overlays)))
    assert len(page.blocks["images"]) == expected


def test_the_run_has_every_snapshot_its_losses_and_what_differs(run, tmp_path):
    seen = []
    made = write_report(run, tmp_path / "page.html", progress=lambda done, total: seen.append((done, total)))
    page = Read(made.path)
    report = page.blocks["report"]
    assert made.steps == (0, 20, 40)
    assert set(report["scenes"]) == {"0", "20", "40"}
    assert report["at"] == 40
    assert seen == [(i, made.frames) for i in range(1, made.frames + 1)]
    assert report["progress"]["snapshots"] == [0, 20, 40]
    assert report["progress"]["title"] == "Stopped"
    assert len(report["progress"]["terms"]["spatial"]) == 40
    for step in made.steps:
        student = next(m for m in report["scenes"][str(step)]["methods"] if m["key"] == "student")
        np.testing.assert_array_equal(page.image(student["image_folder"], 2), run.snapshot(step).frame("student", 2))
    assert "Settings that are not the default" in page.text
    assert "teacher.name" in page.text
    assert "pretrained:edvr_s" in page.text
    assert "student.name" not in page.text  # equal to its default
    assert "Step 40" in page.text


def test_some_steps_and_methods(run, tmp_path):
    made = write_report(run, tmp_path / "page.html", steps=[40, 0], methods=["teacher", "student"])
    report = Read(made.path).blocks["report"]
    assert made.steps == (0, 40)
    assert [method["key"] for method in report["scenes"]["40"]["methods"]] == ["teacher", "student"]
    assert {key for curve in report["scenes"]["0"]["curves"] for key in curve["series"]} == {"teacher", "student"}


def test_the_policy_allows_the_one_script_and_nothing_else(scene, tmp_path):
    page = Read(write_report(scene, tmp_path / "page.html").path)
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.loads == []
    assert page.handlers == []
    assert not re.search(r"url\(|@import", (tmp_path / "page.html").read_text(encoding="utf-8"))


def test_hostile_texts_stay_texts(copied, tmp_path):
    record = json.loads((copied / "scene.json").read_text())
    for method in record["methods"]:
        method |= {"label": HOSTILE, "note": HOSTILE}
    for curve in record["curves"]:
        curve |= {"label": HOSTILE, "unit": HOSTILE}
    for overlay in record["overlays"]:
        overlay |= {"label": HOSTILE, "explain": HOSTILE}
    record |= {"title": HOSTILE, "name": HOSTILE, "protocol": {HOSTILE: HOSTILE}}
    record |= {"provenance": {HOSTILE: HOSTILE, "license": HOSTILE}}
    plain = Read(write_report(read_scene(copied), tmp_path / "plain.html", methods=["high", "teacher"]).path)
    hostile = edit(copied, **record)
    page = Read(write_report(hostile, tmp_path / "page.html", methods=["high", "teacher"]).path)
    assert page.scripts == plain.scripts
    assert page.handlers == []
    assert page.loads == []
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    value = page.blocks["report"]["scenes"]["0"]
    assert value["title"] == value["methods"][0]["label"] == HOSTILE
    assert page.text.count(HOSTILE) >= 3  # the title, the heading, the license


def test_a_lone_surrogate_is_written(copied, tmp_path):
    page = Read(write_report(edit(copied, title="half \ud800"), tmp_path / "page.html").path)
    assert "half ?" in page.text


def test_frames_that_do_not_fit_are_left_out_with_a_notice(scene, tmp_path):
    whole = write_report(scene, tmp_path / "whole.html")
    made = write_report(scene, tmp_path / "page.html", max_bytes=whole.bytes - 1)
    assert made.frames == scene.frames - 1
    assert made.bytes < whole.bytes
    assert made.left_out.startswith("Frame 8 of 8 is left out: with it this page would take")
    few = write_report(scene, tmp_path / "few.html", max_bytes=whole.bytes * 7 // 10)
    page = Read(few.path)
    value = page.blocks["report"]["scenes"]["0"]
    assert few.bytes <= whole.bytes * 7 // 10
    assert 1 < few.frames < scene.frames
    assert few.left_out.startswith(f"Frames {few.frames + 1} to 8 of 8 are left out: with them this page would take")
    assert few.left_out in page.text
    assert value["frame_count"] == few.frames
    assert {len(values) for curve in value["curves"] for values in curve["series"].values()} == {few.frames}
    assert {int(address[-10:-5]) for address in page.blocks["images"]} == set(range(few.frames))
    np.testing.assert_array_equal(page.image("frames/high", few.frames - 1), scene.frame("high", few.frames - 1))
    assert write_report(scene, tmp_path / "exact.html", max_bytes=whole.bytes).frames == scene.frames


def test_the_largest_number_of_frames_that_fits(scene, tmp_path):
    """Each page is the largest below its limit.

    A limit of one byte less may have fewer digits on the page, which then fits with all its frames: hence 16.
    """
    sizes = [write_report(scene, tmp_path / "a.html", replace_file=True).bytes]
    for _ in range(scene.frames - 1):
        sizes.append(write_report(scene, tmp_path / "a.html", max_bytes=sizes[-1] - 16, replace_file=True).bytes)
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(FolderError, match=r"at most .* one frame"):
        write_report(scene, tmp_path / "a.html", max_bytes=sizes[-1] - 16, replace_file=True)


def test_a_limit_below_one_frame_raises(scene, tmp_path):
    with pytest.raises(FolderError, match=r"0\.001 MB, got 0\.\d+ MB.*--max-size"):
        write_report(scene, tmp_path / "page.html", max_bytes=1000)
    assert not list(tmp_path.glob("*.html"))


def test_no_path_of_this_machine(copied, run, tmp_path):
    home, folder = str(Path.home()), str(tmp_path)
    notes = {
        "clip": f"{folder}/my videos/a b.mp4[0:8]",
        "weights": f"read from {folder}/w/x.pth",
        "home": f"{home}/data",
    }
    scene = edit(copied, title=f"of {folder}/videos/a.mp4", provenance=notes)
    record = json.loads((run.folder / "run.json").read_text())
    record["config"]["data"]["clips"] = [f"{folder}/clips/b.mp4"]
    record["weights"] = {"teacher": {"file": f"{folder}/clips/w.pth"}}
    (run.folder / "run.json").write_text(json.dumps(record))
    status = json.loads((run.folder / "status.json").read_text()) | {"reason": f"no room in {folder}/runs/mine"}
    (run.folder / "status.json").write_text(json.dumps(status))
    for what, kept in ((scene, ("…/a b.mp4[0:8]", "read from …/x.pth")), (run, ("…/b.mp4", "…/w.pth"))):
        text = write_report(what, tmp_path / "page.html", replace_file=True).path.read_text(encoding="utf-8")
        assert folder not in text
        assert json.dumps(folder)[1:-1] not in text
        assert all(part in text for part in kept)
    assert "no room in \\u2026/mine" in text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/data/a.mp4", "…/a.mp4"),
        ("file:///data/sets/a.mp4", "…/a.mp4"),
        (r"D:\videos\a.mp4", "…/a.mp4"),
        (r"\\server\share\a.mp4", "…/a.mp4"),
        ("clip:/data/sets/a.mp4", "clip:…/a.mp4"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("dB / px, 1/2/3, and/or/not", "dB / px, 1/2/3, and/or/not"),
        ("../data/reds/000", "../data/reds/000"),
        ("bigbuckbunny[0:16, :, 0:64]", "bigbuckbunny[0:16, :, 0:64]"),
    ],
)
def test_paths_are_shortened_and_other_texts_kept(text, left):
    assert without_paths(text) == left
    assert without_paths({text: [text]}) == {left: [left]}


def test_an_existing_page_is_kept_and_a_failed_one_leaves_nothing(scene, copied, tmp_path):
    page = tmp_path / "new" / "page.html"
    write_report(scene, page)
    before = page.read_bytes()
    with pytest.raises(FolderError, match=r"page\.html: exists"):
        write_report(scene, page)
    (copied / "frames" / "teacher" / "00005.webp").unlink()
    with pytest.raises(FolderError, match=r"00005\.webp of teacher"):
        write_report(read_scene(copied), page, replace_file=True)
    assert page.read_bytes() == before
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(FolderError, match=r"folder\.html: exists"):
        write_report(scene, tmp_path / "folder.html", replace_file=True)


def test_errors(scene, run, copied, tmp_path):
    page = tmp_path / "page.html"
    with pytest.raises(ConfigError, match=r"path: want .*\.html"):
        write_report(scene, tmp_path / "page.pdf")
    with pytest.raises(ConfigError, match="steps: want a run"):
        write_report(scene, page, steps=[3])
    with pytest.raises(UnknownNameError, match="did you mean 'teacher'"):
        write_report(scene, page, methods=["teecher"])
    with pytest.raises(FolderError, match="want snapshots of 0, 20, 40; got step 30"):
        write_report(run, page, steps=[30])
    with pytest.raises(FolderError, match="no snapshot yet"):
        write_report(specimens.make_run(tmp_path / "runs" / "young"), page)
    with pytest.raises(FolderError, match=r"frames.* want numbers above 0"):
        write_report(edit(copied, frames="8"), page)
    series = {"key": "a", "label": "a", "unit": "", "better": "higher", "series": {"teacher": ["<b>"] * 8}}
    with pytest.raises(FolderError, match="curves: want numbers"):
        write_report(edit(copied, frames=8, curves=[series]), page)
    with pytest.raises(FolderError, match="NaN"):
        write_report(edit(copied, curves=[series | {"series": {"teacher": [float("nan")] * 8}}]), page)
    assert not page.exists()


def test_images_from_outside_the_folder_are_refused(copied, tmp_path):
    secret = tmp_path / "secret.webp"
    shutil.copy(copied / "frames" / "high" / "00000.webp", secret)
    target = copied / "frames" / "high" / "00001.webp"
    target.unlink()
    os.symlink(secret, target)
    with pytest.raises(FolderError, match=r"frames/high/00001.webp"):
        write_report(read_scene(copied), tmp_path / "page.html")
    target.unlink()
    target.write_text("no image")
    with pytest.raises(FolderError, match=r"frames/high/00001.webp"):
        write_report(read_scene(copied), tmp_path / "page.html")
    shutil.move(copied / "frames" / "high", tmp_path / "high")
    os.symlink(tmp_path / "high", copied / "frames" / "high")
    with pytest.raises(FolderError, match="high links to outside"):
        write_report(read_scene(copied), tmp_path / "page.html")


OWNERS = {
    "casa_mila": ("BuddiesOfBudgie", "CC0-1.0"), "colosseum": ("BuddiesOfBudgie", "CC0-1.0"),
    "sign": ("drawn by tools/scene_clips.py", "Apache-2.0"),
}  # fmt: skip


def test_shipped_pages_fit_and_name_the_owners_of_the_images(tmp_path):
    found = [Run(path) for path in shipped("runs").iterdir() if (path / "run.json").is_file()]
    found += [read_scene(path) for path in shipped("scenes").iterdir() if (path / "scene.json").is_file()]
    assert len(found) >= 2
    for what in found:
        made = write_report(what, tmp_path / f"{what.name}.html")
        assert made.left_out == ""
        caption = re.search("<header>.*?</header>", made.path.read_text(encoding="utf-8"), re.DOTALL)
        assert caption
        owner, license = OWNERS.get(what.name, ("Blender Foundation", "CC BY 3.0"))
        assert owner in caption[0]
        assert license in caption[0]


def test_the_report_command(scene_folder, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "mine", "--runs", str(run.folder.parent), "--steps", "0,40"]) == 0
    assert re.match(r"mine\.html: 6 frames, 2 snapshots, [\d.]+ MB, \d+\.\d s\n", capsys.readouterr().out)
    assert main(["report", str(scene_folder), "--out", "disc.html", "--max-size", "200K"]) == 0
    said = capsys.readouterr()
    assert re.match(r"disc\.html: \d of 8 frames, 0\.[12]\d* MB", said.out)
    assert "left out" in said.err
    assert (tmp_path / "disc.html").stat().st_size <= 200_000
    assert main(["report", str(scene_folder), "--out", "disc.html"]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["report", str(scene_folder), "--out", "disc.html", "--replace"]) == 0
    for options, message in (
        (["--max-size", "big"], "max-size: want an amount such as 4G or 512MiB, got 'big'"),
        (["--steps", "last"], "steps: got 'last'"),
    ):
        assert main(["report", str(run.folder), "--out", "other.html", *options]) == 2
        assert message in capsys.readouterr().err


def test_runs_and_scenes_are_found_by_name(scene_folder, run, tmp_path):
    runs, scenes = [run.folder.parent], [scene_folder.parent]
    assert find("mine", runs=runs, scenes=scenes) == run
    named = find(scene_folder.name, runs=runs, scenes=scenes)
    assert isinstance(named, Scene)
    assert named.folder == scene_folder
    with pytest.raises(FolderError, match=r"'absent'.*: mine, disc"):
        find("absent", runs=runs, scenes=scenes)
    shutil.copytree(scene_folder, tmp_path / "scenes" / "mine")
    with pytest.raises(FolderError, match="both a run and a scene"):
        find("mine", runs=runs, scenes=[tmp_path / "scenes"])
