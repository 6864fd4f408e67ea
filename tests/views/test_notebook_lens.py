import io

import numpy as np
import pytest
from PIL import Image

from workbench.errors import FolderError, UnknownNameError
from workbench.scenes import read_scene
from workbench.views.lens import notebook_lens
from workbench.views.lens.notebook_lens import Lens, look


@pytest.fixture
def scene(scene_folder):
    return read_scene(scene_folder)


def test_sends_the_pictures_that_were_scored(scene):
    widget = look(scene, methods=["bicubic", "teacher"], frame=2)
    assert isinstance(widget, Lens)
    assert widget.frame == 2
    assert [m["key"] for m in widget.value["methods"]] == ["bicubic", "teacher"]
    home = widget.value["methods"][1]["frames"]
    with Image.open(io.BytesIO(widget.pictures[home][3])) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), scene.frame("teacher", 3))
    maps = [m["frames"] for overlay in widget.value["overlays"] for m in overlay["maps"].values()]
    assert len(maps) == 2
    assert all(len(widget.pictures[name]) == scene.frames for name in maps)


def test_shows_another_scene_in_place(scene, run):
    widget = look(run.snapshot(20))
    before = widget.pictures
    assert widget.show(run.snapshot(40)) is widget
    assert widget.value["id"] == "mine-40"
    assert widget.pictures != before


def test_the_script_is_the_lens_itself():
    for marker in ("function lineChart", "createImageBitmap", "export default"):
        assert marker in Lens._esm._contents if hasattr(Lens._esm, "_contents") else marker in str(Lens._esm)


def test_says_what_is_wrong(scene, monkeypatch):
    with pytest.raises(UnknownNameError, match="did you mean 'teacher'"):
        look(scene, methods=["teachr"])
    monkeypatch.setattr(notebook_lens, "LIMIT_MIB", 0.01)
    with pytest.raises(FolderError, match="too many for a notebook"):
        look(scene)
