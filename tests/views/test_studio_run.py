"""Page Run of the studio: snapshots, log, states and standings."""

import json
import os
import shutil

import pytest

from tests import specimens
from workbench import runs as run_folders
from workbench.errors import BusyError, FolderError
from workbench.runs import RunWriter
from workbench.scenes import write_scene
from workbench.views import progress, scene_tables
from workbench.views.progress import MetricsLog
from workbench.views.studio import Studio

NEWEST = {"step": None, "follow": True}


def flags(view):
    """Return whether the run is live, and whether it can be stopped and resumed."""
    return tuple(view.state[name] for name in ("live", "can_stop", "can_resume"))


class TestRun:
    def test_the_newest_snapshot_is_shown(self, studio):
        view = studio.view_run("0/mine", NEWEST, {})
        assert view.progress["step"] == 40
        assert view.progress["snapshots"] == [0, 20, 40]
        assert view.progress["terms"].keys() == {"reconstruction", "spatial", "temporal"}
        assert view.scene["id"] == "mine-40"
        assert [m["key"] for m in view.scene["methods"]][-3:] == ["plain", "student", "teacher"]
        assert view.lead.startswith("<div class='lead'><p><b>At step 40: distilled student ")
        assert "(healthy). " in view.lead
        assert "spatial weight" in view.config
        assert flags(view) == (False, False, True)

    def test_only_changes_are_sent(self, studio, run):
        first = studio.view_run("0/mine", NEWEST, {})
        again = studio.view_run("0/mine", NEWEST, first.state)
        assert (again.progress, again.scene, again.lead, again.config) == (None, None, None, None)
        specimens.add_rows(run, range(41, 61))
        later = studio.view_run("0/mine", NEWEST, again.state)
        assert later.progress["steps"][-1] == 60
        assert later.scene is None
        specimens.add_snapshot(run, 60)
        assert studio.view_run("0/mine", NEWEST, later.state).scene["id"] == "mine-60"

    def test_the_chosen_step_is_kept(self, studio, run):
        requested = {"step": 20, "follow": False}
        first = studio.view_run("0/mine", requested, {})
        specimens.add_snapshot(run, 60)
        later = studio.view_run("0/mine", requested, first.state)
        assert (later.progress["step"], later.scene) == (20, None)

    def test_the_log_is_read_incrementally(self, run, monkeypatch):
        log = MetricsLog(run.folder / "metrics.jsonl").read()
        assert log.steps == list(range(1, 41))
        taken = []
        monkeypatch.setattr(log, "_parse", taken.append)
        specimens.add_rows(run, range(41, 43))
        log.read()
        assert len(taken) == 2

    def test_an_incomplete_line_is_read_later(self, run):
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

    def test_a_failed_run_has_a_reason(self, studio, run):
        specimens.write_status(run, "failed", 40, reason="step 41: spatial is not finite")
        state = studio.view_run("0/mine", NEWEST, {}).progress
        assert (state["title"], state["failure_reason"]) == ("Failed", "step 41: spatial is not finite")

    def test_a_run_without_a_worker_has_crashed(self, studio, run):
        specimens.write_status(run, "running", 40)  # without a lock
        view = studio.view_run("0/mine", NEWEST, {})
        assert view.progress["title"] == "Crashed"
        assert flags(view) == (False, False, True)

    def test_a_running_run_can_be_stopped(self, studio, run):
        writer = RunWriter(run.folder)
        specimens.write_status(run, "running", 40)
        view = studio.view_run("0/mine", NEWEST, {})
        assert flags(view) == (True, True, False)
        assert "left" in view.progress["summary"]
        assert "resumed" in studio.stop("0/mine")
        assert writer.stop_requested
        later = studio.view_run("0/mine", NEWEST, view.state)
        assert "stopping" in later.progress["summary"]
        assert flags(later) == (True, False, False)
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
        assert flags(view) == (False, False, False)
        for act in (read_only.stop, read_only.resume):
            with pytest.raises(FolderError, match="read-only"):
                act("1/mine")

    def test_live_runs_come_first(self, studio, run):
        newer = specimens.make_run(run.folder.parent / "newer")
        specimens.write_status(newer, "finished", 1000)
        os.utime(newer.folder, (2e9, 2e9))
        writer = RunWriter(run.folder)
        specimens.write_status(run, "running", 40)
        assert [label for label, _ in studio.run_choices()] == ["mine · running", "newer · finished"]
        writer.close()

    def test_a_new_live_run_refers_to_the_shipped_one(self, studio, run):
        link = "href='run?run=vespcn_std'"
        both = Studio(runs=[run.folder.parent, run_folders.shipped("runs")], scenes=[])
        assert link not in both.view_run("0/mine", NEWEST, {}).lead
        young = specimens.make_run(run.folder.parent / "young")
        writer = RunWriter(young.folder)
        specimens.write_status(young, "running", 1)
        assert link in both.view_run("0/young", NEWEST, {}).lead
        assert link not in studio.view_run("0/young", NEWEST, {}).lead
        writer.close()
        assert ("live demo plain, without a teacher · finished · shipped", "1/live_demo_plain") in both.run_choices()

    def test_no_run_and_no_snapshot(self, studio, run):
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

    def test_memory_verdict_on_the_crops_and_on_the_clip(self, studio, run):
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

    def test_no_plain_student_without_its_snapshot(self, studio, run):
        specimens.add_snapshot(run, 60, plain=False)
        view = studio.view_run("0/mine", NEWEST, {})
        assert "; no plain student at this step.</b>" in view.lead
        assert view.lead.count("plain student") == 1
        assert "plain" not in [method["key"] for method in view.scene["methods"]]
        assert view.scene["title"] == "mine, step 60"

    def test_a_finished_plain_student_of_an_older_version_is_left_out(self, studio, run):
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

    def test_standings_of_methods(self):
        assert scene_tables.scores_sentence(1, {"teacher": 30.0}, distilled=True) == ""
        known = scene_tables.scores_sentence(1000, {"student": 30.0}, distilled=False)
        assert known == "At step 1,000: student 30.00 dB."
        alone = scene_tables.scores_sentence(3, {"student": 30.0, "bicubic": 29.0, "plain": 31.0}, distilled=False)
        assert alone == "At step 3: student 30.00 dB, bicubic 29.00 dB."

    def test_no_lead_without_a_teacher(self, tmp_path):
        plain = specimens.make_run(tmp_path / "plain" / "alone", distills=False)
        specimens.add_rows(plain, range(1, 5), distills=False)
        assert Studio(runs=[plain.folder.parent], scenes=[]).view_run("0/alone", NEWEST, {}).lead == ""

    def test_many_points_are_downsampled(self):
        steps, terms = progress.downsample(range(100_000), {"a": [1.0] * 100_000})
        assert len(steps) <= progress.POINTS
        assert set(terms["a"]) == {1.0}
