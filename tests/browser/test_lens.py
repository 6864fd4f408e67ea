"""The lens in a browser, and its pixels compared with the images that were scored."""

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from tests.browser.pixels import read_image
from workbench.data.video.read import read_video
from workbench.runs import Run
from workbench.scenes import read_scene
from workbench.views.colors import DIVERGING, SEQUENTIAL

pytestmark = pytest.mark.browser

LENS = ".lens[data-frame]"
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def scene(home):
    return read_scene(home / "scenes" / "disc")


@pytest.fixture
def lens(watched):
    page = watched.open("?scene=disc")
    page.wait_for_selector(LENS)
    return page


def state(page):
    return page.evaluate(f"document.querySelector('{LENS}').lens.state")


def show(page, frame):
    assert page.evaluate(f"document.querySelector('{LENS}').lens.show({frame})")


def part(page, name):
    return page.locator(f"{LENS} [data-part={name}]")


def choose(page, name, value):
    part(page, name).select_option(value)


def layout(page, name):
    page.locator(f"{LENS} [data-layout={name}]").click()


def rgb(page, call) -> np.ndarray:
    """Return an image of the page, uint8 ``(H, W, 3)``; it must be opaque."""
    rgba = read_image(page, f"document.querySelector('{LENS}').lens.{call}")
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3]


def enlarged(image, scene):
    return image.repeat(scene.height // len(image), 0).repeat(scene.width // image.shape[1], 1)


def wait_frame(page, frame):
    page.wait_for_function(f"document.querySelector('{LENS}').dataset.frame == '{frame}'")


class TestPixels:
    def test_every_bitmap_is_the_image_that_was_scored(self, lens, scene):
        for frame in (0, 7):
            show(lens, frame)
            for method in scene.methods:
                np.testing.assert_array_equal(rgb(lens, f"readPixels('{method.key}')"), scene.frame(method.key, frame))

    def test_side_by_side_draws_every_pixel(self, lens, scene):
        layout(lens, "grid")
        lens.locator(f"{LENS} [data-part=chips] button", has_text="Low resolution").click()
        show(lens, 3)
        assert state(lens)["shown"] == [m.key for m in scene.methods]
        for index, method in enumerate(scene.methods):
            drawn, scored = rgb(lens, f"readCell({index})"), scene.frame(method.key, 3)
            np.testing.assert_array_equal(drawn, enlarged(scored, scene), err_msg=method.key)

    def test_wipe_draws_every_pixel_of_both_sides(self, lens, scene):
        for left, right in (("low", "high"), ("bicubic", "plain"), ("distilled", "teacher")):
            choose(lens, "left", left)
            choose(lens, "right", right)
            show(lens, 5)
            drawn, half = rgb(lens, "readCell(0)"), scene.width // 2
            np.testing.assert_array_equal(drawn[:, :half], enlarged(scene.frame(left, 5), scene)[:, :half])
            np.testing.assert_array_equal(drawn[:, half:], enlarged(scene.frame(right, 5), scene)[:, half:])

    def test_flicker_shows_one_then_the_other(self, lens, scene):
        layout(lens, "flicker")
        show(lens, 2)
        np.testing.assert_array_equal(rgb(lens, "readCell(0)"), scene.frame("plain", 2))
        part(lens, "flip").click()
        np.testing.assert_array_equal(rgb(lens, "readCell(0)"), scene.frame("distilled", 2))

    @pytest.mark.parametrize("gain", [1, 16])
    def test_difference_is_exact(self, lens, scene, gain):
        layout(lens, "difference")
        choose(lens, "gain", str(gain))
        show(lens, 4)
        a, b = (scene.frame(key, 4).astype(int) for key in ("plain", "distilled"))
        np.testing.assert_array_equal(rgb(lens, "readCell(0)"), np.minimum(np.abs(a - b) * gain, 255))
        mean = lens.locator(f"{LENS} .lens-label.left").inner_text()
        assert f"mean {np.abs(a - b).mean():.2f}" in mean

    def test_the_loupe_shows_the_same_place_of_every_method(self, lens, scene):
        show(lens, 1)
        x, y = state(lens)["point"]
        said = lens.locator(f"{LENS} .lens-color").all_inner_texts()
        for text, method in zip(said, scene.methods, strict=True):
            image = enlarged(scene.frame(method.key, 1), scene)
            assert text == " ".join(map(str, image[y, x])), method.key

    def test_maps_are_drawn_on_the_side_of_their_method(self, lens, scene):
        choose(lens, "overlay", "attention")
        part(lens, "opacity").fill("1")
        choose(lens, "left", "teacher")
        show(lens, 3)
        overlays = {overlay.method: overlay for overlay in scene.overlays if overlay.kind == "attention"}
        for method, (x, y) in {"teacher": (10, 20), "distilled": (50, 30)}.items():
            array = scene.array(overlays[method])[3]
            step = (overlays[method].vmax - overlays[method].vmin) / 255
            value = lens.evaluate(f"document.querySelector('{LENS}').lens.readValue('{method}', {x}, {y})")
            assert value == pytest.approx(float(array[y // 4, x // 4]), abs=step)
        drawn = rgb(lens, "readCell(0)")  # opacity 1: only the maps, the left half the teacher's
        left, right = scene.array(overlays["teacher"])[3], scene.array(overlays["distilled"])[3]
        joined = np.concatenate([left[:, :8], right[:, 8:]], 1)
        brightness = drawn[2::4, 2::4].astype(float) @ [0.2, 0.7, 0.1]
        assert np.corrcoef(joined.ravel().astype(float), brightness.ravel())[0, 1] > 0.97

    def test_every_channel_of_a_memory(self, lens, scene):
        choose(lens, "overlay", "memory")
        choose(lens, "left", "teacher")
        array = scene.array(next(o for o in scene.overlays if o.kind == "memory" and o.method == "teacher"))
        for channel in (0, 7):
            choose(lens, "channel", str(channel))
            show(lens, 2)
            value = lens.evaluate(f"document.querySelector('{LENS}').lens.readValue('teacher', 12, 8)")
            assert value == pytest.approx(float(array[2, channel, 2, 3]), abs=1 / 255)

    def test_the_legend_has_numbers_and_names_a_missing_map(self, lens, scene):
        high = scene.overlays[0].vmax
        choose(lens, "overlay", "attention")
        legend = lens.locator(f"{LENS} .lens-legend")
        assert legend.locator(".lens-numbers").inner_text().split() == [f"{high * k:.4f}" for k in (0, 0.5, 1)]
        assert "Attention: squares" in legend.inner_text()
        assert "Plain student no map" in legend.locator(".lens-values").inner_text()
        assert "no map" in lens.locator(f"{LENS} .lens-label.left").inner_text()
        assert "no map" not in lens.locator(f"{LENS} .lens-label.right").inner_text()


def panel(page, name):
    page.locator(f"{LENS} [data-panel={name}]").click()


def wait_state(page, condition):
    page.wait_for_function(f"(s => {condition})(document.querySelector('{LENS}').lens.state)")


def ramp(stops):
    """Return the 256 colors between the stops, as the page draws them."""
    rgb = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops], float)
    at = np.linspace(0, len(stops) - 1, 256)
    return np.stack([np.interp(at, range(len(stops)), rgb[:, c]) for c in range(3)], 1)


def gray(scene, overlay, frame):
    """Return the values of a map that its 8-bit image stores."""
    with Image.open(scene.overlay_path(overlay, frame)) as image:
        levels = np.asarray(image.convert("L")).astype(float)
    return overlay.vmin + levels / 255 * (overlay.vmax - overlay.vmin)


class TestZoom:
    def test_every_cell_shows_the_same_pixels_enlarged(self, lens, scene, tmp_path):
        part(lens, "loupe").uncheck()
        layout(lens, "grid")
        choose(lens, "zoom", "8")
        lens.locator(LENS).focus()
        for _ in range(3):
            lens.keyboard.press("Shift+ArrowRight")
        lens.keyboard.press("Shift+ArrowDown")
        left, top = state(lens)["pan"]
        assert left > 0
        for index, key in ((0, "high"), (4, "teacher")):
            cell = lens.locator(f"{LENS} .lens-cell").nth(index)
            cell.scroll_into_view_if_needed()
            cell.screenshot(path=tmp_path / "cell.png")
            with Image.open(tmp_path / "cell.png") as image:
                drawn = np.asarray(image.convert("RGB"))[4::8, 4::8]
            rows, columns = drawn.shape[0] - 1, drawn.shape[1] - 1  # a last square may be cut
            expected = scene.frame(key, 0)[top : top + rows, left : left + columns]
            np.testing.assert_array_equal(drawn[5:rows, :columns], expected[5:])  # the name lies over the first rows

    def test_dragging_moves_every_cell(self, lens):
        layout(lens, "grid")
        choose(lens, "zoom", "8")
        box = lens.locator(f"{LENS} .lens-cell").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = state(lens)["pan"]
        lens.mouse.move(x, y)
        lens.mouse.down()
        lens.mouse.move(x - 40, y - 16, steps=4)
        lens.mouse.up()
        pan = state(lens)["pan"]
        assert [pan[0] - before[0], pan[1] - before[1]] == [5, 2]
        moved = lens.locator(f"{LENS} .lens-sheet").evaluate_all("all => all.map(sheet => sheet.style.transform)")
        assert set(moved) == {f"translate({-8 * pan[0]}px, {-8 * pan[1]}px)"}
        lens.locator(LENS).focus()
        lens.keyboard.press("0")
        assert (state(lens)["zoom"], state(lens)["pan"]) == ("fit", [0, 0])


class TestLoupe:
    def test_error_and_map_of_every_method_are_shown(self, lens, scene):
        choose(lens, "overlay", "attention")
        show(lens, 1)
        x, y = state(lens)["point"]
        truth = scene.frame("high", 1)[y, x].astype(int)
        for index, method in enumerate(scene.methods):
            box = lens.locator(f"{LENS} .lens-patch").nth(index)
            error = enlarged(scene.frame(method.key, 1), scene)[y, x] - truth
            words = "error " + " ".join(f"{v:+d}".replace("-", MINUS) if v else "0" for v in error)
            assert box.locator(".lens-error").inner_text() == ("" if method.key == "high" else words)
            mapped = [o for o in scene.overlays if o.kind == "attention" and o.method == method.key]
            said = box.locator(".lens-attention").inner_text()
            if mapped:
                assert float(said.removeprefix("map ")) == pytest.approx(
                    gray(scene, mapped[0], 1)[y // 4, x // 4], rel=1e-2
                )
            else:
                assert said == ""

    def test_magnification_is_a_whole_number_and_all_patches_move_together(self, lens, scene):
        choose(lens, "enlarge", "8")
        canvas = lens.locator(f"{LENS} .lens-patch canvas")
        sizes = canvas.evaluate_all("all => all.map(c => [c.width, c.getBoundingClientRect().width])")
        assert all(shown == pytest.approx(8 * pixels) for pixels, shown in sizes)
        before, box = state(lens)["point"], canvas.nth(2).bounding_box()
        x, y = box["x"] + 40, box["y"] + 40
        lens.mouse.move(x, y)
        lens.mouse.down()
        lens.mouse.move(x + 32, y - 16, steps=4)
        lens.mouse.up()
        assert state(lens)["point"] == [before[0] - 4, before[1] + 2]
        part(lens, "patches").focus()
        lens.keyboard.press("ArrowRight")
        x, y = state(lens)["point"]
        assert (x, y) == (before[0] - 3, before[1] + 2)
        said = lens.locator(f"{LENS} .lens-color").all_inner_texts()
        for text, method in zip(said, scene.methods, strict=True):
            assert text == " ".join(map(str, enlarged(scene.frame(method.key, 0), scene)[y, x])), method.key


class TestSlice:
    def test_the_slice_is_the_row_of_every_frame(self, lens, scene):
        show(lens, 3)
        lens.locator(LENS).focus()
        lens.keyboard.press("x")
        lens.keyboard.press("ArrowDown")
        row = state(lens)["row"]
        assert row == scene.height // 2 + 1
        shown = [m.key for m in scene.methods if m.key != "low"]
        assert lens.locator(f"{LENS} .lens-slice").count() == len(shown)
        lens.wait_for_function(f"document.querySelector('{LENS} [data-part=cutting]').textContent === ''")
        for index, key in enumerate(shown):
            np.testing.assert_array_equal(rgb(lens, f"readSlice({index})"), scene.clip(key)[:, row], err_msg=key)
        mark = lens.locator(f"{LENS} .lens-slice .lens-now").first
        assert mark.evaluate("mark => mark.style.top") == "25%"  # frame 3 of 12

    def test_a_click_on_a_frame_chooses_the_row_and_one_on_a_slice_the_frame(self, lens, scene):
        panel(lens, "slice")
        cell = lens.locator(f"{LENS} .lens-cell")
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        cell.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.75 + 1})
        assert state(lens)["row"] == 36
        assert part(lens, "row").input_value() == "36"
        slice_ = lens.locator(f"{LENS} .lens-slice").nth(1)
        slice_.scroll_into_view_if_needed()
        box = slice_.bounding_box()
        slice_.click(position={"x": box["width"] * 0.5 + 2, "y": box["height"] * 7.5 / 12})
        wait_frame(lens, 7)
        assert state(lens)["point"] == [32, 36]


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
        choose(lens, "cell", "3")
        show(lens, 4)
        cells = {o.method: scene.array(o).astype(float) for o in scene.overlays if o.kind == "memory"}
        low, zero, high = map(float, part(lens, "cell-scale").locator(".lens-numbers").inner_text().split())
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
        low, zero, high = map(float, part(lens, "difference-scale").locator(".lens-numbers").inner_text().split())
        assert (low, zero) == (-high, 0)
        level = ((ours - theirs) / high + 1) * 127.5
        drawn = rgb(lens, "readMap(4)").astype(float)
        step = np.abs(np.diff(ramp(DIVERGING), axis=0)).max() + 1  # a rounded level may fall to its neighbor
        np.testing.assert_allclose(drawn, ramp(DIVERGING)[level.round().clip(0, 255).astype(int)], atol=step)

    def test_captions_give_the_overlap_of_the_frame_and_the_value_under_the_pointer(self, lens, scene):
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
        assert float(caption.split(" · ")[0]) == pytest.approx(here, abs=2 * scene.overlays[0].vmax / 255)
        assert f"overlap {cosine:.3f}" in caption
        assert "Attention overlap" in part(lens, "similarity").inner_text()


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
    assert f"{index:.2f} on the clip shown" in part(page, "memory").inner_text()
    chart = part(page, "similarity").locator(".chart").nth(1)
    assert "1.00" in chart.locator(".chart-read").inner_text()
    plot = chart.locator(".chart-plot")
    box = plot.bounding_box()
    plot.click(position={"x": 46 + (box["width"] - 56) * 3 / 4, "y": 40})
    wait_frame(page, 3)
    ours, theirs = (arrays[f"memory.{key}"][3].astype(float).ravel() for key in ("distilled", "teacher"))
    cosine = (ours * theirs).sum() / np.sqrt((ours * ours).sum() * (theirs * theirs).sum())
    assert f"{cosine:.3f}" in chart.locator(".chart-read").inner_text()


class TestOpening:
    @pytest.fixture
    def page(self, watched):
        page = watched.open("?scene=disc", width=1440, height=900)
        page.wait_for_selector(LENS)
        return page

    def test_attention_maps_and_memory_cells_are_visible(self, page):
        for name in ("attention", "cells"):
            names = part(page, f"{name.removesuffix('s')}-maps").locator(".lens-name").all_inner_texts()
            assert names == ["Distilled student", "Teacher"]
            box = part(page, name).bounding_box()
            assert box["y"] + box["height"] <= 900

    def test_frames_fill_their_panel_and_the_loupe_what_is_left(self, page):
        cell, side = page.locator(f"{LENS} .lens-cell").bounding_box(), part(page, "side").bounding_box()
        main = part(page, "main").bounding_box()
        assert cell["width"] == pytest.approx(part(page, "stage").bounding_box()["width"], abs=2)
        assert cell["width"] + side["width"] == pytest.approx(main["width"], abs=25)
        assert cell["width"] > 0.45 * main["width"]
        patches = page.locator(f"{LENS} .lens-patch canvas")
        right = max(box.bounding_box()["x"] + box.bounding_box()["width"] for box in patches.all())
        assert right > side["x"] + 0.8 * side["width"]

    def test_five_curves_fit_one_row(self, page):
        tops = part(page, "curves").locator(".chart").evaluate_all("all => all.map(c => c.getBoundingClientRect().top)")
        assert len(tops) == 5
        assert len(set(tops)) == 1

    def test_on_a_phone_maps_follow_the_frames(self, watched):
        page = watched.open("?scene=disc", width=390, height=844, touch=True)
        page.wait_for_selector(LENS)
        frame, maps, curves = (
            part(page, name).bounding_box()["y"] for name in ("stage", "attention-maps", "similarity")
        )
        assert frame < maps < curves


def test_worst_frames_come_first_and_a_click_goes_there(lens, scene):
    panel(lens, "worst")
    curve = next(curve for curve in scene.curves if curve.key == "psnr_y_db")
    thumbs = lens.locator(f"{LENS} .lens-thumbs button")
    for method in ("distilled", "plain"):
        choose(lens, "worst-of", method)
        order = np.argsort(curve.series[method], kind="stable").tolist()
        assert thumbs.evaluate_all("all => all.map(one => Number(one.dataset.at))") == order
    thumbs.nth(4).click()
    wait_frame(lens, order[4])
    lens.locator(f"{LENS} .chart-title", has_text="T-diff").click()  # lower is better, and the first frame has none
    values = next(curve for curve in scene.curves if curve.key == "t_diff").series["plain"]
    worst = int(np.argmax([value if value is not None else -1 for value in values]))
    assert thumbs.first.get_attribute("data-at") == str(worst)
    assert thumbs.count() == 11


class TestFigure:
    def test_the_figure_contains_the_pixels_on_show(self, lens, scene):
        layout(lens, "grid")
        show(lens, 6)
        made = rgb(lens, "readFigure()")
        scale = 480 // scene.width
        first = scene.frame("high", 6).repeat(scale, 0).repeat(scale, 1)
        np.testing.assert_array_equal(made[8 : 8 + len(first), 8 : 8 + first.shape[1]], first)
        below = made[8 + len(first) : 8 + len(first) + 18, 8 : 8 + first.shape[1]]
        assert below.min() < 100  # the name
        assert made[-40:, :, :].min() < 100  # where it comes from

    def test_the_file_name_tells_scene_frame_and_layout(self, lens):
        with lens.expect_download() as saved:
            part(lens, "save").click()
        assert saved.value.suggested_filename == "disc-frame1-wipe.png"
        with Image.open(saved.value.path()) as image:
            assert image.format == "PNG"

    def test_the_clip_on_show_is_saved_without_a_loss(self, lens, scene):
        choose(lens, "left", "low")
        with lens.expect_download() as saved:
            part(lens, "clip").click()
        assert saved.value.suggested_filename == "disc-low-distilled-lossless.webm"
        read = read_video(saved.value.path()).frames
        low = scene.clip("low").repeat(4, 1).repeat(4, 2)
        np.testing.assert_array_equal(read, np.concatenate([low, scene.clip("distilled")], 2))
        assert part(lens, "status").inner_text() == ""

    def test_the_figure_is_copied(self, lens):
        lens.context.grant_permissions(["clipboard-read", "clipboard-write"])
        part(lens, "copy").click()
        lens.wait_for_function(f"document.querySelector('{LENS} [data-part=status]').textContent !== ''")
        assert part(lens, "status").inner_text() == "The figure is on the clipboard."
        kinds = lens.evaluate("navigator.clipboard.read().then(items => items[0].types)")
        assert kinds == ["image/png"]


class TestLinks:
    def test_the_address_brings_the_same_view_back(self, lens, watched):
        layout(lens, "difference")
        choose(lens, "left", "teacher")
        choose(lens, "gain", "8")
        lens.locator(LENS).focus()
        for key in ("x", "w", "+", "+", "+"):
            lens.keyboard.press(key)
        choose(lens, "enlarge", "6")
        box = lens.locator(f"{LENS} .lens-cell").bounding_box()
        lens.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
        lens.locator(f"{LENS} .chart-title", has_text="SSIM-Y").click()
        show(lens, 9)
        lens.wait_for_function("location.search.includes('frame=10') && location.search.includes('score=ssim_y')")
        link, drawn, before = lens.url.removeprefix(watched.address), rgb(lens, "readCell(0)"), state(lens)
        assert "scene=disc" in link
        assert lens.evaluate("history.length") <= 2  # replaced, not piled up
        page = watched.open(link)
        page.wait_for_selector(LENS)
        wait_frame(page, 9)
        assert state(page) == before
        np.testing.assert_array_equal(rgb(page, "readCell(0)"), drawn)

    def test_a_zoomed_part_comes_back(self, lens, watched):
        layout(lens, "grid")
        choose(lens, "zoom", "8")
        lens.locator(LENS).focus()
        lens.keyboard.press("Shift+ArrowRight")
        pan = state(lens)["pan"]
        lens.wait_for_function(f"location.search.includes('box={pan[0]},')")
        page = watched.open(lens.url.removeprefix(watched.address))
        page.wait_for_selector(LENS)
        assert (state(page)["zoom"], state(page)["pan"]) == (8, pan)

    def test_invalid_parameters_of_the_address_are_ignored(self, watched):
        words = "frame=1e9&layout=<b>&left=absent&map=../x&zoom=7&box=a,b,c,d&at=NaN,1&panels=slice,%00&row=-4&gain=3"
        page = watched.open(f"?scene=disc&{words}&channel=x")
        page.wait_for_selector(LENS)
        wait_frame(page, 11)
        expected = {"layout": "wipe", "left": "plain", "overlay": "", "zoom": "fit", "pinned": False, "gain": 4}
        expected |= {"panels": ["slice"], "row": 0, "channel": 0}
        assert {name: state(page)[name] for name in expected} == expected

    def test_other_parameters_of_the_address_stay(self, watched):
        page = watched.open("?scene=disc&__theme=dark")
        page.wait_for_selector(LENS)
        show(page, 2)
        page.wait_for_function("location.search.includes('frame=3')")
        assert "__theme=dark" in page.url


def test_a_second_slider_goes_through_the_training_and_every_panel_follows(watched, home):
    page = watched.open("run?run=mine&step=0&frame=5&panels=slice,differences")
    page.wait_for_selector(LENS)
    wait_state(page, "s.scene === 'mine-0' && s.frame === 4")
    assert part(page, "trained").inner_text() == "step 0"
    page.locator(LENS).focus()
    page.keyboard.press("]")
    page.keyboard.press("]")
    wait_state(page, "s.scene === 'mine-400'")
    assert "step 400 (snapshot 3 of 3)" in page.locator("#run-progress").inner_text()
    part(page, "step").fill("1")
    wait_state(page, "s.scene === 'mine-200'")
    assert state(page)["frame"] == 4
    page.wait_for_function("location.search.includes('step=200')")
    snapshot = Run(home / "runs" / "mine").snapshot(200)
    shown = [m.key for m in snapshot.methods]
    layout(page, "grid")
    page.wait_for_function(f"document.querySelector('{LENS} [data-part=cutting]').textContent === ''")
    show(page, 4)
    sliced = [key for key in shown if key != "low"]
    row, at = state(page)["row"], sliced.index("student")
    np.testing.assert_array_equal(rgb(page, f"readSlice({at})"), snapshot.clip("student")[:, row])
    np.testing.assert_array_equal(rgb(page, f"readCell({at})"), snapshot.frame("student", 4))


class TestHandling:
    def test_keys(self, lens):
        lens.locator(LENS).focus()
        for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 11), ("Home", 0)):
            lens.keyboard.press(key)
            wait_frame(lens, frame)
        for key, name in (("2", "grid"), ("3", "flicker"), ("4", "difference"), ("1", "wipe"), ("f", "flicker")):
            lens.keyboard.press(key)
            assert state(lens)["layout"] == name
        lens.keyboard.press("f")
        assert state(lens)["flipped"]
        lens.keyboard.press("Shift+Digit6")
        assert state(lens)["right"] == "teacher"
        lens.keyboard.press("o")
        assert state(lens)["overlay"] == "attention"
        lens.keyboard.press("l")
        assert not part(lens, "loupes").is_visible()
        for key, name in (("x", "slice"), ("a", "differences"), ("w", "worst"), ("m", "attention")):
            shown = part(lens, name).is_visible()
            lens.keyboard.press(key)
            assert part(lens, name).is_visible() != shown
            lens.keyboard.press(key)
            assert part(lens, name).is_visible() == shown
        for key, zoom in (("+", 1), ("+", 2), ("-", 1), ("0", "fit")):
            lens.keyboard.press(key)
            assert state(lens)["zoom"] == zoom
        lens.keyboard.press("]")  # no training steps here: nothing happens
        assert not part(lens, "stepping").is_visible()
        lens.keyboard.press("?")
        assert "first, last frame" in part(lens, "help").inner_text()
        assert "worst frames first" in part(lens, "help").inner_text()

    def test_keys_meant_for_a_control_stay_there(self, lens):
        lens.locator(LENS).focus()
        part(lens, "zoom").focus()
        lens.keyboard.press("l")
        assert part(lens, "loupes").is_visible()
        lens.keyboard.press("ArrowRight")
        assert state(lens)["frame"] == 0

    def test_buttons_and_scrubbing(self, lens):
        part(lens, "next").click()
        wait_frame(lens, 1)
        part(lens, "back").click()
        wait_frame(lens, 0)
        part(lens, "scrub").fill("9")
        wait_frame(lens, 9)
        assert "frame 10 / 12" in part(lens, "count").inner_text()

    def test_plays_in_step_and_stops(self, lens):
        choose(lens, "speed", "2")
        part(lens, "play").click()
        lens.wait_for_function(f"Number(document.querySelector('{LENS}').dataset.frame) >= 4")
        assert part(lens, "play").get_attribute("aria-label") == "Pause"
        part(lens, "play").click()
        frame = state(lens)["frame"]
        lens.wait_for_timeout(300)
        assert state(lens)["frame"] == frame

    def test_clicking_a_curve_goes_there(self, lens):
        plot = lens.locator(f"{LENS} .chart-plot").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        x = 46 + (box["width"] - 56) * 8 / 11
        plot.hover(position={"x": x, "y": 40})
        assert "frame 9" in lens.locator(f"{LENS} .chart-read").first.inner_text()
        plot.click(position={"x": x, "y": 40})
        wait_frame(lens, 8)

    def test_the_title_of_a_curve_puts_its_numbers_on_the_frames(self, lens, scene):
        lens.locator(f"{LENS} .chart-title", has_text="SSIM-Y").click()
        curve = next(curve for curve in scene.curves if curve.key == "ssim_y")
        assert f"{curve.series['plain'][0]:.4f}" in lens.locator(f"{LENS} .lens-label.left").inner_text()

    def test_dragging_moves_the_wipe_and_clicking_pins_the_loupe(self, lens):
        box = lens.locator(f"{LENS} .lens-cell").bounding_box()
        middle = box["y"] + box["height"] / 2
        lens.mouse.move(box["x"] + box["width"] * 0.5, middle)
        lens.mouse.down()
        lens.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
        lens.mouse.up()
        assert state(lens)["wipe"] == pytest.approx(0.8, abs=0.02)
        assert not state(lens)["pinned"]
        lens.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
        assert state(lens)["pinned"]
        point = state(lens)["point"]
        lens.mouse.move(box["x"] + box["width"] * 0.9, middle)
        assert state(lens)["point"] == point == [16, 24]

    def test_works_with_a_finger_on_a_phone(self, watched):
        page = watched.open("?scene=disc", width=390, height=844, touch=True)
        page.wait_for_selector(LENS)
        cell = page.locator(f"{LENS} .lens-cell")
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        page.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        assert state(page)["pinned"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_zoom_is_a_whole_number_of_pixels(self, lens):
        choose(lens, "zoom", "3")
        assert lens.locator(f"{LENS} .lens-cell canvas").bounding_box()["width"] == pytest.approx(64 * 3, abs=0.5)

    def test_another_clip_starts_at_its_first_frame_and_keeps_the_layout(self, lens):
        layout(lens, "difference")
        show(lens, 4)
        lens.locator("#scene input").click()
        lens.get_by_role("option", name="Wide").click()
        lens.wait_for_function(f"document.querySelector('{LENS}').lens.state.scene === 'wide'")
        wait_frame(lens, 0)
        assert state(lens)["layout"] == "difference"

    def test_the_cache_stays_within_its_bytes(self, watched):
        page = watched.open("?scene=disc")
        page.wait_for_selector(LENS)
        for frame in range(12):
            show(page, frame)
        page.wait_for_function(f"document.querySelector('{LENS}').lens.stats.pending === 0")
        stats = page.evaluate(f"document.querySelector('{LENS}').lens.stats")
        assert stats["frames"] == 12 * (6 + 4)  # two attention maps, memory cells of two methods
        assert stats["bytes"] == 12 * (4 * (5 * 64 * 48 + 16 * 12) + 2 * (1 + 8) * 16 * 12)


def test_python_gets_the_frame_on_show_and_can_set_it(pages, home):
    import gradio as gr

    from workbench.views.lens.gradio_lens import Lens
    from workbench.views.lens.payload import payload
    from workbench.views.serving import SceneFileServer

    files = SceneFileServer(runs=[], scenes=[home / "scenes"])
    with gr.Blocks(analytics_enabled=False) as app:
        made = Lens(payload(read_scene(home / "scenes" / "disc"), files.address))
        heard, go = gr.Number(elem_id="heard"), gr.Button("Go", elem_id="go")

        def hear(event: gr.EventData) -> int:
            time.sleep(1)  # the next choice arrives meanwhile and must not be lost
            return event._data["frame"]

        made.select(hear, None, heard, trigger_mode="multiple")
        go.click(lambda: gr.update(goto=7), None, made)
    _, url, _ = app.launch(
        quiet=True, prevent_thread_lock=True, run_history=False, app_kwargs={"routes": [files.route()]}
    )
    try:
        page = pages(url).open()
        page.wait_for_selector(LENS)
        part(page, "next").click()
        page.wait_for_function("document.querySelector('#heard input').value === '1'")
        page.locator("#go").click()
        wait_frame(page, 7)
        page.close()  # a page that loses its server shows an error
    finally:
        app.close()


def test_a_browser_can_import_the_modules_without_the_linker(contexts):
    """Import of a name that is not exported is an error of the browser."""
    from workbench.views.lens import FOLDER, read

    page, errors = contexts(False).new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    html = f"<body>{read('lens.html')}<script type=module>{NATIVE}</script></body>"
    page.route("http://lens.test/", lambda route: route.fulfill(content_type="text/html", body=html))
    page.route("http://lens.test/*.js", lambda route: route.fulfill(path=FOLDER / route.request.url.rpartition("/")[2]))
    page.goto("http://lens.test/")
    page.get_by_text("Nothing here.").wait_for()
    page.close()
    assert not errors


NATIVE = """
import { mountLens } from './lens.js';
import './notebook.js';
import './progress.js';
mountLens(document.body, { trigger() {}, props: { value: { message: 'Nothing here.' } }, watch() {} });
"""


class TestFailures:
    def test_a_missing_image_is_named_and_the_rest_is_shown(self, pages, specimens, tmp_path):
        from workbench.views.studio import launch

        folder = specimens.make_scene(tmp_path / "scenes" / "holey", frames=5)
        (folder / "frames" / "plain" / "00002.webp").unlink()
        (folder / "frames" / "distilled" / "00003.webp").write_bytes(b"not an image")
        app, url = launch(runs=[], scenes=[folder.parent], quiet=True, wait=False)
        try:
            page = pages(url).open()
            page.wait_for_selector(LENS)
            assert part(page, "status").inner_text() == ""
            show(page, 2)
            assert part(page, "status").inner_text() == "Plain student, frame 3: not there (404)"
            there = read_scene(folder).frame("distilled", 2)
            np.testing.assert_array_equal(rgb(page, "readPixels('distilled')"), there)
            show(page, 3)
            assert part(page, "status").inner_text() == "Distilled student, frame 4: not a readable image"
            show(page, 4)
            assert part(page, "status").inner_text() == ""
            panel(page, "slice")
            page.get_by_text("2 images are missing.").wait_for()
            page.close()  # a page that loses its server shows an error
        finally:
            app.close()

    def test_a_rewritten_scene_is_reported(self, pages, specimens, tmp_path):
        import os

        from workbench.views.studio import launch

        folder = specimens.make_scene(tmp_path / "scenes" / "moving", frames=30)
        app, url = launch(runs=[], scenes=[folder.parent], quiet=True, wait=False)
        try:
            page = pages(url).open()
            page.wait_for_selector(LENS)
            os.utime(folder / "scene.json", ns=(1, 1))
            show(page, 25)
            assert "rewritten meanwhile" in part(page, "status").inner_text()
            page.locator("#scene-refresh").click()
            page.wait_for_function(
                f"document.querySelector('{LENS}').querySelector('[data-part=status]').textContent === ''"
            )
            page.close()  # a page that loses its server shows an error
        finally:
            app.close()

    def test_without_a_scene_the_page_names_the_next_step(self, pages, tmp_path):
        from workbench.views.studio import launch

        app, url = launch(runs=[], scenes=[tmp_path], quiet=True, wait=False)
        try:
            page = pages(url).open()
            page.get_by_text("No scene yet").wait_for()
            page.close()  # a page that loses its server shows an error
        finally:
            app.close()


def test_a_variable_frame_rate_plays_at_its_own_times(specimens, home, watched):
    """The second of four frames lasts ten seconds: the player reaches it at once and stays there."""
    folder = specimens.make_scene(home / "scenes" / "uneven", frames=4, title="Uneven")
    record = json.loads((folder / "scene.json").read_text())
    (folder / "scene.json").write_text(json.dumps(record | {"times_seconds": [0, 0.05, 10.05, 10.1, 10.2]}))
    page = watched.open("?scene=uneven")
    page.wait_for_selector(LENS)
    part(page, "play").click()
    page.wait_for_function(f"document.querySelector('{LENS}').textContent.includes('frame 2 / 4 · 0.05 s')")
    page.wait_for_timeout(700)  # at the average rate the last frame would be shown by now
    assert "frame 2 / 4 · 0.05 s" in page.locator(LENS).text_content()
    shutil.rmtree(folder)
