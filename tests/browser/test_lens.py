"""The lens as a studio: first view, clips and steps, missing files, use from Python and without the linker."""

import shutil
import time

import numpy as np
import pytest

from tests import specimens
from tests.browser.lens_page import LENS, choose, layout, panel, part, rgb, show, state, wait_state
from workbench.runs import Run
from workbench.scenes import read_scene

pytestmark = pytest.mark.browser


class TestOpening:
    @pytest.fixture
    def page(self, watched):
        page = watched.open("?scene=disc", width=1440, height=900)
        page.wait_for_selector(LENS)
        return page

    def test_attention_maps_and_memory_cells_are_visible(self, page):
        for name in ("attention", "memory"):
            names = part(page, f"{name}-maps").locator(".lens-name").all_inner_texts()
            assert names == ["Distilled student", "Teacher"]
            box = part(page, f"{name}-panel").bounding_box()
            assert box["y"] + box["height"] <= 900

    def test_frames_fill_their_panel_and_the_loupe_the_rest(self, page):
        cell, side = page.locator(f"{LENS} .lens-tile").bounding_box(), part(page, "side").bounding_box()
        main = part(page, "main").bounding_box()
        assert cell["width"] == pytest.approx(part(page, "stage").bounding_box()["width"], abs=2)
        assert cell["width"] + side["width"] == pytest.approx(main["width"], abs=25)
        assert cell["width"] > 0.45 * main["width"]
        patches = page.locator(f"{LENS} .lens-patch canvas")
        right = max(box.bounding_box()["x"] + box.bounding_box()["width"] for box in patches.all())
        assert right > side["x"] + 0.8 * side["width"]
        assert all(box.bounding_box()["width"] >= 120 for box in patches.all())

    def test_single_maps_leave_room_for_the_loupe(self, watched, home):
        folder = specimens.make_scene(home / "scenes" / "single", methods=("low", "high", "bicubic", "teacher"))
        page = watched.open("?scene=single", width=1440, height=900)
        page.wait_for_selector(LENS)
        maps, cells = (part(page, f"{name}-panel").bounding_box() for name in ("attention", "memory"))
        assert (maps["y"], maps["width"]) == pytest.approx((cells["y"], cells["width"]), abs=1)
        assert part(page, "patches").locator("canvas").first.bounding_box()["width"] >= 120
        assert part(page, "patches").bounding_box()["x"] == maps["x"]  # in the column of the maps
        shutil.rmtree(folder)

    def test_the_loupe_keeps_the_focus_when_its_pixels_are_enlarged(self, page):
        """Below the maps, where it was moved."""
        patches = part(page, "patches")
        patches.focus()
        for key, magnification in ((">", "8"), ("<", "6")):
            page.keyboard.press(key)
            assert part(page, "enlarge").input_value() == magnification
            assert patches.evaluate("element => element === document.activeElement")
        choose(page, "enlarge", "auto")

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


def test_the_step_slider_changes_every_panel(watched, home):
    page = watched.open("run?run=mine&step=0&frame=5&panels=slice,differences")
    page.wait_for_selector(LENS)
    wait_state(page, "s.scene === 'mine-0' && s.frame === 4")
    assert part(page, "training-step").inner_text() == "step 0"
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
    shown = sorted((m.key for m in snapshot.methods), key=lambda key: key == "teacher")
    layout(page, "grid")
    page.wait_for_function(f"document.querySelector('{LENS} [data-part=slice-progress]').textContent === ''")
    show(page, 4)
    sliced = [key for key in shown if key != "low"]
    row, at = state(page)["row"], sliced.index("student")
    np.testing.assert_array_equal(rgb(page, f"readSlice({at})"), snapshot.clip("student")[:, row])
    np.testing.assert_array_equal(rgb(page, f"readTile({at})"), snapshot.frame("student", 4))


def test_python_reads_the_shown_frame(pages, home):
    import gradio as gr

    from workbench.views.lens.gradio_lens import lens_viewer
    from workbench.views.lens.payload import payload
    from workbench.views.serving import SceneFileServer

    files = SceneFileServer(runs=[], scenes=[home / "scenes"])
    with gr.Blocks(analytics_enabled=False) as app:
        made = lens_viewer(payload(read_scene(home / "scenes" / "disc"), files.url))
        heard = gr.Number(elem_id="heard")

        def hear(event: gr.EventData) -> int:
            time.sleep(1)  # the next choice arrives meanwhile and must not be lost
            return event._data["frame"]

        made.select(hear, None, heard, trigger_mode="multiple")
    _, url, _ = app.launch(
        quiet=True, prevent_thread_lock=True, run_history=False, app_kwargs={"routes": [files.route()]}
    )
    try:
        page = pages(url).open()
        page.wait_for_selector(LENS)
        part(page, "next").click()
        page.wait_for_function("document.querySelector('#heard input').value === '1'")
        page.close()  # an open page reports that its server is gone
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
    def test_a_missing_image_is_named_and_the_rest_is_shown(self, serve, tmp_path):
        folder = specimens.make_scene(tmp_path / "scenes" / "holey", frames=5)
        (folder / "frames" / "plain" / "00002.webp").unlink()
        (folder / "frames" / "distilled" / "00003.webp").write_bytes(b"not an image")
        page = serve(runs=[], scenes=[folder.parent]).open()
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

    def test_a_rewritten_scene_is_reported(self, serve, tmp_path):
        import os

        folder = specimens.make_scene(tmp_path / "scenes" / "moving", frames=30)
        page = serve(runs=[], scenes=[folder.parent]).open()
        page.wait_for_selector(LENS)
        os.utime(folder / "scene.json", ns=(1, 1))
        show(page, 25)
        assert "rewritten meanwhile" in part(page, "status").inner_text()
        page.locator("#scene-refresh").click()
        page.wait_for_function(
            f"document.querySelector('{LENS}').querySelector('[data-part=status]').textContent === ''"
        )

    def test_without_a_scene_the_page_names_the_next_step(self, serve, tmp_path):
        page = serve(runs=[], scenes=[tmp_path]).open()
        page.get_by_text("No scene yet").wait_for()
