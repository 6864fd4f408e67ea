import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import specimens
from workbench.errors import FolderError, UnknownNameError
from workbench.scenes import read_scene
from workbench.views.lens import notebook_lens
from workbench.views.lens.notebook_lens import NotebookLens, show


@pytest.fixture
def scene(scene_folder):
    return read_scene(scene_folder)


def test_the_images_that_were_scored_are_sent(scene):
    widget = show(scene, methods=["bicubic", "teacher"], frame=2)
    assert isinstance(widget, NotebookLens)
    assert widget.frame == 2
    assert [m["key"] for m in widget.value["methods"]] == ["bicubic", "teacher"]
    home = widget.value["methods"][1]["image_folder"]
    with Image.open(io.BytesIO(widget.images[home][3])) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), scene.frame("teacher", 3))
    maps = [m["image_folder"] for overlay in widget.value["overlays"] for m in overlay["by_method"].values()]
    assert len(maps) == 2
    assert all(len(widget.images[name]) == scene.frames for name in maps)


def test_another_scene_is_shown_in_place(scene, run):
    widget = show(run.snapshot(20))
    before = widget.images
    assert widget.show(run.snapshot(40)) is widget
    assert widget.value["id"] == "mine-40"
    assert widget.images != before


def test_a_run_has_a_slider_for_its_training_steps(run):
    widget = show(run, frame=3)
    assert (widget.step, widget.steps, widget.value["id"]) == (40, [0, 20, 40], "mine-40")
    before = widget.images
    widget.requested_step = 20  # what the slider does
    assert (widget.step, widget.value["id"], widget.frame) == (20, "mine-20", 3)
    student = widget.value["methods"][-1]["image_folder"]
    assert student not in before
    with Image.open(io.BytesIO(widget.images[student][3])) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), run.snapshot(20).frame("student", 3))
    assert widget.go_to(33).step == 40  # the nearest
    assert show(run, step=0, methods=["teacher", "student"]).step == 0


def test_new_and_removed_snapshots(run):
    widget = show(run)
    specimens.add_snapshot(run, 60)
    assert widget.show_run(run).steps == [0, 20, 40, 60]
    assert widget.step == 60
    shutil.rmtree(run.folder / "snapshots" / "0000020")
    widget.requested_step = 20
    assert (widget.steps, widget.step) == ([0, 40, 60], 0)
    (run.folder / "snapshots" / "0000040" / "scene.json").write_text("{")
    with pytest.raises(FolderError):
        widget.requested_step = 40
    assert (widget.requested_step, widget.step) == (0, 0)


def test_a_run_without_snapshots_and_a_scene_without_steps(scene, tmp_path):
    with pytest.raises(FolderError, match="no snapshot yet"):
        show(specimens.make_run(tmp_path / "runs" / "young"))
    widget = show(scene)
    assert (widget.step, widget.steps) == (None, [])
    with pytest.raises(FolderError, match="want a lens of a run"):
        widget.go_to(20)


def test_the_script_contains_the_modules_of_the_lens():
    for marker in ("function lineChart", "createImageBitmap", "export default"):
        assert (
            marker in NotebookLens._esm._contents
            if hasattr(NotebookLens._esm, "_contents")
            else marker in str(NotebookLens._esm)
        )


def test_errors(scene, monkeypatch):
    with pytest.raises(UnknownNameError, match="did you mean 'teacher'"):
        show(scene, methods=["teachr"])
    monkeypatch.setattr(notebook_lens, "LIMIT_MIB", 0.01)
    with pytest.raises(FolderError, match="MiB"):
        show(scene)
