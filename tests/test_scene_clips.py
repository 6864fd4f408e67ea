"""Clips of the shipped scenes of a moving camera, `tools/scene_clips.py`, and rendering, `tools/ship.py --scenes`."""

import importlib.util
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests import specimens
from tests.conftest import ROOT
from workbench.data.datasets.samples import sample
from workbench.errors import FolderError
from workbench.scenes import read_scene


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    sys.modules[name] = tool
    spec.loader.exec_module(tool)
    return tool


scene_clips, ship = load_tool("scene_clips"), load_tool("ship")
SIGN = scene_clips.CLIPS["sign"]


def test_the_camera_moves_by_its_speed():
    """Over an image whose levels rise by a quarter a pixel to the right, a shift raises all levels by its quarter."""
    noise = np.random.default_rng(0).normal(0, 4, (700, 800))  # so that rounding is no staircase
    image = np.rint(20 + np.arange(800) / 4 + noise)[..., None].repeat(3, 2).astype(np.uint8)
    frames = scene_clips.render_clip(image, replace(SIGN, turn=0.0)).astype(float)
    assert frames.shape == (scene_clips.FRAMES, scene_clips.HEIGHT, scene_clips.WIDTH, 3)
    pixels = scene_clips.SCALE * SIGN.speed * math.cos(math.radians(SIGN.heading))  # high-resolution pixels
    rises = np.diff(frames.mean((1, 2, 3)))
    assert rises == pytest.approx(pixels * scene_clips.DOWNSAMPLING / 4, abs=0.05)


def test_speeds_are_parts_of_a_pixel():
    for clip in scene_clips.CLIPS.values():
        shift = [clip.speed * function(math.radians(clip.heading)) for function in (math.cos, math.sin)]
        assert 0.3 <= clip.speed <= 1.5
        assert all(abs(one - round(one)) > 0.1 for one in shift)


def test_the_shipped_sign_is_the_drawn_one():
    drawn = scene_clips.render_clip(scene_clips.draw_sign(), SIGN)
    shipped = sample("sign").frames
    assert np.abs(drawn.astype(int) - shipped).mean() < 2, "draw it again: python tools/scene_clips.py"


def test_frames_are_written_without_loss_and_without_old_ones(tmp_path):
    frames = specimens.moving_clip(3, 16, 24)
    for count in (3, 2):
        scene_clips.write(tmp_path / "high", frames[:count])
    files = sorted((tmp_path / "high").iterdir())
    assert [file.name for file in files] == ["00000.webp", "00001.webp"]
    assert np.array_equal(np.asarray(Image.open(files[1])), frames[1])


def test_another_photograph_is_refused(tmp_path):
    clip = scene_clips.CLIPS["casa_mila"]
    (tmp_path / clip.photograph).write_bytes(b"another image")
    with pytest.raises(SystemExit, match=clip.sha256):
        scene_clips.main(stills=tmp_path, out=tmp_path / "scenes")


def test_scenes_are_rendered_and_slimmed(tmp_path, monkeypatch):
    clips = {name: (f"bigbuckbunny[40:43, 60:108, {left}:{left + 64}]", name) for name, left in (("a", 60), ("b", 120))}
    monkeypatch.setattr(ship, "SCENES", clips)
    monkeypatch.setattr(ship, "SCENE_WITH_MEMORY", "b")
    specimens.make_scene(tmp_path / "old")
    ship.ship_scenes(tmp_path, compression=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    scenes = {name: read_scene(tmp_path / name) for name in clips}
    for scene in scenes.values():
        assert scene.sides == ship.SCENE_SIDES
        assert [method.key for method in scene.methods][:2] == ["low", "high"]
        assert set(scene.sides) <= {method.key for method in scene.methods}
        assert "Blender" in scene.provenance["credit"]
        assert sorted(path.name for path in (scene.folder / "overlays").iterdir()) == sorted(
            {overlay.kind for overlay in scene.overlays}
        )
        with np.load(scene.folder / "arrays.npz") as arrays:
            assert sorted(arrays.files) == sorted(overlay.array for overlay in scene.overlays)
        assert all(len(scene.array(overlay)) == scene.frames for overlay in scene.overlays)
    kinds = [{overlay.kind for overlay in scene.overlays} for scene in scenes.values()]
    assert kinds[0] == {ship.KEPT_MAP}
    assert kinds[1] in ({ship.KEPT_MAP, "memory"}, {ship.KEPT_MAP})  # networks may lack a ConvLSTM for their features
    assert scenes["a"].provenance["memory"] == "none"


def test_numbers_are_rounded_to_a_128th():
    values = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float16)
    rounded = ship.round_digits(values)
    assert rounded.dtype == np.float16
    assert np.abs(rounded / values.astype(float) - 1).max() <= 1 / 128
    assert len(np.unique(np.frexp(np.abs(rounded.astype(float)))[0])) <= 65
    assert ship.round_digits(np.array([0.0, 1.0, -3.3], np.float16)).tolist() == [0.0, 1.0, -3.3125]


def test_sides_of_a_scene_are_names(tmp_path):
    folder = specimens.make_scene(tmp_path / "scene")
    record = json.loads((folder / "scene.json").read_text())
    assert read_scene(folder).sides == ()
    (folder / "scene.json").write_text(json.dumps(record | {"sides": ["plain", "teacher"]}))
    assert read_scene(folder).sides == ("plain", "teacher")
    (folder / "scene.json").write_text(json.dumps(record | {"sides": ["../plain", "teacher"]}))
    with pytest.raises(FolderError, match="plain"):
        read_scene(folder)
