"""Keys, buttons, pointer and playback of the lens."""

import json
import shutil

import numpy as np
import pytest

from tests import specimens
from tests.browser.lens_page import LENS, choose, layout, panel, part, show, state, wait_frame

pytestmark = pytest.mark.browser


def test_worst_frames_come_first_and_a_click_shows_them(lens, scene):
    panel(lens, "worst")
    curve = next(curve for curve in scene.curves if curve.key == "psnr_y_db")
    thumbs = lens.locator(f"{LENS} .lens-thumbnails button")
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


class TestHandling:
    def test_keyboard_shortcuts(self, lens):
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
        assert not part(lens, "loupe-panel").is_visible()
        for key, name in (("x", "slice"), ("a", "differences"), ("w", "worst"), ("m", "attention-panel")):
            shown = part(lens, name).is_visible()
            lens.keyboard.press(key)
            assert part(lens, name).is_visible() != shown
            lens.keyboard.press(key)
            assert part(lens, name).is_visible() == shown
        for key, zoom in (("+", 1), ("+", 2), ("-", 1), ("0", "fit")):
            lens.keyboard.press(key)
            assert state(lens)["zoom"] == zoom
        press = "key => new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })"
        is_used = f"(one, key) => !one.dispatchEvent(({press})(key))"
        assert lens.locator(LENS).evaluate(is_used, "Home")
        assert not lens.locator(LENS).evaluate(is_used, "]")  # no training steps here: the page may use the key
        assert not part(lens, "training").is_visible()
        lens.keyboard.press("?")
        assert "first, last frame" in part(lens, "help").inner_text()
        assert "worst frames first" in part(lens, "help").inner_text()

    def test_keys_for_a_focused_control_are_not_shortcuts(self, lens):
        lens.locator(LENS).focus()
        part(lens, "zoom").focus()
        lens.keyboard.press("l")
        assert part(lens, "loupe-panel").is_visible()
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

    def test_play_and_pause(self, lens):
        choose(lens, "speed", "2")
        part(lens, "play").click()
        lens.wait_for_function(f"Number(document.querySelector('{LENS}').dataset.frame) >= 4")
        assert part(lens, "play").get_attribute("aria-label") == "Pause"
        part(lens, "play").click()
        frame = state(lens)["frame"]
        lens.wait_for_timeout(300)
        assert state(lens)["frame"] == frame

    def test_clicking_a_curve_shows_that_frame(self, lens):
        plot = lens.locator(f"{LENS} .chart-plot").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        x = 46 + (box["width"] - 56) * 8 / 11
        plot.hover(position={"x": x, "y": 40})
        assert "frame 9" in lens.locator(f"{LENS} .chart-read").first.inner_text()
        plot.click(position={"x": x, "y": 40})
        wait_frame(lens, 8)

    def test_clicking_the_title_of_a_curve_labels_the_frames_with_its_values(self, lens, scene):
        lens.locator(f"{LENS} .chart-title", has_text="SSIM-Y").click()
        curve = next(curve for curve in scene.curves if curve.key == "ssim_y")
        assert f"{curve.series['plain'][0]:.4f}" in lens.locator(f"{LENS} .lens-label.left").inner_text()

    def test_dragging_moves_the_wipe_and_clicking_pins_the_loupe(self, lens):
        box = lens.locator(f"{LENS} .lens-tile").bounding_box()
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

    def test_touch_on_a_phone(self, watched):
        page = watched.open("?scene=disc", width=390, height=844, touch=True)
        page.wait_for_selector(LENS)
        cell = page.locator(f"{LENS} .lens-tile")
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        page.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
        assert state(page)["pinned"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_zoom_is_a_whole_number_of_pixels(self, lens):
        choose(lens, "zoom", "3")
        assert lens.locator(f"{LENS} .lens-tile canvas").bounding_box()["width"] == pytest.approx(64 * 3, abs=0.5)

    def test_another_clip_starts_at_its_first_frame_and_keeps_the_layout(self, lens):
        layout(lens, "difference")
        show(lens, 4)
        lens.locator("#scene input").click()
        lens.get_by_role("option", name="Wide").click()
        lens.wait_for_function(f"inspect('{LENS}').state.scene === 'wide'")
        wait_frame(lens, 0)
        assert state(lens)["layout"] == "difference"

    def test_the_cache_stays_within_its_bytes(self, watched):
        page = watched.open("?scene=disc")
        page.wait_for_selector(LENS)
        for frame in range(12):
            show(page, frame)
        page.wait_for_function(f"inspect('{LENS}').stats.pending === 0")
        stats = page.evaluate(f"inspect('{LENS}').stats")
        assert stats["images"] == 12 * (6 + 4)  # two attention maps, memory cells of two methods
        assert stats["bytes"] == 12 * (4 * (5 * 64 * 48 + 16 * 12) + 2 * (1 + 8) * 16 * 12)


def test_playback_follows_variable_frame_times(home, watched):
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
