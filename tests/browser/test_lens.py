"""The lens as a person uses it, and its pixels against the pictures that were scored."""

import time

import numpy as np
import pytest

from workbench.scenes import read_scene

pytestmark = pytest.mark.browser

LENS = ".lens[data-frame]"


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
    """A picture read back from the page, uint8 ``(H, W, 3)``; it must be opaque."""
    script = f"(() => {{ const p = document.querySelector('{LENS}').lens.{call}; return [p.width, p.height, [...p.data]]; }})()"  # noqa: E501
    width, height, data = page.evaluate(script)
    rgba = np.array(data, np.uint8).reshape(height, width, 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3]


def enlarged(picture, scene):
    return picture.repeat(scene.height // len(picture), 0).repeat(scene.width // picture.shape[1], 1)


def wait_frame(page, frame):
    page.wait_for_function(f"document.querySelector('{LENS}').dataset.frame == '{frame}'")


class TestPixels:
    def test_every_bitmap_is_the_picture_that_was_scored(self, lens, scene):
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
        said = lens.locator(f"{LENS} .lens-colour").all_inner_texts()
        for text, method in zip(said, scene.methods, strict=True):
            picture = enlarged(scene.frame(method.key, 1), scene)
            assert text == " ".join(map(str, picture[y, x])), method.key

    def test_maps_are_drawn_on_the_side_of_their_method(self, lens, scene):
        choose(lens, "overlay", "attention")
        part(lens, "opacity").fill("1")
        choose(lens, "left", "teacher")
        show(lens, 3)
        overlays = {overlay.method: overlay for overlay in scene.overlays if overlay.kind == "attention"}
        for method, (x, y) in {"teacher": (10, 20), "distilled": (50, 30)}.items():
            array = scene.array(overlays[method])[3]
            step = (overlays[method].high - overlays[method].low) / 255
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

    def test_the_legend_has_numbers_and_a_missing_map_is_said(self, lens, scene):
        high = scene.overlays[0].high
        choose(lens, "overlay", "attention")
        legend = lens.locator(f"{LENS} .lens-legend")
        assert legend.locator(".lens-numbers").inner_text().split() == [f"{high * k:.4f}" for k in (0, 0.5, 1)]
        assert "Where it looks" in legend.inner_text()
        assert "Plain student no map" in legend.locator(".lens-values").inner_text()
        assert "no map" in lens.locator(f"{LENS} .lens-label.left").inner_text()
        assert "no map" not in lens.locator(f"{LENS} .lens-label.right").inner_text()


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
        assert not part(lens, "side").is_visible()
        lens.keyboard.press("?")
        assert "first, last frame" in part(lens, "help").inner_text()

    def test_keys_meant_for_a_control_stay_there(self, lens):
        lens.locator(LENS).focus()
        part(lens, "zoom").focus()
        lens.keyboard.press("l")
        assert part(lens, "side").is_visible()
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

    def test_a_curves_title_puts_its_numbers_on_the_pictures(self, lens, scene):
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

    def test_another_clip_begins_anew_but_keeps_the_layout(self, lens):
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
        assert stats["frames"] == 12 * 6
        assert stats["bytes"] == 12 * 4 * (5 * 64 * 48 + 16 * 12)


def test_python_hears_where_somebody_stays_and_can_go_elsewhere(pages, home):
    import gradio as gr

    from workbench.views.lens.gradio_lens import Lens
    from workbench.views.lens.payload import payload
    from workbench.views.serving import Gallery

    gallery = Gallery(runs=[], scenes=[home / "scenes"])
    with gr.Blocks(analytics_enabled=False) as app:
        made = Lens(payload(read_scene(home / "scenes" / "disc"), gallery.address))
        heard, go = gr.Number(elem_id="heard"), gr.Button("Go", elem_id="go")

        def hear(event: gr.EventData) -> int:
            time.sleep(1)  # the next choice comes while this one is at work, and must not be lost
            return event._data["frame"]

        made.select(hear, None, heard, trigger_mode="multiple")
        go.click(lambda: gr.update(goto=7), None, made)
    _, url, _ = app.launch(
        quiet=True, prevent_thread_lock=True, run_history=False, app_kwargs={"routes": [gallery.route()]}
    )
    try:
        page = pages(url).open()
        page.wait_for_selector(LENS)
        part(page, "next").click()
        page.wait_for_function("document.querySelector('#heard input').value === '1'")
        page.locator("#go").click()
        wait_frame(page, 7)
    finally:
        app.close()


class TestFailures:
    def test_a_missing_picture_is_named_and_the_rest_goes_on(self, pages, specimens, tmp_path):
        from workbench.views.studio import launch

        folder = specimens.make_scene(tmp_path / "scenes" / "holey", frames=5)
        (folder / "frames" / "plain" / "00002.webp").unlink()
        (folder / "frames" / "distilled" / "00003.webp").write_bytes(b"not a picture")
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
            assert part(page, "status").inner_text() == "Distilled student, frame 4: not a readable picture"
            show(page, 4)
            assert part(page, "status").inner_text() == ""
        finally:
            app.close()

    def test_a_scene_rewritten_meanwhile_is_said_to_be(self, pages, specimens, tmp_path):
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
        finally:
            app.close()

    def test_without_a_scene_it_says_what_to_do(self, pages, tmp_path):
        from workbench.views.studio import launch

        app, url = launch(runs=[], scenes=[tmp_path], quiet=True, wait=False)
        try:
            page = pages(url).open()
            page.get_by_text("No scene yet").wait_for()
        finally:
            app.close()
