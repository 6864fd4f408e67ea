from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.distill import spatial, temporal
from workbench.scenes import read_scene
from workbench.views.lens import readings


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return {key: rng.random((3, 6, 8)).astype(np.float32) for key in ("teacher", "plain", "distilled")}


def test_overlap_is_the_one_of_the_training(maps):
    found = readings.similarity(maps)
    assert set(found) == {"plain", "distilled"}
    for key, values in found.items():
        expected = spatial.attention_overlap(torch.tensor(maps[key]), torch.tensor(maps["teacher"]))
        assert values == pytest.approx(expected.tolist(), rel=1e-4)


def test_an_empty_map_has_no_overlap(maps):
    maps["plain"][1] = 0
    assert readings.similarity(maps)["plain"][1] is None
    assert readings.similarity({"plain": maps["plain"]}) == {}
    assert readings.similarity(maps | {"plain": np.ones((3, 2, 2))}).keys() == {"distilled"}  # of another size


def test_collapse_index_is_the_one_of_the_training():
    cells = np.random.default_rng(1).normal(0.3, 1, (4, 5, 6, 7)).astype(np.float32)
    assert readings.collapse_index(cells) == pytest.approx(temporal.collapse_index(torch.tensor(cells[-1:])), abs=1e-4)
    assert readings.collapse_index(np.zeros((2, 1, 3, 3))) is None


def test_nearly_every_difference_is_within_reach(maps):
    reach = readings.reach(maps)
    gaps = np.abs(maps["plain"] - maps["teacher"])
    assert reach is not None
    assert (gaps <= reach).mean() > 0.99
    assert reach < 1
    assert readings.reach({"teacher": maps["teacher"]}) is None
    assert readings.reach({"a": maps["plain"], "b": maps["plain"]}) == 1.0  # no difference: any scale will do


def test_gap_closed_is_left_out_where_the_teacher_hardly_leads(specimens, tmp_path):
    scene = read_scene(specimens.make_scene(tmp_path / "scene", frames=3))
    series = {"plain": [24.0, 24.0, 24.0], "distilled": [24.5, 24.5, None], "teacher": [26.0, 24.04, 26.0]}
    curves = tuple(replace(c, series=series) for c in scene.curves if c.key == "psnr_y_db")
    assert readings.gap_curve(replace(scene, curves=curves)) == {"distilled": [25.0, None, None]}


def test_a_scene_without_its_numbers_has_no_readings(specimens, tmp_path):
    folder = specimens.make_scene(tmp_path / "disc", frames=3)
    scene = read_scene(folder)
    maps = [o for o in scene.overlays if o.kind == "attention"]
    assert set(readings.raw(scene, maps)) == {"distilled", "teacher"}
    (folder / "arrays.npz").write_bytes(b"PK not an archive")
    assert readings.raw(scene, maps) == {}
    (folder / "arrays.npz").unlink()
    assert readings.raw(scene, maps) == {}
