"""Figures, clips and links made by the lens."""

import numpy as np
import pytest
from PIL import Image

from tests.browser.lens_page import LENS, choose, layout, part, rgb, show, state, wait_frame
from workbench.data.video.read import read_video

pytestmark = pytest.mark.browser


class TestFigure:
    def test_the_figure_contains_the_shown_pixels(self, lens, scene):
        layout(lens, "grid")
        show(lens, 6)
        made = rgb(lens, "readFigure()")
        scale = 480 // scene.width
        first = scene.frame("high", 6).repeat(scale, 0).repeat(scale, 1)
        np.testing.assert_array_equal(made[8 : 8 + len(first), 8 : 8 + first.shape[1]], first)
        below = made[8 + len(first) : 8 + len(first) + 18, 8 : 8 + first.shape[1]]
        assert below.min() < 100  # the name
        assert made[-40:, :, :].min() < 100  # where it comes from

    def test_the_file_name_has_scene_frame_and_layout(self, lens):
        with lens.expect_download() as saved:
            part(lens, "save").click()
        assert saved.value.suggested_filename == "disc-frame1-wipe.png"
        with Image.open(saved.value.path()) as image:
            assert image.format == "PNG"

    def test_the_shown_clip_is_saved_losslessly(self, lens, scene):
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
    def test_a_link_restores_the_view(self, lens, watched):
        layout(lens, "difference")
        choose(lens, "left", "teacher")
        choose(lens, "gain", "8")
        lens.locator(LENS).focus()
        for key in ("x", "w", "+", "+", "+"):
            lens.keyboard.press(key)
        choose(lens, "enlarge", "6")
        box = lens.locator(f"{LENS} .lens-tile").bounding_box()
        lens.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
        lens.locator(f"{LENS} .chart-title", has_text="SSIM-Y").click()
        show(lens, 9)
        lens.wait_for_function("location.search.includes('frame=10') && location.search.includes('score=ssim_y')")
        link, drawn, before = lens.url.removeprefix(watched.address), rgb(lens, "readTile(0)"), state(lens)
        assert "scene=disc" in link
        assert lens.evaluate("history.length") <= 2  # replaced, not piled up
        page = watched.open(link)
        page.wait_for_selector(LENS)
        wait_frame(page, 9)
        assert state(page) == before
        np.testing.assert_array_equal(rgb(page, "readTile(0)"), drawn)

    def test_a_link_restores_zoom_and_pan(self, lens, watched):
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

    def test_other_parameters_of_the_address_are_kept(self, watched):
        page = watched.open("?scene=disc&__theme=dark")
        page.wait_for_selector(LENS)
        show(page, 2)
        page.wait_for_function("location.search.includes('frame=3')")
        assert "__theme=dark" in page.url
