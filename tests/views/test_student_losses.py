"""Sentence on the losses of the students of a scene."""

from dataclasses import replace
from pathlib import Path

from tests import specimens
from workbench.presets import PRESETS
from workbench.runs import Run, shipped
from workbench.scenes import Method, read_scene
from workbench.views.student_losses import losses_sentence, run_losses, scene_losses
from workbench.views.studio.folders import Studio


def test_the_shipped_scene_names_the_losses_of_its_run():
    studio = Studio(runs=[Path("none"), shipped("runs")], scenes=[Path("none"), shipped("scenes")])
    losses = studio.scene("1/bunny")[0]["losses"]
    assert "learned from the teacher's frames (output L1); maps and cells are shown" in losses


def test_a_space_time_distillation():
    assert "attention maps (spatial) and memory cells (temporal)." in run_losses(Run(shipped("runs") / "demo"))


def test_some_losses_and_none():
    config = PRESETS["cpu_long"]()
    both = replace(config, distillation=replace(config.distillation, spatial_weight=0.01))
    expected = "It learned from the teacher's attention maps (spatial) and frames (output L1); cells are shown"
    assert losses_sentence(both, "It").startswith(expected)
    assert losses_sentence(replace(config, teacher=replace(config.teacher, name="")), "It") == ""


def test_methods_of_own_runs(scene_folder, tmp_path):
    run = specimens.make_run(tmp_path / "runs" / "mine")
    scene = read_scene(scene_folder)
    for label, note, known in (
        ("mine", "newest weights", True),
        ("mine, step 20", "state of step 20", True),
        ("other", "newest weights", False),
        ("mine", "mine.safetensors (sha256 0)", False),
    ):
        method = Method(key="mine", label=label, note=note)
        losses = scene_losses(replace(scene, methods=(method,)), [run.folder.parent])
        assert losses.startswith(f"{label} learned from the teacher's ") is known
        assert bool(losses) is known
