"""Pixels of the lens, compared with the images that were scored."""

import numpy as np
import pytest
from PIL import Image

from tests.browser.lens_page import (
    LENS,
    MINUS,
    choose,
    enlarged,
    gray,
    layout,
    panel,
    part,
    rgb,
    show,
    state,
    wait_frame,
)

pytestmark = pytest.mark.browser


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
        assert state(lens)["visibleMethods"] == [m.key for m in scene.methods]
        for index, method in enumerate(scene.methods):
            drawn, scored = rgb(lens, f"readTile({index})"), scene.frame(method.key, 3)
            np.testing.assert_array_equal(drawn, enlarged(scored, scene), err_msg=method.key)

    def test_wipe_draws_every_pixel_of_both_sides(self, lens, scene):
        for left, right in (("low", "high"), ("bicubic", "plain"), ("distilled", "teacher")):
            choose(lens, "left", left)
            choose(lens, "right", right)
            show(lens, 5)
            drawn, half = rgb(lens, "readTile(0)"), scene.width // 2
            np.testing.assert_array_equal(drawn[:, :half], enlarged(scene.frame(left, 5), scene)[:, :half])
            np.testing.assert_array_equal(drawn[:, half:], enlarged(scene.frame(right, 5), scene)[:, half:])

    def test_flicker_shows_one_then_the_other(self, lens, scene):
        layout(lens, "flicker")
        show(lens, 2)
        np.testing.assert_array_equal(rgb(lens, "readTile(0)"), scene.frame("plain", 2))
        part(lens, "flip").click()
        np.testing.assert_array_equal(rgb(lens, "readTile(0)"), scene.frame("distilled", 2))

    @pytest.mark.parametrize("gain", [1, 16])
    def test_difference_is_exact(self, lens, scene, gain):
        layout(lens, "difference")
        choose(lens, "gain", str(gain))
        show(lens, 4)
        a, b = (scene.frame(key, 4).astype(int) for key in ("plain", "distilled"))
        np.testing.assert_array_equal(rgb(lens, "readTile(0)"), np.minimum(np.abs(a - b) * gain, 255))
        mean = lens.locator(f"{LENS} .lens-label.left").inner_text()
        assert f"mean {np.abs(a - b).mean():.2f}" in mean

    def test_the_loupe_shows_the_same_position_of_every_method(self, lens, scene):
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
            value = lens.evaluate(f"inspect('{LENS}').readValue('{method}', {x}, {y})")
            assert value == pytest.approx(float(array[y // 4, x // 4]), abs=step)
        drawn = rgb(lens, "readTile(0)")  # opacity 1: only the maps, the left half the teacher's
        left, right = scene.array(overlays["teacher"])[3], scene.array(overlays["distilled"])[3]
        joined = np.concatenate([left[:, :8], right[:, 8:]], 1)
        brightness = drawn[2::4, 2::4].astype(float) @ [0.2, 0.7, 0.1]
        assert np.corrcoef(joined.ravel().astype(float), brightness.ravel())[0, 1] > 0.97

    def test_every_memory_channel_can_be_shown(self, lens, scene):
        choose(lens, "overlay", "memory")
        choose(lens, "left", "teacher")
        array = scene.array(next(o for o in scene.overlays if o.kind == "memory" and o.method == "teacher"))
        for channel in (0, 7):
            choose(lens, "channel", str(channel))
            show(lens, 2)
            value = lens.evaluate(f"inspect('{LENS}').readValue('teacher', 12, 8)")
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
            cell = lens.locator(f"{LENS} .lens-tile").nth(index)
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
        box = lens.locator(f"{LENS} .lens-tile").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = state(lens)["pan"]
        lens.mouse.move(x, y)
        lens.mouse.down()
        lens.mouse.move(x - 40, y - 16, steps=4)
        lens.mouse.up()
        pan = state(lens)["pan"]
        assert [pan[0] - before[0], pan[1] - before[1]] == [5, 2]
        moved = lens.locator(f"{LENS} .lens-pan-layer").evaluate_all("all => all.map(sheet => sheet.style.transform)")
        assert set(moved) == {f"translate({-8 * pan[0]}px, {-8 * pan[1]}px)"}
        lens.locator(LENS).focus()
        lens.keyboard.press("0")
        assert (state(lens)["zoom"], state(lens)["pan"]) == ("fit", [0, 0])


class TestLoupe:
    def test_it_starts_where_the_two_methods_differ_most(self, lens, scene):
        squares = (scene.frame("plain", 0).astype(float) - scene.frame("distilled", 0)) ** 2
        corners = [(x, y) for y in range(0, scene.height - 31, 8) for x in range(0, scene.width - 31, 8)]
        left, top = max(corners, key=lambda at: squares[at[1] : at[1] + 32, at[0] : at[0] + 32].sum())
        assert state(lens)["point"] == [left + 16, top + 16]

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
        canvas.nth(2).scroll_into_view_if_needed()
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
        assert row == state(lens)["point"][1] + 1
        shown = [m.key for m in scene.methods if m.key != "low"]
        assert lens.locator(f"{LENS} .lens-slice").count() == len(shown)
        lens.wait_for_function(f"document.querySelector('{LENS} [data-part=slice-progress]').textContent === ''")
        for index, key in enumerate(shown):
            np.testing.assert_array_equal(rgb(lens, f"readSlice({index})"), scene.clip(key)[:, row], err_msg=key)
        mark = lens.locator(f"{LENS} .lens-slice .lens-now").first
        assert mark.evaluate("mark => mark.style.top") == "25%"  # frame 3 of 12

    def test_a_click_on_a_frame_chooses_the_row_and_one_on_a_slice_the_frame(self, lens, scene):
        panel(lens, "slice")
        cell = lens.locator(f"{LENS} .lens-tile")
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
