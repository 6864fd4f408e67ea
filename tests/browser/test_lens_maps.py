"""Attention maps and memory cells of the lens, compared with the arrays of the scene."""

import shutil

import numpy as np
import pytest

from tests import specimens
from tests.browser.lens_page import LENS, MINUS, choose, gray, panel, part, ramp, rgb, show, wait_frame
from workbench.views.colors import DIVERGING, SEQUENTIAL

pytestmark = pytest.mark.browser


class TestMaps:
    def test_maps_of_every_method_are_on_one_scale(self, lens, scene):
        show(lens, 2)
        maps = {o.method: o for o in scene.overlays if o.kind == "attention"}
        names = lens.locator(f"{LENS} [data-part=attention-maps] .lens-name").all_inner_texts()
        assert names == ["Distilled student", "Teacher"]
        theirs = gray(scene, maps["teacher"], 2)
        drawn = rgb(lens, "readMap(1)").astype(float)
        levels = (theirs / max(o.vmax for o in maps.values()) * 255).round().astype(int)
        np.testing.assert_allclose(drawn, ramp(SEQUENTIAL)[levels], atol=1)

    def test_memory_cells_of_a_channel_are_on_one_scale(self, lens, scene):
        choose(lens, "memory-channel", "3")
        show(lens, 4)
        cells = {o.method: scene.array(o).astype(float) for o in scene.overlays if o.kind == "memory"}
        low, zero, high = map(float, part(lens, "memory-colorbar").locator(".lens-numbers").inner_text().split())
        assert (low, zero) == (-high, 0)
        assert high == pytest.approx(np.quantile(np.abs(cells["teacher"][:, 3]), 0.995), rel=0.1)
        drawn = rgb(lens, "readMap(3)").astype(float)
        levels = ((cells["teacher"][4, 3] / high + 1) * 127.5).round().clip(0, 255).astype(int)
        step = np.abs(np.diff(ramp(DIVERGING), axis=0)).max() * 2 + 1  # the image stores 256 levels
        np.testing.assert_allclose(drawn, ramp(DIVERGING)[levels], atol=step)

    def test_differences_are_on_one_scale_with_zero_in_the_middle(self, lens, scene):
        panel(lens, "differences")
        show(lens, 2)
        maps = {o.method: o for o in scene.overlays if o.kind == "attention"}
        names = lens.locator(f"{LENS} [data-part=difference-maps] .lens-name").all_inner_texts()
        assert names == [f"Distilled student {MINUS} Teacher"]
        theirs, ours = gray(scene, maps["teacher"], 2), gray(scene, maps["distilled"], 2)
        low, zero, high = map(float, part(lens, "difference-colorbar").locator(".lens-numbers").inner_text().split())
        assert (low, zero) == (-high, 0)
        level = ((ours - theirs) / high + 1) * 127.5
        drawn = rgb(lens, "readMap(4)").astype(float)
        step = np.abs(np.diff(ramp(DIVERGING), axis=0)).max() + 1  # a rounded level may fall to its neighbor
        np.testing.assert_allclose(drawn, ramp(DIVERGING)[level.round().clip(0, 255).astype(int)], atol=step)

    def test_captions_give_the_cosine_of_the_frame_and_the_value_under_the_pointer(self, lens, scene):
        panel(lens, "differences")
        show(lens, 5)
        maps = {o.method: scene.array(o)[5].astype(float) for o in scene.overlays if o.kind == "attention"}
        a, b = maps["distilled"].ravel(), maps["teacher"].ravel()
        cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        difference = lens.locator(f"{LENS} [data-part=difference-maps] .lens-map")
        canvas = difference.locator("canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        canvas.hover(position={"x": box["width"] * 0.5 + 1, "y": box["height"] * 0.5 + 1})
        caption = difference.locator(".lens-caption").inner_text()
        here = maps["distilled"][6, 8] - maps["teacher"][6, 8]
        assert float(caption.split(" · ")[0].removeprefix("pixel ")) == pytest.approx(
            here, abs=2 * scene.overlays[0].vmax / 255
        )
        assert f"cosine {cosine:.3f}" in caption
        assert "Attention cosine" in part(lens, "similarity").inner_text()


def test_similarity_of_the_memory_cells_is_a_curve(watched, home):
    folder = home / "scenes" / "wide"
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    arrays["memory.distilled"][3, :4] *= -1  # half of the channels are opposite
    np.savez_compressed(folder / "arrays.npz", **arrays)
    page = watched.open("?scene=wide")
    page.wait_for_selector(LENS)
    last = arrays["memory.teacher"][-1].astype(float)
    index = np.sqrt(last.var((1, 2)).mean() / (last**2).mean())
    assert 0.1 < index < 0.29
    assert f"{index:.2f} on the clip shown" in part(page, "memory-verdict").inner_text()
    chart = part(page, "similarity").locator(".chart").nth(1)
    assert "1.00" in chart.locator(".chart-read").inner_text()
    plot = chart.locator(".chart-plot")
    box = plot.bounding_box()
    plot.click(position={"x": 46 + (box["width"] - 56) * 3 / 4, "y": 40})
    wait_frame(page, 3)
    ours, theirs = (arrays[f"memory.{key}"][3].astype(float).ravel() for key in ("distilled", "teacher"))
    cosine = (ours * theirs).sum() / np.sqrt((ours * ours).sum() * (theirs * theirs).sum())
    assert f"{cosine:.3f}" in chart.locator(".chart-read").inner_text()


def test_a_memory_with_one_channel_is_not_listed_as_attention(watched, home, monkeypatch):
    memory = specimens.memory
    monkeypatch.setattr(specimens, "memory", lambda clip, channels, gain: memory(clip, 1, gain))
    folder = specimens.make_scene(home / "scenes" / "narrow", frames=2)
    page = watched.open("?scene=narrow")
    page.wait_for_selector(LENS)
    assert part(page, "attention-kind").locator("option").evaluate_all("all => all.map(one => one.value)") == [
        "attention"
    ]
    names = part(page, "memory-maps").locator(".lens-name").all_inner_texts()
    assert names == ["Distilled student", "Teacher"]
    shutil.rmtree(folder)
