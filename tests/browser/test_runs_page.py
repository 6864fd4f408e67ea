"""Page Runs: curves, weights and two lenses."""

import json

import numpy as np
import pytest

from tests import specimens
from tests.browser.pixels import read_image
from tests.browser.studio_page import wait_scene, wait_text
from workbench.runs import Run

pytestmark = pytest.mark.browser


def wait_lenses(page, *wanted):
    page.wait_for_function(
        """wanted => [0, 1].flatMap(k => {
            const state = inspect(`#runs-lens-${k} .lens`)?.state;
            return [state?.scene, state?.frame];
        }).join() === wanted.join()""",
        arg=list(wanted),
        timeout=60000,
    )


def lens_pixels(page, k):
    """Return the method left of the wipe, which is in the middle, and the pixels of the canvas of a lens."""
    viewer = f"inspect('#runs-lens-{k} .lens')"
    return page.evaluate(f"{viewer}.state.left"), read_image(page, f"{viewer}.readTile(0)")[..., :3]


def check_lens(page, k, scene, frame):
    page.wait_for_function("k => !inspect(`#runs-lens-${k} .lens`).stats.pending", arg=k)
    left, shown = lens_pixels(page, k)
    assert left != "student"
    edge = scene.width // 2
    assert np.array_equal(shown[:, :edge], scene.frame(left, frame)[:, :edge])
    assert np.array_equal(shown[:, edge:], scene.frame("student", frame)[:, edge:])


class TestRuns:
    def test_two_runs_are_compared(self, studio):
        watched, home = studio
        for name, steps in (("one", 100), ("two", 300)):
            run = specimens.make_run(home / name, steps=steps)
            specimens.add_rows(run, range(1, 31))
            specimens.write_status(run, "stopped", 30)
        with (home / "one" / "metrics.jsonl").open("a") as file:  # 359.7 s in all: not shown as 5 min 60 s
            file.write(json.dumps(specimens.row(31) | {"seconds": 344.7}) + "\n")
        page = watched.open("runs")
        page.get_by_label("compare one").check()
        wait_text(page, "#runs-detail", "Loss terms")
        wait_text(page, "#runs-detail", "6 min 0 s")
        page.get_by_label("compare two").check()
        wait_text(page, "#runs-detail", "Different settings")
        assert "steps\t100\t300" in page.locator("#runs-detail").inner_text()
        total = page.locator("#runs-detail figure").nth(1).locator(".chart-line").last
        before, share = total.get_attribute("d"), page.locator("#runs-shares").inner_text()
        page.locator("[data-term=spatial]").fill("-6")  # the left end: 0
        assert "spatial 0.0 %" in page.locator("#runs-shares").inner_text() != share
        assert "changed weights" in page.locator("#runs-detail").inner_text()
        assert total.get_attribute("d") != before
        page.locator("#runs-reset").click()
        assert page.locator("#runs-shares").inner_text() == share
        page.locator("#runs-filter").fill("tw")
        assert page.locator("tr[data-run]").count() == 1

    def test_a_curve_opens_its_run_at_that_step(self, studio):
        watched, home = studio
        for name, softness in (("one", 1.0), ("two", 2.0)):
            run = specimens.make_run(home / name)
            rows = [specimens.row(step) for step in range(1, 401)]
            for row in rows:  # the curves of "two" are ten times higher
                row["terms"] = {term: value * (10 if name == "two" else 1) for term, value in row["terms"].items()}
            (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            for step in (0, 200, 400):
                specimens.add_snapshot(run, step, softness=softness)
            specimens.write_status(run, "finished", 400, steps=400)
        page = watched.open("runs")
        page.get_by_label("compare one").check()
        page.get_by_label("compare two").check()
        wait_text(page, "#runs-detail", "Different settings")
        total = page.locator("#runs-detail figure").nth(1)
        assert total.locator(".chart-mark").count() == 3
        plot = total.locator(".chart-plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        middle = {"x": 46 + (box["width"] - 56) * 0.45, "y": 20}  # above both: the higher one is nearer
        plot.hover(position=middle)
        tip = total.locator(".chart-tip").inner_text()
        assert "two, step 1" in tip
        assert "open step 200" in tip
        plot.click(position=middle)
        wait_scene(page, "two-200")
        assert page.locator("#run-progress [data-part=which]").inner_text() == "step 200 (snapshot 2 of 3)"
        page.go_back()
        page.get_by_label("compare one").check()
        link = page.locator("#runs-detail .opening", has_text="Open one").get_by_role("link", name="400")
        link.focus()
        page.keyboard.press("Enter")
        wait_scene(page, "one-400")

    def test_two_lenses_show_the_same_step_and_frame(self, studio):
        watched, home = studio
        folders = []
        for name, every, softness in (("one", 200, 1.0), ("two", 160, 2.0)):
            run = specimens.make_run(home / name)
            specimens.add_rows(run, range(1, 401))
            for step in range(0, 401, every):
                specimens.add_snapshot(run, step, softness=softness)
            specimens.write_status(run, "stopped", 400)
            folders.append(run.folder)
        page = watched.open("runs", width=1440)
        page.get_by_label("compare one").check()
        wait_text(page, "#runs-detail", "Loss terms")
        assert not page.locator("#runs-lenses").is_visible()
        page.get_by_label("compare two").check()
        wait_lenses(page, "one-400", 0, "two-320", 0)  # the last step that both have reached: 320
        left, right = (page.locator(f"#runs-lens-{k}").bounding_box() for k in (0, 1))
        assert left["x"] + left["width"] <= right["x"]
        assert left["y"] == right["y"]

        page.locator("#runs-lens-0 [data-part=next]").click()
        wait_lenses(page, "one-400", 1, "two-320", 1)
        page.locator("#runs-lens-1 [data-part=scrub]").fill("4")
        wait_lenses(page, "one-400", 4, "two-320", 4)
        page.locator("#runs-lens-1 [data-part=back]").click()
        wait_lenses(page, "one-400", 3, "two-320", 3)
        for k, (folder, step) in enumerate(zip(folders, (400, 320), strict=True)):
            check_lens(page, k, Run(folder).snapshot(step), 3)

        page.locator("#runs-lens-0 [data-part=step]").fill("1")  # the second of 0, 200, 400
        wait_lenses(page, "one-200", 3, "two-160", 3)
        assert page.locator("#runs-name-1").inner_text().split()[-3:] == [
            "two",
            "step",
            "160",
        ]  # behind Gradio's own clock
        page.locator("#runs-lens-1 [data-part=step]").fill("0")
        wait_lenses(page, "one-0", 3, "two-0", 3)
        for k, folder in enumerate(folders):
            check_lens(page, k, Run(folder).snapshot(0), 3)

        page.set_viewport_size({"width": 880, "height": 900})
        left, right = (page.locator(f"#runs-lens-{k}").bounding_box() for k in (0, 1))
        assert left["y"] + left["height"] <= right["y"]
        page.locator("#runs-lens-0 [data-part=play]").click()
        page.wait_for_function("inspect('#runs-lens-1 .lens').state.frame !== 3")
        page.locator("#runs-lens-0 [data-part=play]").click()
        frame = page.evaluate("inspect('#runs-lens-0 .lens').state.frame")
        wait_lenses(page, "one-0", frame, "two-0", frame)
        page.get_by_label("compare one").uncheck()
        page.locator("#runs-lenses").wait_for(state="hidden")

    def test_two_lenses_when_one_run_has_no_snapshot(self, studio):
        watched, home = studio
        for name in ("one", "two"):
            run = specimens.make_run(home / name)
            specimens.add_rows(run, range(1, 31))
            specimens.write_status(run, "stopped", 30)
        specimens.add_snapshot(Run(home / "one"), 20)
        page = watched.open("runs")
        page.get_by_label("compare one").check()
        page.get_by_label("compare two").check()
        wait_text(page, "#runs-lens-1", "two has no snapshot")
        page.wait_for_function("inspect('#runs-lens-0 .lens').state.scene === 'one-20'")
        page.locator("#runs-lens-0 [data-part=next]").click()
        page.wait_for_function("inspect('#runs-lens-0 .lens').state.frame === 1")
        specimens.add_snapshot(Run(home / "two"), 10)  # a new snapshot starts at the frame of the other lens
        wait_lenses(page, "one-20", 1, "two-10", 1)

    def test_an_empty_folder_of_runs(self, studio):
        wait_text(studio[0].open("runs"), "#runs-board", "No run yet")
