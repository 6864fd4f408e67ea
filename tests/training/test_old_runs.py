"""Run folders of format 1: settings, loss terms, folders and tensors under their old names; read, and resumed."""

import json
from dataclasses import replace

import pytest

from tests import specimens
from tests.training.interruptions import assert_equal_losses, assert_equal_weights
from workbench.distillation_config import OtherLosses
from workbench.models.weights import read_tensors, save_tensors
from workbench.runs import list_runs, shipped
from workbench.scenes import read_scene
from workbench.training.worker import prepare_run, work

OLD_SETTINGS = {
    "data.crop_size": "data.crop",
    "data.num_frames": "data.frames",
    "data.batch_size": "data.batch",
    "data.num_fixed_crops": "data.fixed",
    "data.augmentations_per_crop": "data.views",
    "data.fixed_crops_seed": "data.fixed_seed",
    "data.num_workers": "data.workers",
    "data.validation_clip": "data.probe",
    "optimizer.gradient_accumulation_steps": "optimiser.accumulate",
    "optimizer.max_grad_norm": "optimiser.clip_gradient",
    "optimizer.ema_decay": "optimiser.ema",
    "optimizer.offset_lr_mult": "optimiser.offset_rate",
    "distillation.feature_layer": "distillation.tap",
    "distillation.attention_kind": "distillation.mapping",
    "distillation.normalization": "distillation.normalisation",
    "distillation.memory_mode": "distillation.memory",
    "distillation.losses.output_l1": "distillation.others.output",
    "distillation.losses.squared_mean": "distillation.others.mean_power",
    "distillation.losses.mean_square": "distillation.others.power_mean",
    "distillation.losses.attention_transfer_code": "distillation.others.attention_as_coded",
    "distillation.losses.teacher_better_l1": "distillation.others.where_better",
    "alignment_loss_weight": "motion_weight",
    "teacher_cache_dir": "cache_teacher",
    "gradient_stats_every": "watch_every",
}
OLD_TERMS = {"output_l1": "output", "alignment": "motion"}


def old_name(name):
    if name in OLD_SETTINGS:
        return OLD_SETTINGS[name]
    return name.replace("optimizer.", "optimiser.").replace("distillation.losses.", "distillation.others.")


def flat(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def nested(settings):
    whole = {}
    for name, value in settings:
        *groups, last = name.split(".")
        group = whole
        for part in groups:
            group = group.setdefault(part, {})
        group[last] = value
    return whole


def old_terms(values):
    return {OLD_TERMS.get(name, name): value for name, value in values.items()}


def make_format_1(folder):
    """Rewrite a run folder with the names of format 1."""
    (folder / "validation_clip").rename(folder / "probe")
    (folder / "checkpoints").rename(folder / "state")
    record = json.loads((folder / "run.json").read_text())
    settings = [(old_name(name), value) for name, value in flat(record["config"]) if name != "trackers"]
    record |= {"format": 1, "config": nested(settings) | {"tensorboard": False}}
    record["data"] = {old_name(name): checksum for name, checksum in record["data"].items()}
    assert "data.probe" in record["data"]
    (folder / "run.json").write_text(json.dumps(record))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"terms": old_terms(row["terms"]), "weights": old_terms(row["weights"]), "waited": row.pop("data_time")}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for state in (folder / "state").iterdir():
        saved = json.loads((state / "state.json").read_text())
        info = saved.pop("resume_info")
        info["config"] = {old_name(name): value for name, value in info["config"].items()}
        del saved["format"]
        saved["groups"] = [{"rate": group.pop("lr_mult"), **group} for group in saved["groups"]]
        (state / "state.json").write_text(json.dumps(saved | {"conditions": info}))
        (state / "optimizer.safetensors").rename(state / "optimiser.safetensors")
        tensors, metadata = read_tensors(state / "objective.safetensors")
        for today, old in ((".input_conv.", ".reads."), (".hidden_conv.", ".recalls."), ("losses.", "others.")):
            tensors = {name.replace(today, old): tensor for name, tensor in tensors.items()}
        assert any(name.startswith("others.fitnets.") for name in tensors)
        assert any(".reads." in name for name in tensors)
        save_tensors(state / "objective.safetensors", tensors, metadata)


def test_a_run_of_format_1_is_read_and_resumed_exactly(small, tmp_path):
    distillation = replace(small.distillation, losses=OtherLosses(output_l1=0.5, fitnets=0.1))
    config = replace(small, steps=4, alignment_loss_weight=0.01, distillation=distillation)
    whole, run = (prepare_run(tmp_path / name, config) for name in ("whole", "old"))
    assert work(whole) == "finished"

    def stop(step, _steps):
        if step.number == 2:
            (run.folder / "stop").touch()

    assert work(run, stop) == "stopped"
    make_format_1(run.folder)
    assert run.config() == config
    assert set(run.metrics()[0]["terms"]) == {
        "reconstruction", "alignment", "spatial", "temporal", "output_l1", "fitnets"
    }  # fmt: skip
    assert run.snapshots() == [0, 2]
    assert work(run) == "finished"
    assert_equal_losses(run, whole)
    assert_equal_weights(run, whole)
    assert {path.name for path in run.folder.iterdir() if path.is_dir()} == {"probe", "state", "snapshots", "weights"}


@pytest.mark.parametrize("logged", [True, False])
def test_the_old_tensorboard_setting_becomes_a_tracker(small, logged):
    saved = {"student": {"name": "vespcn"}, "tensorboard": logged}
    assert type(small).from_run(saved, version=1).trackers == (("tensorboard",) if logged else ())


def test_the_log_of_a_run_of_format_1_has_current_names(tmp_path):
    from workbench.runs import Run

    run = Run(tmp_path)
    config = {"student": {"name": "vespcn_s"}, "distillation": {"temporal_weight": 0.0, "others": {"output": 2.0}}}
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "config": config}))
    terms = {"reconstruction": 0.05, "output": 0.04}
    row = {"step": 1, "terms": terms, "weights": dict.fromkeys(terms, 1.0), "total": 0.09, "waited": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert run.config().distillation.losses.output_l1 == 2.0
    first = run.metrics()[0]
    assert (set(first["terms"]), first["weights"].keys(), "data_time" in first) == (
        {"reconstruction", "output_l1"}, first["terms"].keys(), True
    )  # fmt: skip


@pytest.mark.parametrize("name", list_runs(shipped("runs")))
def test_the_snapshots_of_a_shipped_run_open(name):
    from workbench.runs import Run

    run = Run(shipped("runs") / name)
    assert run.status().state == "finished" or run.status().state == "stopped"
    assert "student" in [method.key for method in run.snapshot(run.snapshots()[-1]).methods]


@pytest.mark.parametrize("name", sorted(path.name for path in shipped("scenes").iterdir() if path.is_dir()))
def test_a_shipped_scene_opens(name):
    scene = read_scene(shipped("scenes") / name)
    assert scene.methods
    assert scene.curves


def test_a_scene_of_format_1_is_read(tmp_path):
    scene = read_scene(specimens.make_scene(tmp_path / "old"))
    path = scene.folder / "scene.json"
    record = json.loads(path.read_text())
    record["format"], record["protocol"] = 1, {"crop": 8, "quantised": "8 bit"}
    for overlay in record["overlays"]:
        overlay |= {"low": overlay.pop("vmin"), "high": overlay.pop("vmax")}
    path.write_text(json.dumps(record))
    old = read_scene(scene.folder)
    assert old.overlays == scene.overlays
    assert old.protocol == {"crop_border": 8, "quantized": "8 bit"}
