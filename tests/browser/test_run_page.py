"""Page Run: finished, live, new, broken and deleted runs."""

import shutil

import pytest

from tests import specimens
from tests.browser.studio_page import RUN_LENS, lens_state, wait_scene, wait_text

pytestmark = pytest.mark.browser


def test_a_finished_run(watched):
    page = watched.open("run")
    wait_scene(page, "mine-400")
    assert "Finished" in page.locator("#run-progress").inner_text()
    assert "step 400 of 400" in page.locator("#run-progress").inner_text()
    said = page.locator("#run-lead").text_content()
    assert "At step 400: distilled student " in said  # Gradio may show the time of its request before it
    assert " dB (same step), teacher " in said
    assert "(healthy)." in said
    assert "(healthy)" in page.locator("#run-lens [data-part=memory-verdict]").inner_text()
    lines = page.locator("#run-progress .chart-line")
    assert set(lines.evaluate_all("all => all.map(line => line.dataset.key)")) == {
        "reconstruction",
        "spatial",
        "temporal",
    }
    assert page.locator("#run-progress .chart-mark").count() == 3
    assert page.locator("#run-stop").is_disabled()


def test_stepping_through_snapshots_keeps_the_frame_and_the_view(watched):
    page = watched.open("run")
    wait_scene(page, "mine-400")
    page.evaluate(f"inspect('{RUN_LENS}').show(3)")
    page.locator(f"{RUN_LENS} [data-part=left]").select_option("teacher")
    page.locator(f"{RUN_LENS} [data-part=overlay]").select_option("memory")
    before = lens_state(page)
    page.locator("#run-progress [data-part=back]").click()
    wait_scene(page, "mine-200")
    after = lens_state(page)
    assert {**after, "scene": "", "wanted": 0} == {**before, "scene": "", "wanted": 0}
    assert after["frame"] == 3
    assert not page.locator("#run-progress [data-part=follow]").is_checked()
    page.locator("#run-progress [data-part=slider]").fill("0")
    wait_scene(page, "mine-0")
    page.locator("#run-progress [data-part=follow]").check()
    wait_scene(page, "mine-400")


def test_clicking_the_chart_goes_to_the_nearest_snapshot(watched):
    page = watched.open("run")
    wait_scene(page, "mine-400")
    plot = page.locator("#run-progress .chart-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    plot.click(position={"x": 46 + (box["width"] - 56) * 0.45, "y": 60})
    wait_scene(page, "mine-200")
    assert "step 200 (snapshot 2 of 3)" in page.locator("#run-progress").inner_text()


def test_an_address_can_name_run_and_step(watched):
    page = watched.open("run?run=mine&step=190")
    wait_scene(page, "mine-200")


def test_the_page_follows_a_live_run(live):
    run, _, page = live
    assert page.locator("#run input").input_value() == "live · running"  # the live run, not the newest folder
    assert "step 40 of 1,000" in page.locator("#run-progress").inner_text()
    specimens.add_rows(run, range(41, 81))
    specimens.write_status(run, "running", 80)
    wait_text(page, "#run-progress", "step 80 of 1,000")
    assert "80" in page.locator("#run-progress .chart-tick").all_text_contents()  # the last step of the chart
    specimens.add_snapshot(run, 80, softness=0.5)
    wait_scene(page, "live-80")
    page.evaluate(f"inspect('{RUN_LENS}').show(2)")
    page.locator("#run-progress [data-part=back]").click()  # choosing an older snapshot stops following
    wait_scene(page, "live-40")
    specimens.add_snapshot(run, 120)
    wait_text(page, "#run-progress", "snapshot 2 of 4")
    assert lens_state(page)["scene"] == "live-40"
    assert lens_state(page)["frame"] == 2


def test_the_lens_compares_students_from_the_first_snapshot_on(runs_page):
    """Before the first snapshot there are only bicubic and the teacher."""
    watched, folder = runs_page
    run = specimens.make_run(folder / "young")
    page = watched.open("run")
    wait_scene(page, "validation_clip")
    assert [lens_state(page)[side] for side in ("left", "right")] == ["bicubic", "teacher"]
    specimens.add_snapshot(run, 0)
    wait_scene(page, "young-0")
    assert [lens_state(page)[side] for side in ("left", "right")] == ["plain", "student"]
    specimens.add_snapshot(run, 20, plain=False)
    wait_scene(page, "young-20")
    assert [lens_state(page)[side] for side in ("left", "right")] == ["bicubic", "student"]
    wait_text(page, "#run-lead", "no plain student at this step")
    page.locator(f"{RUN_LENS} [data-part=right]").select_option("teacher")
    specimens.add_snapshot(run, 40)
    wait_scene(page, "young-40")
    assert [lens_state(page)[side] for side in ("left", "right")] == ["plain", "teacher"]  # the choice is kept
    wait_text(page, "#run-lead", "(same step)")


def test_a_reload_shows_the_same_run(live):
    _, _, page = live
    page.reload()
    wait_scene(page, "live-40")
    assert "Running" in page.locator("#run-progress").inner_text()


def test_stop_ends_the_worker_and_the_page_shows_it(live):
    run, writer, page = live
    page.locator("#run-stop").click()
    page.get_by_test_id("toast-body").get_by_text("stops after this step").wait_for()
    wait_text(page, "#run-progress", "stopping after this step")
    assert writer.stop_requested
    specimens.write_status(run, "stopped", 41, reason="asked to stop")
    writer.close()
    wait_text(page, "#run-progress", "asked to stop")
    page.wait_for_function("!document.querySelector('#run-resume').disabled", timeout=60000)
    assert page.locator("#run-stop").is_disabled()


def test_the_page_shows_that_a_worker_was_killed(live):
    _, writer, page = live
    writer.close()  # as the system does for a killed process
    wait_text(page, "#run-progress", "Crashed")


def test_a_broken_run_is_reported_and_others_can_be_chosen(live):
    run, _, page = live
    broken = run.folder.parent / "broken"
    broken.mkdir()
    (broken / "run.json").write_text('{"format": 1, "conf')
    page.locator("#run-refresh").click()
    page.locator("#run input").click()
    page.get_by_role("option", name="broken").click()
    wait_text(page, "#run-progress", "cannot be shown")
    page.locator("#run input").click()
    page.get_by_role("option", name="live").click()
    wait_scene(page, "live-40")
    specimens.add_rows(run, range(41, 51))
    specimens.write_status(run, "running", 50)
    wait_text(page, "#run-progress", "step 50 of 1,000")


def test_the_first_run_appears_by_itself(runs_page):
    watched, folder = runs_page
    page = watched.open("run")
    wait_text(page, "#run-progress", "No run yet")
    run = specimens.make_run(folder / "first")
    specimens.add_snapshot(run, 0)
    wait_scene(page, "first-0")


def test_the_page_changes_to_a_new_run_unless_another_was_chosen(runs_page):
    watched, folder = runs_page
    old = specimens.make_run(folder / "old")
    specimens.add_snapshot(old, 0)
    specimens.write_status(old, "finished", 1000)
    page, chosen = watched.open("run"), watched.open("run?run=old")
    for one in (page, chosen):
        wait_scene(one, "old-0")
    run = specimens.make_run(folder / "new")
    specimens.add_snapshot(run, 0)
    wait_scene(page, "new-0")
    assert page.locator("#run input").input_value() == "new · queued"
    assert lens_state(chosen)["scene"] == "old-0"


def test_a_run_that_is_deleted_while_it_is_shown(runs_page):
    watched, folder = runs_page
    for name in ("kept", "gone"):
        run = specimens.make_run(folder / name)
        specimens.add_rows(run, range(1, 41))
        specimens.add_snapshot(run, 0)
        specimens.add_snapshot(run, 40)
        specimens.write_status(run, "finished", 40, steps=40)
    page = watched.open("run?run=gone")
    wait_scene(page, "gone-40")
    shutil.rmtree(folder / "gone")
    wait_text(page, "#run-progress", "no run 'gone' here any more")
    for _ in range(3):  # later updates neither show another run nor an error
        with page.expect_response(lambda response: "/gradio_api/run/" in response.url):
            pass
    assert "no run 'gone' here any more" in page.locator("#run-progress").inner_text()
    assert page.get_by_test_id("toast-body").count() == 0
    page.locator("#run input").click()
    page.get_by_role("option", name="kept").click()
    wait_scene(page, "kept-40")
