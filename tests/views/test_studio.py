import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import gradio as gr
import httpx
import pytest

from workbench import runs as run_folders
from workbench.errors import BusyError, ConfigError, FolderError
from workbench.runs import RunWriter
from workbench.scenes import read_scene, write_scene
from workbench.views import progress, scene_tables
from workbench.views.progress import MetricsLog
from workbench.views.serving import SceneFileServer, StaleError
from workbench.views.studio import Studio, build_studio, launch

NEWEST = {"step": None, "follow": True}


@pytest.fixture
def studio(run, scene_folder, tmp_path):
    shipped = tmp_path / "shipped"
    shutil.copytree(scene_folder, shipped / "disc")
    return Studio(runs=[run.folder.parent, tmp_path / "none"], scenes=[scene_folder.parent, shipped])


class TestCompare:
    def test_titles_and_marks_of_shipped_scenes(self, studio):
        assert studio.scene_choices() == [
            ("Disc over a grating", "0/disc"),
            ("Disc over a grating · shipped", "1/disc"),
        ]

    def test_a_scene_and_its_tables(self, studio):
        value, about = studio.scene("0/disc")
        assert value["frames"] == 8
        assert value["methods"][0]["frames"].startswith("lens/scene/0/disc/")
        assert "Gap closed" in about
        assert "★" in about

    def test_texts_of_a_folder_are_escaped(self, studio, specimens):
        _, about = studio.scene("0/disc")
        assert specimens.HOSTILE not in about
        assert "&lt;b&gt;not bold&lt;/b&gt;" in about

    @pytest.mark.parametrize("choice", ["0/nothing", "9/disc", "disc", "0/../disc", "../0/disc", "0/"])
    def test_other_names_are_refused(self, studio, choice):
        value, about = studio.scene(choice)
        assert set(value) == {"message"}
        assert value["message"]
        assert about == ""

    def test_without_scenes_the_page_names_the_command(self, studio):
        assert "workbench compare" in studio.scene(None)[0]["message"]

    def test_a_partial_scene_is_reported(self, studio, scene_folder, tmp_path):
        broken = tmp_path / "shipped" / "broken"
        broken.mkdir()
        (broken / "scene.json").write_text('{"format": 1, "name": "bro')
        assert ("broken (not readable) · shipped", "1/broken") in studio.scene_choices()
        assert "not a readable scene" in studio.scene("1/broken")[0]["message"]


class TestSceneTables:
    def test_means_leave_out_what_does_not_exist(self, scene_folder):
        scene = read_scene(scene_folder)
        curve = next(curve for curve in scene.curves if curve.key == "t_diff")
        values = [value for value in curve.series["plain"] if value is not None]
        assert len(values) == scene.frames - 1
        assert scene_tables.mean_scores(scene)["t_diff"]["plain"] == pytest.approx(sum(values) / len(values))

    def test_the_best_is_the_lowest_where_lower_is_better(self, scene_folder):
        table = scene_tables.scores_table(read_scene(scene_folder))
        assert table.count("★") == 1 + 4  # the caption, and one in each column

    def test_names_of_methods_and_the_size_stay_as_they_are(self, scene_folder):
        scene = read_scene(scene_folder)
        method = replace(scene.methods[0], label="Student (vespcn_s)", note="<b>")
        about = scene_tables.scene_tables(replace(scene, methods=(method,), provenance={"clip": "clip_1.mp4"}))
        assert "<dt>Student (vespcn_s)</dt><dd>&lt;b&gt;</dd>" in about
        assert "<dd>clip_1.mp4</dd>" in about
        assert f"<dd>8 frames of {scene.width} x {scene.height}" in about


class TestRun:
    def test_the_newest_snapshot_is_shown(self, studio):
        view = studio.view_run("0/mine", NEWEST, {})
        assert view.progress["step"] == 40
        assert view.progress["snapshots"] == [0, 20, 40]
        assert view.progress["terms"].keys() == {"reconstruction", "spatial", "temporal"}
        assert view.scene["id"] == "mine-40"
        assert [m["key"] for m in view.scene["methods"]][-1] == "student"
        assert view.lead.startswith("<div class='lead'><p><b>At step 40: distilled student ")
        assert "(healthy). " in view.lead
        assert "spatial weight" in view.config
        assert (view.live, view.can_stop, view.can_resume) == (False, False, True)

    def test_only_changes_are_sent(self, studio, run, specimens):
        first = studio.view_run("0/mine", NEWEST, {})
        again = studio.view_run("0/mine", NEWEST, first.state)
        assert (again.progress, again.scene, again.lead, again.config) == (None, None, None, None)
        specimens.add_rows(run, range(41, 61))
        later = studio.view_run("0/mine", NEWEST, again.state)
        assert later.progress["steps"][-1] == 60
        assert later.scene is None
        specimens.add_snapshot(run, 60)
        assert studio.view_run("0/mine", NEWEST, later.state).scene["id"] == "mine-60"

    def test_the_chosen_step_is_kept(self, studio, run, specimens):
        wish = {"step": 20, "follow": False}
        first = studio.view_run("0/mine", wish, {})
        specimens.add_snapshot(run, 60)
        later = studio.view_run("0/mine", wish, first.state)
        assert (later.progress["step"], later.scene) == (20, None)

    def test_the_log_is_read_incrementally(self, run, specimens, monkeypatch):
        log = MetricsLog(run.folder / "metrics.jsonl").read()
        assert log.steps == list(range(1, 41))
        taken = []
        monkeypatch.setattr(log, "_parse", taken.append)
        specimens.add_rows(run, range(41, 43))
        log.read()
        assert len(taken) == 2

    def test_an_incomplete_line_is_read_later(self, run, specimens):
        line = json.dumps(specimens.row(41))
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write(line[:30])
            file.flush()
            log = MetricsLog(run.folder / "metrics.jsonl").read()
            assert log.steps[-1] == 40
            file.write(line[30:] + "\n")
        assert log.read().steps[-1] == 41

    def test_a_rewound_log_is_read_again(self, run):
        log = MetricsLog(run.folder / "metrics.jsonl").read()
        writer = RunWriter(run.folder)
        writer.rewind(20)
        writer.close()
        assert log.read().steps == list(range(1, 21))

    def test_a_damaged_log_is_reported(self, studio, run):
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write("nonsense\n")
        view = studio.view_run("0/mine", NEWEST, {})
        assert "line 41" in view.progress["message"]

    def test_a_failed_run_has_a_reason(self, studio, run, specimens):
        specimens.write_status(run, "failed", 40, reason="step 41: spatial is not finite")
        state = studio.view_run("0/mine", NEWEST, {}).progress
        assert (state["title"], state["reason"]) == ("Failed", "step 41: spatial is not finite")

    def test_a_run_without_a_worker_has_crashed(self, studio, run, specimens):
        specimens.write_status(run, "running", 40)  # but no process holds the lock
        view = studio.view_run("0/mine", NEWEST, {})
        assert view.progress["title"] == "Crashed"
        assert view.can_resume

    def test_a_running_run_can_be_stopped(self, studio, run, specimens):
        writer = RunWriter(run.folder)
        specimens.write_status(run, "running", 40)
        view = studio.view_run("0/mine", NEWEST, {})
        assert (view.live, view.can_stop) == (True, True)
        assert "left" in view.progress["summary"]
        assert "resumed" in studio.stop("0/mine")
        assert writer.stop_requested
        later = studio.view_run("0/mine", NEWEST, view.state)
        assert "stopping" in later.progress["summary"]
        assert not later.can_stop
        with pytest.raises(BusyError):
            studio.resume("0/mine")
        writer.close()

    def test_resume_starts_a_worker(self, studio, monkeypatch):
        started = []
        monkeypatch.setattr(run_folders, "start_worker", lambda run, queue: started.append(run))
        assert "resumes" in studio.resume("0/mine")
        assert started[0].name == "mine"

    def test_shipped_runs_are_read_only(self, run, tmp_path):
        read_only = Studio(runs=[tmp_path / "own", run.folder.parent], scenes=[])
        assert read_only.run_choices() == [("mine · stopped · shipped", "1/mine")]
        view = read_only.view_run("1/mine", NEWEST, {})
        assert (view.can_stop, view.can_resume) == (False, False)
        for act in (read_only.stop, read_only.resume):
            with pytest.raises(FolderError, match="read-only"):
                act("1/mine")

    def test_live_runs_come_first(self, studio, run, specimens):
        newer = specimens.make_run(run.folder.parent / "newer")
        specimens.write_status(newer, "finished", 1000)
        os.utime(newer.folder, (2e9, 2e9))
        writer = RunWriter(run.folder)
        specimens.write_status(run, "running", 40)
        assert [label for label, _ in studio.run_choices()] == ["mine · running", "newer · finished"]
        writer.close()

    def test_a_shipped_distillation_comes_before_a_newer_plain_run(self, specimens, run, tmp_path):
        newer = specimens.make_run(run.folder.parent / "newer", distills=False)
        specimens.write_status(newer, "finished", 1000)
        os.utime(newer.folder, (2e9, 2e9))
        shipped = Studio(runs=[tmp_path / "own", run.folder.parent], scenes=[])
        assert [value for _, value in shipped.run_choices()] == ["1/mine", "1/newer"]
        assert [value for _, value in Studio(runs=[run.folder.parent], scenes=[]).run_choices()] == [
            "0/newer",
            "0/mine",
        ]

    def test_no_run_and_no_snapshot(self, studio, specimens, run):
        assert "workbench train" in studio.view_run(None, NEWEST, {}).progress["message"]
        specimens.make_run(run.folder.parent / "young", distills=False)
        view = studio.view_run("0/young", NEWEST, {})
        assert [m["key"] for m in view.scene["methods"]] == ["low", "high", "bicubic"]  # the validation clip
        assert view.progress["step"] is None
        assert view.lead == ""

    def test_a_partial_run_is_reported(self, studio, run):
        (run.folder / "run.json").write_text('{"format": 1, "conf')
        (run.folder / "status.json").unlink()
        assert ("mine · not readable", "0/mine") in studio.run_choices()
        assert "not readable" in studio.view_run("0/mine", NEWEST, {}).progress["message"]
        (run.folder / "run.json").write_text('{"format": 1}')
        assert "run.json" in studio.view_run("0/mine", NEWEST, {}).progress["message"]

    def test_a_broken_snapshot_leaves_the_others(self, studio, run):
        (run.folder / "snapshots" / "0000040" / "scene.json").write_text("{")
        view = studio.view_run("0/mine", NEWEST, {})
        assert "Step 40 cannot be shown" in view.scene["message"]
        assert view.progress["snapshots"] == [0, 20, 40]
        assert studio.view_run("0/mine", {"step": 20, "follow": False}, view.state).scene["id"] == "mine-20"

    def test_memory_verdict_on_the_crops_and_on_the_clip(self, studio, run, specimens):
        with (run.folder / "metrics.jsonl").open("a") as file:
            for step in range(41, 101):
                index = 0.05 if step % 5 == 0 else 0.2  # single batches of crops go up and down
                file.write(json.dumps(specimens.row(step, collapse_index=index)) + "\n")
        view = studio.view_run("0/mine", NEWEST, {})
        index = view.scene["memory"]["index"]
        assert "weak on the training crops, but healthy on the clip shown. " in view.lead
        assert f"0.20 on the training crops, {index:.2f} on the clip shown" in view.lead
        again = studio.view_run("0/mine", NEWEST, view.state)  # the clip did not change: its verdict is kept
        assert (again.scene, again.lead) == (None, None)
        assert again.state["lead"] == view.lead

    def test_scores_are_of_the_shown_clip_and_step(self, studio, run):
        leads = []
        for step in (0, 40):
            view = studio.view_run("0/mine", {"step": step, "follow": False}, {})
            psnr = next(c for c in run.snapshot(step).curves if c.key == "psnr_y_db").series
            student, plain, teacher = (sum(psnr[key]) / len(psnr[key]) for key in ("student", "plain", "teacher"))
            assert (
                f"At step {step}: distilled student {student:.2f} dB, plain student {plain:.2f} dB (same step), "
                f"teacher {teacher:.2f} dB.</b>"
            ) in view.lead
            assert view.scene["title"] == f"mine, step {step}: distilled and plain student, both at this step"
            leads.append(plain)
        assert leads[0] < leads[1]  # the plain student is another one at another step

    def test_no_plain_student_without_its_snapshot(self, studio, run, specimens):
        specimens.add_snapshot(run, 60, plain=False)
        view = studio.view_run("0/mine", NEWEST, {})
        assert "; no plain student at this step.</b>" in view.lead
        assert view.lead.count("plain student") == 1
        assert "plain" not in [method["key"] for method in view.scene["methods"]]
        assert view.scene["title"] == "mine, step 60"

    def test_a_finished_plain_student_of_an_older_version_is_left_out(self, studio, run, specimens):
        shutil.rmtree(run.folder / "validation_clip")
        with write_scene(run.folder / "validation_clip") as writer:
            specimens.add(writer, ("low", "high", "bicubic", "plain", "teacher"), specimens.moving_clip(6, 48, 64))
            writer.finish(name="validation_clip", title="Validation clip", fps=12, protocol={}, provenance={})
        specimens.add_snapshot(run, 60, plain=False)
        scene = run.snapshot(60)
        assert [method.key for method in scene.methods] == ["low", "high", "bicubic", "teacher", "student"]
        assert all("plain" not in curve.series for curve in scene.curves)
        assert {overlay.method for overlay in scene.overlays} == {"teacher", "student"}
        assert [method.key for method in run.snapshot(40).methods].count("plain") == 1

    def test_standings(self):
        assert scene_tables.scores_sentence(1, {"teacher": 30.0}, distilled=True) == ""
        known = scene_tables.scores_sentence(1000, {"student": 30.0}, distilled=False)
        assert known == "At step 1,000: student 30.00 dB."
        alone = scene_tables.scores_sentence(3, {"student": 30.0, "bicubic": 29.0, "plain": 31.0}, distilled=False)
        assert alone == "At step 3: student 30.00 dB, bicubic 29.00 dB."

    def test_no_lead_without_a_teacher(self, specimens, tmp_path):
        plain = specimens.make_run(tmp_path / "plain" / "alone", distills=False)
        specimens.add_rows(plain, range(1, 5), distills=False)
        assert Studio(runs=[plain.folder.parent], scenes=[]).view_run("0/alone", NEWEST, {}).lead == ""

    def test_many_points_are_thinned(self):
        steps, terms = progress.thinned(range(100_000), {"a": [1.0] * 100_000})
        assert len(steps) <= progress.POINTS
        assert set(terms["a"]) == {1.0}


class TestServing:
    @pytest.fixture
    def files(self, run, scene_folder):
        return SceneFileServer(runs=[run.folder.parent], scenes=[scene_folder.parent])

    def test_an_address_leads_back(self, files, run, scene_folder):
        for folder in (
            scene_folder / "frames" / "low",
            scene_folder / "overlays" / "memory" / "teacher",
            run.folder / "validation_clip" / "frames" / "high",
            run.folder / "snapshots" / "0000020" / "overlays" / "attention" / "student",
        ):
            address = files.address(folder).removeprefix("lens/")
            assert files.find(f"{address}/00001.webp") == (folder / "00001.webp").resolve()

    def test_nothing_else_has_an_address(self, files, run, scene_folder, tmp_path):
        (run.folder / "weights").mkdir()
        (run.folder / "weights" / "student.safetensors").write_bytes(b"w")
        (run.folder / "frames" / "state").mkdir(parents=True)
        shutil.copy(scene_folder / "frames" / "low" / "00000.webp", run.folder / "frames" / "state" / "00000.webp")
        address = files.address(run.folder / "validation_clip" / "frames" / "high").removeprefix("lens/")
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
            with pytest.raises(FolderError, match="address"):
                files.find(bad)
        with pytest.raises(FolderError, match="not in a folder"):
            files.address(tmp_path)

    def test_links_out_of_the_scene_are_refused(self, specimens, tmp_path):
        folder = specimens.make_scene(tmp_path / "scenes" / "linked", frames=2)
        secret = tmp_path / "secret.webp"
        secret.write_bytes(b"secret")
        image = folder / "frames" / "low" / "00000.webp"
        image.unlink()
        image.symlink_to(secret)
        files = SceneFileServer(runs=[], scenes=[tmp_path / "scenes"])
        with pytest.raises(FolderError):
            files.find(files.address(image.parent).removeprefix("lens/") + "/00000.webp")

    def test_a_rewritten_scene_has_new_addresses(self, specimens, tmp_path):
        folder = specimens.make_scene(tmp_path / "scenes" / "twice", frames=2)
        files = SceneFileServer(runs=[], scenes=[tmp_path / "scenes"])
        old = files.address(folder / "frames" / "low")
        os.utime(folder / "scene.json", ns=(1, 1))
        assert files.address(folder / "frames" / "low") != old
        with pytest.raises(StaleError):
            files.find(old.removeprefix("lens/") + "/00000.webp")

    def test_served_over_http(self, run, scene_folder):
        app, url = launch(runs=[run.folder.parent], scenes=[scene_folder.parent], quiet=True, wait=False)
        try:
            address = app.studio.files.address(scene_folder / "frames" / "teacher")
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

    def test_asks_for_the_same_login_as_the_pages(self, scene_folder):
        app, url = launch(runs=[], scenes=[scene_folder.parent], auth={"me": "word"}, quiet=True, wait=False)
        try:
            address = f"{url}{app.studio.files.address(scene_folder / 'frames' / 'low')}/00000.webp"
            assert httpx.get(address).status_code == 401
            with httpx.Client() as client:
                client.post(f"{url}login", data={"username": "me", "password": "word"})
                assert client.get(address).status_code == 200
        finally:
            app.close()

    def test_the_run_of_the_address_is_shown_first(self, run):
        app, url = launch(runs=[run.folder.parent], scenes=[], quiet=True, wait=False)
        try:
            events = {event.api_name: index for index, event in app.fns.items()}
            for name, shown in (("tick", False), ("load_1", True)):
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
            launch(runs=[], scenes=[], host="0.0.0.0")


def test_builds_without_anything_on_disk(tmp_path: Path):
    app = build_studio(runs=[tmp_path / "runs"], scenes=[tmp_path / "scenes"], start=lambda: "name")
    assert isinstance(app, gr.Blocks)
    assert [name for _, name, _ in app.pages] == [
        "Home",
        "Run",
        "Train",
        "Runs",
        "Your video",
        "Networks",
    ]
    assert not app.analytics_enabled
