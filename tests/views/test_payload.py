import json
from dataclasses import replace

import pytest

from workbench.scenes import Overlay, read_scene
from workbench.views.colors import METHODS
from workbench.views.lens.payload import payload


@pytest.fixture
def scene(scene_folder):
    return read_scene(scene_folder)


def address(folder):
    return "lens/" + "/".join(folder.parts[-3:])


def test_the_payload_is_json_with_all_parts(scene):
    value = payload(scene, address)
    assert (value["width"], value["height"], value["frame_count"], value["fps"]) == (64, 48, 8, 12)
    assert [m["key"] for m in value["methods"]] == ["low", "high", "bicubic", "plain", "distilled", "teacher"]
    assert value["methods"][3]["image_folder"] == "lens/disc/frames/plain"
    assert value["methods"][5]["color"] == METHODS["teacher"]
    assert [c["key"] for c in value["curves"]] == ["psnr_y_db", "ssim_y", "t_diff", "tof", "gap_closed"]
    assert value["curves"][2]["series"]["plain"][0] is None  # the first frame has no change
    assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_a_scene_names_the_methods_that_are_shown_first(scene):
    assert "sides" not in payload(scene, address)
    assert payload(replace(scene, sides=("plain", "teacher")), address)["sides"] == ["plain", "teacher"]


def test_maps_of_a_kind_have_one_scale(scene):
    first, *others = scene.overlays
    wider = replace(first, vmin=-1.0, vmax=0.5)
    attention = payload(replace(scene, overlays=(wider, *others)), address)["overlays"][0]
    assert (attention["vmin"], attention["vmax"]) == (-1.0, 0.5)
    assert attention["by_method"]["distilled"]["vmax"] == 0.5
    assert attention["by_method"]["teacher"]["vmax"] == first.vmax


def test_zero_stays_in_the_middle_of_a_diverging_scale(scene):
    lopsided = Overlay(kind="memory", label="m", method="teacher", vmin=-0.1, vmax=0.4, channels=8, diverging=True)
    memory = payload(replace(scene, overlays=(lopsided,)), address)["overlays"][0]
    assert (memory["vmin"], memory["vmax"], memory["channels"]) == (-0.4, 0.4, 8)


def test_a_map_of_an_absent_method_is_left_out(scene):
    stray = Overlay(kind="attention", label="a", method="absent", vmin=0, vmax=1)
    assert payload(replace(scene, overlays=(stray,)), address)["overlays"] == []


def test_similarities_verdict_and_gap_are_computed(scene):
    value = payload(scene, address)
    attention, memory = value["overlays"]
    assert set(attention["cosine_to_teacher"]) == {"distilled"}
    assert len(attention["cosine_to_teacher"]["distilled"]) == 8
    assert all(0 < overlap < 1 for overlap in attention["cosine_to_teacher"]["distilled"])
    assert memory["cosine_to_teacher"]["distilled"] == pytest.approx([1] * 8, abs=1e-3)  # the same, but for its size
    assert memory["difference_limit"] is None
    assert value["memory"]["index"] > 0.3
    assert "(healthy)" in value["memory"]["verdict"]
    assert f"{value['memory']['index']:.2f} on the clip shown" in value["memory"]["numbers"]
    series = scene.curves[0].series
    gap = value["curves"][-1]["series"]["distilled"][2]
    plain, distilled, teacher = (series[key][2] for key in ("plain", "distilled", "teacher"))
    assert gap == pytest.approx(100 * (distilled - plain) / (teacher - plain), rel=1e-4)


def test_links_are_included_on_request_only(scene):
    assert "link" not in payload(scene, address)
    assert payload(scene, address, link={"run": "mine", "step": "20"})["link"] == {"run": "mine", "step": "20"}
