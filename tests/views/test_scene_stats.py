from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import specimens
from workbench.distill import spatial
from workbench.scenes import read_scene
from workbench.views.lens import scene_stats


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return {key: rng.random((3, 6, 8)).astype(np.float32) for key in ("teacher", "plain", "distilled")}


def test_similarity_is_the_overlap_of_the_training(maps):
    found = scene_stats.similarity(maps)
    assert set(found) == {"plain", "distilled"}
    for key, values in found.items():
        expected = spatial.attention_overlap(torch.tensor(maps[key]), torch.tensor(maps["teacher"]))
        assert values == pytest.approx(expected.tolist(), rel=1e-4)


def test_an_empty_map_has_no_overlap(maps):
    maps["plain"][1] = 0
    assert scene_stats.similarity(maps)["plain"][1] is None
    assert scene_stats.similarity({"plain": maps["plain"]}) == {}
    assert scene_stats.similarity(maps | {"plain": np.ones((3, 2, 2))}).keys() == {"distilled"}  # of another size


def test_limits_of_a_channel_contain_nearly_all_of_its_values():
    cells = np.random.default_rng(1).normal(0, [[[[1.0]], [[10.0]]]], (4, 2, 30, 30))
    small, large = scene_stats.channel_limits({"teacher": cells, "plain": 0.5 * cells})
    assert 0.99 < (np.abs(cells[:, 0]) <= small).mean() < 1
    assert large == pytest.approx(10 * small, rel=0.2)
    assert scene_stats.channel_limits({"teacher": cells[:, 0]}) == []


def test_reach_contains_nearly_all_differences(maps):
    limit = scene_stats.difference_limit(maps)
    gaps = np.abs(maps["plain"] - maps["teacher"])
    assert limit is not None
    assert (gaps <= limit).mean() > 0.99
    assert limit < 1
    assert scene_stats.difference_limit({"teacher": maps["teacher"]}) is None
    assert (
        scene_stats.difference_limit({"a": maps["plain"], "b": maps["plain"]}) == 1.0
    )  # no difference: any scale will do


def test_gap_closed_is_omitted_if_the_teacher_hardly_leads(tmp_path):
    scene = read_scene(specimens.make_scene(tmp_path / "scene", frames=3))
    series = {"plain": [24.0, 24.0, 24.0], "distilled": [24.5, 24.5, None], "teacher": [26.0, 24.04, 26.0]}
    curves = tuple(replace(c, series=series) for c in scene.curves if c.key == "psnr_y_db")
    assert scene_stats.gap_curve(replace(scene, curves=curves)) == {"distilled": [25.0, None, None]}


def test_a_scene_without_its_arrays_has_no_statistics(tmp_path):
    folder = specimens.make_scene(tmp_path / "disc", frames=3)
    scene = read_scene(folder)
    maps = [o for o in scene.overlays if o.kind == "attention"]
    assert set(scene_stats.arrays(scene, maps)) == {"distilled", "teacher"}
    (folder / "arrays.npz").write_bytes(b"PK not an archive")
    assert scene_stats.arrays(scene, maps) == {}
    (folder / "arrays.npz").unlink()
    assert scene_stats.arrays(scene, maps) == {}
