"""Sentence on the losses of the students of a scene."""

from dataclasses import replace

from tests import specimens
from workbench.distillation_config import OtherLosses
from workbench.presets import PRESETS
from workbench.pretrained import SET, shipped_networks
from workbench.runs import Run, shipped
from workbench.scenes import Method, read_scene
from workbench.views.student_losses import losses_sentence, run_losses, scene_losses, shipped_sentences


def test_a_scene_of_shipped_networks_names_their_losses(scene_folder):
    scene = read_scene(scene_folder)
    methods = [replace(m, note=f"pretrained:{SET[m.key]} (sha256 0)") if m.key in SET else m for m in scene.methods]
    losses = scene_losses(replace(scene, methods=tuple(methods)), [])
    name, learned = (
        SET["distilled"],
        "learned from the teacher's frames (output L1, frame difference); maps and cells are shown",
    )
    assert losses == f"The distilled student of this scene, {name}, {learned} for comparison."


def test_the_first_page_names_each_shipped_student():
    named = shipped_sentences()
    assert named.index(f"distilled student, {SET['distilled']}") < named.index("Another student, ")
    assert all(network in named for network in shipped_networks() if network != "edvr_s")


def test_a_space_time_distillation():
    assert "attention maps (spatial) and memory cells (temporal)." in run_losses(Run(shipped("runs") / "vespcn_std"))


def test_some_losses_and_none():
    config = PRESETS["paper"]()
    settings = replace(config.distillation, temporal_weight=0.0, losses=OtherLosses(output_l1=2.0))
    both = replace(config, distillation=settings)
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
