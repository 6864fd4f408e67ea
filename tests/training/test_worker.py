"""Files of a finished run: status, metrics, snapshots, weights; the command of a worker."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.interruptions import assert_equal_weights, at, logged, partial_files
from workbench.config import Network
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import make_pair
from workbench.distillation_config import Distillation
from workbench.inference.chunks import upscale
from workbench.metrics.fidelity import psnr_db
from workbench.models.weights import load, read_tensors
from workbench.models.zoo import build
from workbench.runs import is_locked, request_stop
from workbench.training import worker
from workbench.training.worker import prepare_run, work


def test_run_json_has_settings_versions_and_checksums(whole, small, teacher_weights):
    record = whole.record()
    assert whole.config() == small
    assert record["seed"] == 0
    assert (
        record["versions"]["torch"] == torch.__version__.split("+")[0]
        or record["versions"]["torch"] == torch.__version__
    )
    assert record["weights"]["teacher"]["file"] == str(teacher_weights)
    assert len(record["weights"]["teacher"]["sha256"]) == 64


def test_a_finished_run_has_no_lock_and_no_partial_files(whole):
    status = whole.status()
    assert (status.state, status.step, status.steps, status.seconds_left) == ("finished", 8, 8, None)
    assert not is_locked(whole.folder)
    assert partial_files(whole) == []


def test_metrics_have_every_step_with_its_terms(whole):
    rows = whole.metrics()
    assert [row["step"] for row in rows] == list(range(1, 9))
    for row in rows:
        assert set(row["terms"]) == set(row["weights"]) == {"reconstruction", "spatial", "temporal"}
        assert row["total"] == pytest.approx(sum(row["weights"][name] * row["terms"][name] for name in row["terms"]))
        assert 0 < row["collapse_index"] < 1
        assert row["gradient_norm"] > 0
        assert row["seconds"] > 0
    assert rows[0]["learning_rate"] == pytest.approx(4e-4)
    assert rows[-1]["learning_rate"] == pytest.approx(1e-6)
    assert [row["weights"]["spatial"] for row in rows[:5]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_snapshots_contain_all_methods_maps_and_curves(whole):
    assert whole.snapshots() == [0, 4, 8]
    scene = whole.snapshot(4)
    assert [m.key for m in scene.methods] == ["low", "high", "bicubic", "teacher", "student"]
    assert (scene.frames, scene.height, scene.width) == (3, 32, 48)
    assert scene.clip("low").shape == (3, 8, 12, 3)
    assert {o.method for o in scene.overlays if o.kind == "memory"} == {"teacher", "student"}
    assert {o.kind for o in scene.overlays} == {
        "attention_sum_squares", "attention_sum_abs", "attention_max_squares", "memory",
    }  # fmt: skip
    for kind in ("memory", "attention_sum_squares"):
        ends = {(o.vmin, o.vmax) for o in scene.overlays if o.kind == kind}
        assert len(ends) == 1
    curves = {curve.key: curve.series for curve in scene.curves}
    assert set(curves) == {"psnr_y_db", "ssim_y", "t_diff", "tof"}
    assert all(set(series) == {"bicubic", "teacher", "student"} for series in curves.values())
    assert scene.protocol == {"degradation": "bi", "scale": 4, "channel": "Y", "crop_border": 0}
    assert scene.provenance["held_out"] is True


def test_frames_and_scores_of_snapshots_are_those_of_the_networks(whole, small, teacher_weights):
    pair = make_pair(load_clip(small.data.validation_clip).frames, scale=4)
    scene = whole.snapshot(8)
    assert np.array_equal(scene.clip("high"), pair.high)
    assert np.array_equal(scene.clip("low"), pair.low)
    assert np.array_equal(scene.clip("bicubic"), upscale(build("bicubic"), pair.low))
    for method, weights in (("teacher", teacher_weights), ("student", whole.weights())):
        made = upscale(load(weights), pair.low)
        assert np.abs(scene.clip(method).astype(int) - made).max() <= 1
    (psnr,) = (curve.series for curve in scene.curves if curve.key == "psnr_y_db")
    assert psnr["student"] == pytest.approx(psnr_db(scene.clip("student"), pair.high).tolist(), rel=1e-5)


def test_frames_of_the_student_change_between_snapshots(whole):
    first, last = whole.snapshot(0), whole.snapshot(8)
    assert not np.array_equal(first.clip("student"), last.clip("student"))
    assert np.array_equal(first.clip("teacher"), last.clip("teacher"))


def test_weights_files_contain_run_and_step(whole):
    network = load(whole.weights())
    assert network.recipe["name"] == "vespcn"
    _, record = read_tensors(whole.weights())
    assert json.loads(record["card"]) == {"run": "whole", "step": 8}
    tensors, record = read_tensors(whole.weights("memory"))
    assert json.loads(record["memory"])["hidden_channels"] == 2
    assert "lstm.input_conv.weight" in tensors


def test_the_last_two_checkpoints_are_kept(whole):
    assert whole.checkpoints() == [6, 8]


def test_working_on_a_finished_run_changes_nothing(whole):
    before = logged(whole)
    assert work(whole) == "finished"
    assert logged(whole) == before
    assert whole.status().step == 8


def test_runs_of_equal_settings_are_equal(run, whole):
    assert work(run) == "finished"
    assert logged(run) == logged(whole)
    assert_equal_weights(run, whole)


def test_a_plain_run_has_the_reconstruction_loss_alone(small, tmp_path, whole):
    plain = prepare_run(tmp_path / "plain", replace(small, teacher=Network(), steps=2))
    assert work(plain) == "finished"
    assert [list(row["terms"]) for row in plain.metrics()] == [["reconstruction"]] * 2
    assert plain.metrics()[0]["terms"]["reconstruction"] == whole.metrics()[0]["terms"]["reconstruction"]
    assert "collapse_index" not in plain.metrics()[0]
    scene = plain.snapshot(2)
    assert [m.key for m in scene.methods] == ["low", "high", "bicubic", "student"]
    assert scene.method("student").label == "Student"
    assert not plain.weights("memory").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"student": Network(name="edvr_tiny")},
        {"data": "scale 2"},
        {"precision": "bf16"},
        {"distillation": Distillation(temporal_weight=0.0, feature_layer="shuffle")},
        {
            "distillation": Distillation(
                spatial_weight=0.0, memory_mode="trained_then_frozen", freeze_below=1e3, memory_stride=1
            )
        },
    ],
    ids=["edvr as a student", "scale 2", "bf16", "spatial only", "temporal only, frozen at once"],
)
def test_runs_with_other_settings_finish(small, tmp_path, change, whole):
    if change == {"data": "scale 2"}:
        change = {"data": replace(small.data, scale=2), "teacher": Network()}
    run = prepare_run(tmp_path / "other", replace(small, steps=2, **change))
    assert work(run) == "finished"
    assert len(run.metrics()) == 2
    assert run.snapshots() == [0, 2]
    if "distillation" in change and change["distillation"].memory_mode == "trained_then_frozen":
        assert "memory frozen" in run.metrics()[0]["notes"][0]
        assert bool(read_tensors(run.weights("memory"))[0]["frozen"])


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "bf16"), (30.0, "fp32")])
def test_precision_auto_is_recorded_and_kept_by_a_resume(small, tmp_path, monkeypatch, ratio, chosen):
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: ratio)
    config = replace(small, precision="auto", device="cpu", teacher=Network(), steps=2)
    run = prepare_run(tmp_path / "auto", config)
    assert run.config() == replace(config, precision=chosen)
    assert run.record()["precision"] | {"reason": ""} == {
        "precision": chosen, "wanted": "auto", "relative_time": ratio, "reason": ""
    }  # fmt: skip
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: 1 / ratio)
    assert work(run, at(1, lambda: request_stop(run))) == "stopped"
    assert work(run) == "finished"
    assert run.config().precision == chosen


def test_the_command_of_a_worker_returns_0_or_1_and_logs_a_sentence(whole, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(sys, "argv", ["worker", str(whole.folder)])
    assert worker.main() == 0
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path / "nothing")])
    assert worker.main() == 1
    assert caplog.messages[0] == "whole: finished"
    assert "no run.json here" in caplog.messages[1]
    assert not (tmp_path / "nothing").exists()
