"""The two pages, with folders that change while somebody looks."""

import pytest

from workbench.runs import RunWriter

pytestmark = pytest.mark.browser

RUN_LENS = "#run-lens .lens[data-frame]"


def lens(page):
    return page.evaluate(f"document.querySelector('{RUN_LENS}').lens.state")


def wait_scene(page, name):
    page.wait_for_function(f"document.querySelector('{RUN_LENS}')?.lens.state.scene === '{name}'", timeout=15000)


def wait_text(page, selector, text):
    page.locator(selector, has_text=text).first.wait_for(timeout=15000)


@pytest.fixture
def live(pages, specimens, tmp_path):
    """A run that lives, its writer, and a page that looks at it."""
    from workbench.views.studio import launch

    run = specimens.make_run(tmp_path / "runs" / "live")
    specimens.add_rows(run, range(1, 41))
    specimens.add_snapshot(run, 0)
    specimens.add_snapshot(run, 40, softness=1.0)
    writer = RunWriter(run.folder)
    specimens.say(run, "running", 40)
    older = specimens.make_run(tmp_path / "runs" / "older")
    specimens.say(older, "finished", 1000)
    app, url = launch(runs=[run.folder.parent], scenes=[], quiet=True, wait=False)
    page = pages(url).open("run")
    wait_scene(page, "live-40")
    yield run, writer, page
    writer.close()
    app.close()


def test_compare_shows_scores_and_where_they_come_from(watched):
    page = watched.open()
    page.wait_for_selector(".lens[data-frame]")
    wait_text(page, "#scene-facts", "Gap closed")
    facts = page.locator("#scene-facts").inner_text()
    assert "Y of BT.601" in facts
    assert "licence" in facts
    assert "<b>not bold</b> ${7*7} {{8*8}}" in facts  # shown as it is written, neither run nor rendered
    assert page.title() == "Workbench"


def test_shipped_scenes_are_marked(watched):
    page = watched.open("?scene=small")
    page.wait_for_selector(".lens[data-frame]")
    assert page.locator("#scene input").input_value() == "Small · shipped"


def test_a_finished_run(watched):
    page = watched.open("run")
    wait_scene(page, "mine-400")
    assert "Finished" in page.locator("#run-progress").inner_text()
    assert "step 400 of 400" in page.locator("#run-progress").inner_text()
    assert "Memory healthy" in page.locator("#run-memory").inner_text()
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
    page.evaluate(f"document.querySelector('{RUN_LENS}').lens.show(3)")
    page.locator(f"{RUN_LENS} [data-part=left]").select_option("teacher")
    page.locator(f"{RUN_LENS} [data-part=overlay]").select_option("memory")
    before = lens(page)
    page.locator("#run-progress [data-part=back]").click()
    wait_scene(page, "mine-200")
    after = lens(page)
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


def test_follows_a_live_run(live, specimens):
    run, _, page = live
    assert page.locator("#run input").input_value() == "live · running"  # not the newest folder: the one that lives
    assert "step 40 of 1,000" in page.locator("#run-progress").inner_text()
    specimens.add_rows(run, range(41, 81))
    specimens.say(run, "running", 80)
    wait_text(page, "#run-progress", "step 80 of 1,000")
    assert page.evaluate("document.querySelector('.progress').progress.state.steps.at(-1)") == 80
    specimens.add_snapshot(run, 80, softness=0.5)
    wait_scene(page, "live-80")
    page.evaluate(f"document.querySelector('{RUN_LENS}').lens.show(2)")
    page.locator("#run-progress [data-part=back]").click()  # to look back is to stop following
    wait_scene(page, "live-40")
    specimens.add_snapshot(run, 120)
    wait_text(page, "#run-progress", "snapshot 2 of 4")
    assert lens(page)["scene"] == "live-40"
    assert lens(page)["frame"] == 2


def test_survives_a_reload(live):
    _, _, page = live
    page.reload()
    wait_scene(page, "live-40")
    assert "Running" in page.locator("#run-progress").inner_text()


def test_stop_reaches_the_worker_and_the_end_is_seen(live, specimens):
    run, writer, page = live
    page.locator("#run-stop").click()
    wait_text(page, "#run-progress", "stopping after this step")
    assert writer.stop_wanted
    specimens.say(run, "stopped", 41, reason="asked to stop")
    writer.close()
    wait_text(page, "#run-progress", "asked to stop")
    page.wait_for_function("!document.querySelector('#run-resume').disabled", timeout=15000)
    assert page.locator("#run-stop").is_disabled()


def test_a_killed_worker_is_noticed(live):
    _, writer, page = live
    writer.close()  # as the system does for a killed process
    wait_text(page, "#run-progress", "Died")


def test_a_half_written_run_is_refused_and_the_page_lives_on(live, specimens):
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
    specimens.say(run, "running", 50)
    wait_text(page, "#run-progress", "step 50 of 1,000")


def test_the_first_run_appears_by_itself(pages, specimens, tmp_path):
    from workbench.views.studio import launch

    app, url = launch(runs=[tmp_path / "runs"], scenes=[], quiet=True, wait=False)
    try:
        page = pages(url).open("run")
        wait_text(page, "#run-progress", "No run yet")
        run = specimens.make_run(tmp_path / "runs" / "first")
        specimens.add_snapshot(run, 0)
        wait_scene(page, "first-0")
    finally:
        app.close()


def test_a_run_that_begins_is_gone_to_unless_another_was_chosen(pages, specimens, tmp_path):
    from workbench.views.studio import launch

    old = specimens.make_run(tmp_path / "runs" / "old")
    specimens.add_snapshot(old, 0)
    specimens.say(old, "finished", 1000)
    app, url = launch(runs=[old.folder.parent], scenes=[], quiet=True, wait=False)
    watched = pages(url)
    try:
        page, chosen = watched.open("run"), watched.open("run?run=old")
        for one in (page, chosen):
            wait_scene(one, "old-0")
        run = specimens.make_run(tmp_path / "runs" / "new")
        specimens.add_snapshot(run, 0)
        wait_scene(page, "new-0")
        assert page.locator("#run input").input_value() == "new · queued"
        assert lens(chosen)["scene"] == "old-0"
    finally:
        app.close()
