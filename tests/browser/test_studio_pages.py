"""All pages, with folders that change while they are shown."""

import io
import json
import re
import shutil
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.browser.pixels import read_image
from tests.videos import encode, numbered
from workbench.config import with_settings
from workbench.data.video.read import read_video
from workbench.runs import Run, RunWriter, create_run

pytestmark = pytest.mark.browser

RUN_LENS = "#run-lens .lens[data-frame]"


def lens(page):
    return page.evaluate(f"document.querySelector('{RUN_LENS}').lens.state")


def wait_scene(page, name):
    page.wait_for_function(f"document.querySelector('{RUN_LENS}')?.lens.state.scene === '{name}'", timeout=60000)


def wait_text(page, selector, text):
    page.locator(selector, has_text=text).first.wait_for(timeout=60000)


@pytest.fixture(scope="module")
def runs_studio(browser, tmp_path_factory):
    """A read-only studio with a folder of runs: its address and that folder."""
    from workbench.views.studio import launch

    folder = tmp_path_factory.mktemp("runs")
    app, url = launch(runs=[folder], scenes=[], quiet=True, wait=False)
    yield url, folder
    app.close()


def empty(folder):
    for entry in folder.iterdir():
        shutil.rmtree(entry)


@pytest.fixture
def runs_page(runs_studio, pages):
    """Pages of a studio with an empty folder of runs, and that folder."""
    url, folder = runs_studio
    empty(folder)
    return pages(url), folder


@pytest.fixture
def live(runs_page, specimens):
    """A live run, its writer, and a page that shows it."""
    watched, folder = runs_page
    run = specimens.make_run(folder / "live")
    specimens.add_rows(run, range(1, 41))
    specimens.add_snapshot(run, 0)
    specimens.add_snapshot(run, 40, softness=1.0)
    writer = RunWriter(run.folder)
    specimens.write_status(run, "running", 40)
    older = specimens.make_run(folder / "older")
    specimens.write_status(older, "finished", 1000)
    page = watched.open("run")
    wait_scene(page, "live-40")
    yield run, writer, page
    writer.close()


def test_compare_shows_scores_and_provenance(watched):
    page = watched.open()
    page.wait_for_selector(".lens[data-frame]")
    wait_text(page, "#scene-tables", "Gap closed")
    facts = page.locator("#scene-tables").inner_text()
    assert "Temporal share" in facts
    assert "Y of BT.601" in facts
    assert "license" in facts
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
    said = page.locator("#run-lead").inner_text()
    assert "At step 400: distilled student " in said  # Gradio may show the time of its request before it
    assert " dB (same step), teacher " in said
    assert "(healthy)." in said
    assert "(healthy)" in page.locator("#run-lens [data-part=memory]").inner_text()
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
    assert page.locator("#run input").input_value() == "live · running"  # the live run, not the newest folder
    assert "step 40 of 1,000" in page.locator("#run-progress").inner_text()
    specimens.add_rows(run, range(41, 81))
    specimens.write_status(run, "running", 80)
    wait_text(page, "#run-progress", "step 80 of 1,000")
    assert page.evaluate("document.querySelector('.progress').progress.state.steps.at(-1)") == 80
    specimens.add_snapshot(run, 80, softness=0.5)
    wait_scene(page, "live-80")
    page.evaluate(f"document.querySelector('{RUN_LENS}').lens.show(2)")
    page.locator("#run-progress [data-part=back]").click()  # choosing an older snapshot stops following
    wait_scene(page, "live-40")
    specimens.add_snapshot(run, 120)
    wait_text(page, "#run-progress", "snapshot 2 of 4")
    assert lens(page)["scene"] == "live-40"
    assert lens(page)["frame"] == 2


def test_students_are_compared_from_the_first_snapshot_on(runs_page, specimens):
    """Before the first snapshot there are only bicubic and the teacher."""
    watched, folder = runs_page
    run = specimens.make_run(folder / "young")
    page = watched.open("run")
    wait_scene(page, "validation_clip")
    assert [lens(page)[side] for side in ("left", "right")] == ["bicubic", "teacher"]
    specimens.add_snapshot(run, 0)
    wait_scene(page, "young-0")
    assert [lens(page)[side] for side in ("left", "right")] == ["plain", "student"]
    specimens.add_snapshot(run, 20, plain=False)
    wait_scene(page, "young-20")
    assert [lens(page)[side] for side in ("left", "right")] == ["bicubic", "student"]
    wait_text(page, "#run-lead", "no plain student at this step")
    page.locator(f"{RUN_LENS} [data-part=right]").select_option("teacher")
    specimens.add_snapshot(run, 40)
    wait_scene(page, "young-40")
    assert [lens(page)[side] for side in ("left", "right")] == ["plain", "teacher"]  # the choice is kept
    wait_text(page, "#run-lead", "(same step)")


def test_survives_a_reload(live):
    _, _, page = live
    page.reload()
    wait_scene(page, "live-40")
    assert "Running" in page.locator("#run-progress").inner_text()


def test_stop_reaches_the_worker_and_the_page_shows_the_end(live, specimens):
    run, writer, page = live
    page.locator("#run-stop").click()
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


def test_a_partial_run_is_reported_and_the_page_works_on(live, specimens):
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


def test_the_first_run_appears_by_itself(runs_page, specimens):
    watched, folder = runs_page
    page = watched.open("run")
    wait_text(page, "#run-progress", "No run yet")
    run = specimens.make_run(folder / "first")
    specimens.add_snapshot(run, 0)
    wait_scene(page, "first-0")


def test_the_page_changes_to_a_new_run_unless_another_was_chosen(runs_page, specimens):
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
    assert lens(chosen)["scene"] == "old-0"


def test_a_run_that_is_deleted_while_it_is_shown(runs_page, specimens):
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


def test_a_scene_that_is_deleted_while_it_is_shown(pages, specimens, tmp_path):
    from workbench.views.studio import launch

    for name in ("kept", "gone"):
        specimens.make_scene(tmp_path / "scenes" / name, frames=30, title=name)
    app, url = launch(runs=[], scenes=[tmp_path / "scenes"], quiet=True, wait=False)
    try:
        page = pages(url).open("?scene=gone")
        page.wait_for_selector(".lens[data-frame]")
        shutil.rmtree(tmp_path / "scenes" / "gone")
        page.evaluate("document.querySelector('.lens').lens.show(25)")
        wait_text(page, ".lens [data-part=status]", "frame 26")
        page.locator("#scene-refresh").click()
        page.wait_for_function("document.querySelector('.lens').lens.state.scene === 'kept'")
        page.close()  # an open page reports that its server is gone
    finally:
        app.close()


# Pages that need services: small scripts replace the jobs, except in one real training.


def script(text):
    lead = "import json, sys, time\nrequest = json.load(sys.stdin)\ndef write(**w): print(json.dumps(w), flush=True)\n"
    return [sys.executable, "-c", lead + textwrap.dedent(text)]


ROWS = [
    {"name": "small", "role": "student", "parameters": 1000, "frames": 3, "feature_channels": 16, "year": 2017,
     "paper": "A <b>paper</b>", "what": "a small one", "macs": 2_000_000_000},
    {"name": "large", "role": "teacher", "parameters": 9000, "frames": None, "feature_channels": 0, "year": 2019,
     "paper": "Another", "what": "a large one", "macs": 30_000_000_000},
]  # fmt: skip
WORK = {
    "estimate": "write(result={'seconds_per_step': 2.0, 'peak_mib': 512.0, 'free_mib': 2048.0, 'fits': True})",
    "speed": """
        one = {'parameters': 1, 'macs': 1, 'seconds_per_frame': 0.25, 'peak_bytes': 2**20}
        seen = [one | {'name': name} for name in request['names']]
        write(result={'rows': seen, 'conditions': 'here and now'})
    """,
    "upscale": """
        import importlib.util, pathlib
        spec = importlib.util.spec_from_file_location('specimens', 'tests/specimens.py')
        made = importlib.util.module_from_spec(spec); spec.loader.exec_module(made)
        if request['methods'] == ['bicubic']:
            write(status='for a long time'); time.sleep(60)
        made.make_scene(pathlib.Path(request['folder']), frames=2, title=request['title'])
        write(result={'scene': 'x'})
    """,
}


@pytest.fixture(scope="module")
def whole_studio(browser, tmp_path_factory):
    """A studio with all services: its address and its folders of runs and scenes."""
    from workbench.models.catalog import Catalog
    from workbench.views.studio import Services, launch, networks

    patch = pytest.MonkeyPatch()
    patch.setattr(networks, "read_catalog", lambda: Catalog(height=120, width=180, rows=ROWS))
    services = Services(
        prepare=create_run,
        names=lambda: {"student.name": ["vespcn", "vespcn_s"]},
        command=lambda kind: script(WORK[kind]),
        methods=lambda: {"bicubic": "Bicubic", "teacher": "Teacher"},
    )
    runs, scenes = (tmp_path_factory.mktemp("whole") / name for name in ("runs", "scenes"))
    runs.mkdir()
    scenes.mkdir()
    app, url = launch(runs=[runs], scenes=[scenes], services=services, save_scenes=True, quiet=True, wait=False)
    yield url, runs, scenes
    app.close()
    patch.undo()


@pytest.fixture
def whole(whole_studio, pages):
    """Pages of that studio with empty folders, and its folder of runs."""
    url, runs, scenes = whole_studio
    empty(runs)
    empty(scenes)
    return pages(url), runs


class TestTrain:
    def test_a_training_from_the_form_to_its_end(self, whole):
        """Start, follow, kill, reload, resume: with the real worker."""
        watched, home = whole
        page = watched.open("train")
        page.locator("#train-preset").select_option("smoke")
        page.wait_for_function("document.getElementById('setting-steps').value === '2'")
        page.locator("[id='setting-steps']").fill("4000")
        page.locator("#train-name").fill("mine")
        page.locator("#train-go").click()
        wait_text(page, "#train-note", "mine was created")
        second = watched.open("train")
        wait_text(second, "#train-progress", "step")
        page.locator("#train-name").fill("another")
        page.locator("#train-go").click()
        wait_text(page, "#train-problem", "mine is training on this machine")
        assert not (home / "another").exists()
        deadline = time.monotonic() + 60
        while Run(home / "mine").status().step < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        page.locator("#train-stop").click()
        page.wait_for_function("!document.querySelector('#train-resume').disabled", timeout=60000)
        assert Run(home / "mine").status().state == "stopped"
        wait_text(second, "#train-progress", "Stopped")
        page.reload()
        wait_text(page, "#train-progress", "Stopped")
        steps = [row["step"] for row in Run(home / "mine").metrics()]
        assert steps == list(range(1, len(steps) + 1))

    def test_an_invalid_setting_is_marked(self, whole):
        page = whole[0].open("train")
        page.locator("[id='setting-data.num_frames']").wait_for(state="attached")
        page.evaluate("document.getElementById('setting-data.num_frames').value = '0'")
        page.locator("#train-go").click()
        wait_text(page, "#train-problem", "data.num_frames: want 1 or more, got 0")
        assert page.locator("[id='setting-data.num_frames']").is_visible()  # its group was opened
        assert page.locator(".setting.wrong").count() == 1

    def test_an_estimate(self, whole):
        page = whole[0].open("train")
        page.locator("[id='setting-steps']").fill("1800")
        page.locator("#train-measure").click()
        wait_text(page, "#train-estimate", "About 1:00:00 for 1,800 steps")

    def test_duplicate_fills_the_form(self, whole, specimens):
        watched, home = whole
        specimens.write_status(
            create_run(home / "old", with_settings(specimens.RunConfig(), {"seed": 77})), "finished", 2
        )
        page = watched.open("train")
        wait_text(page, "#train-progress", "Finished")
        page.locator("#train-start").click()
        wait_text(page, "#train-note", "Settings of old")
        assert page.locator("[id='setting-seed']").input_value() == "77"


def wait_beside(page, *wanted):
    page.wait_for_function(
        """wanted => [0, 1].flatMap(k => {
            const state = document.querySelector(`#runs-lens-${k} .lens`)?.lens?.state;
            return [state?.scene, state?.frame];
        }).join() === wanted.join()""",
        arg=list(wanted),
        timeout=60000,
    )


def beside_pixels(page, k):
    """Return the method left of the wipe, which is in the middle, and the pixels of the canvas of a lens."""
    viewer = f"document.querySelector('#runs-lens-{k} .lens').lens"
    return page.evaluate(f"{viewer}.state.left"), read_image(page, f"{viewer}.readCell(0)")[..., :3]


def check_beside(page, k, scene, frame):
    page.wait_for_function("k => !document.querySelector(`#runs-lens-${k} .lens`).lens.stats.pending", arg=k)
    left, shown = beside_pixels(page, k)
    assert left != "student"
    edge = scene.width // 2
    assert np.array_equal(shown[:, :edge], scene.frame(left, frame)[:, :edge])
    assert np.array_equal(shown[:, edge:], scene.frame("student", frame)[:, edge:])


class TestRuns:
    def test_two_runs_beside_each_other(self, whole, specimens):
        watched, home = whole
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

    def test_a_curve_opens_its_run_at_that_step(self, whole, specimens):
        watched, home = whole
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

    def test_two_viewers_at_the_same_step_and_frame(self, whole, specimens):
        watched, home = whole
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
        wait_beside(page, "one-400", 0, "two-320", 0)  # the last step that both have reached: 320
        left, right = (page.locator(f"#runs-lens-{k}").bounding_box() for k in (0, 1))
        assert left["x"] + left["width"] <= right["x"]
        assert left["y"] == right["y"]

        page.locator("#runs-lens-0 [data-part=next]").click()
        wait_beside(page, "one-400", 1, "two-320", 1)
        page.locator("#runs-lens-1 [data-part=scrub]").fill("4")
        wait_beside(page, "one-400", 4, "two-320", 4)
        page.locator("#runs-lens-1 [data-part=back]").click()
        wait_beside(page, "one-400", 3, "two-320", 3)
        for k, (folder, step) in enumerate(zip(folders, (400, 320), strict=True)):
            check_beside(page, k, Run(folder).snapshot(step), 3)

        page.locator("#runs-lens-0 [data-part=step]").fill("1")  # the second of 0, 200, 400
        wait_beside(page, "one-200", 3, "two-160", 3)
        assert page.locator("#runs-name-1").inner_text().split()[-3:] == [
            "two",
            "step",
            "160",
        ]  # behind Gradio's own clock
        page.locator("#runs-lens-1 [data-part=step]").fill("0")
        wait_beside(page, "one-0", 3, "two-0", 3)
        for k, folder in enumerate(folders):
            check_beside(page, k, Run(folder).snapshot(0), 3)

        page.set_viewport_size({"width": 880, "height": 900})
        left, right = (page.locator(f"#runs-lens-{k}").bounding_box() for k in (0, 1))
        assert left["y"] + left["height"] <= right["y"]
        page.locator("#runs-lens-0 [data-part=play]").click()
        page.wait_for_function("document.querySelector('#runs-lens-1 .lens').lens.state.frame !== 3")
        page.locator("#runs-lens-0 [data-part=play]").click()
        frame = page.evaluate("document.querySelector('#runs-lens-0 .lens').lens.state.frame")
        wait_beside(page, "one-0", frame, "two-0", frame)
        page.get_by_label("compare one").uncheck()
        page.locator("#runs-lenses").wait_for(state="hidden")

    def test_one_of_two_runs_has_no_snapshot(self, whole, specimens):
        watched, home = whole
        for name in ("one", "two"):
            run = specimens.make_run(home / name)
            specimens.add_rows(run, range(1, 31))
            specimens.write_status(run, "stopped", 30)
        specimens.add_snapshot(Run(home / "one"), 20)
        page = watched.open("runs")
        page.get_by_label("compare one").check()
        page.get_by_label("compare two").check()
        wait_text(page, "#runs-lens-1", "two has no snapshot")
        page.wait_for_function("document.querySelector('#runs-lens-0 .lens').lens.state.scene === 'one-20'")
        page.locator("#runs-lens-0 [data-part=next]").click()
        page.wait_for_function("document.querySelector('#runs-lens-0 .lens').lens.state.frame === 1")
        specimens.add_snapshot(Run(home / "two"), 10)  # a new snapshot starts at the frame of the other lens
        wait_beside(page, "one-20", 1, "two-10", 1)

    def test_empty(self, whole):
        wait_text(whole[0].open("runs"), "#runs-board", "No run yet")


class TestVideo:
    def test_from_upload_to_deletion(self, whole, whole_studio, tmp_path):
        video = encode(tmp_path / "<i>clip</i>.mp4".replace("/", ""), numbered(12, 96, 128))
        page = whole[0].open("video")
        page.locator("#video-file").set_input_files(video)
        wait_text(page, "#video-selection", "128x96 · 12 frames")
        assert "<i>clip<i>.mp4" in page.locator("#video-selection").inner_text()
        page.locator("#video-go").click()
        page.locator("[data-scene]").wait_for(timeout=60000)
        with page.expect_download() as taken:
            page.get_by_role("link", name="scores (json)").click()
        assert taken.value.suggested_filename.endswith("scores.json")
        page.get_by_role("link", name="Compare", exact=True).last.click()
        page.wait_for_selector(".lens[data-frame]")
        assert "your video" in page.locator("#scene input").input_value()
        page.go_back()
        page.get_by_role("button", name="Save as scene").click()
        wait_text(page, "#video-results", "Saved")
        (saved,) = whole_studio[2].iterdir()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete for good?").click()
        wait_text(page, "#video-results", "No result yet")
        assert (saved / "scene.json").is_file()

    def test_a_file_that_is_no_video_is_refused(self, whole, tmp_path):
        page = whole[0].open("video")
        (tmp_path / "a.mp4").write_text("ffconcat version 1.0")
        page.locator("#video-file").set_input_files(tmp_path / "a.mp4")
        wait_text(page, "#video-problem", "a.mp4: a playlist that names other files")

    def test_cancel(self, whole, tmp_path):
        page = whole[0].open("video")
        page.locator("#video-file").set_input_files(encode(tmp_path / "a.mp4", numbered(3)))
        page.locator("[data-method=teacher]").uncheck()
        page.locator("#video-go").click()
        wait_text(page, "#video-jobs", "for a long time")
        page.reload()  # the job continues, and the page shows it
        page.get_by_role("button", name="Cancel").click()
        wait_text(page, "#video-jobs", "canceled")

    def test_a_low_resolution_clip_through_real_networks(self, pages, tmp_path):
        """From upload to download with shipped networks, without scores."""
        from workbench.cli.studio_work import command_line
        from workbench.views.studio import Services, launch

        named = {"bicubic": "Bicubic", "plain": "Plain student"}
        services = Services(prepare=create_run, names=dict, command=command_line, methods=lambda: named)
        app, url = launch(runs=[tmp_path / "runs"], scenes=[], services=services, quiet=True, wait=False)
        try:
            page = pages(url).open("video")
            video = encode(tmp_path / "small_clip.mp4", numbered(12, 48, 64, noise=True))
            page.locator("#video-file").set_input_files(video)
            wait_text(page, "#video-selection", "64x48 · 12 frames")
            assert page.get_by_label("Low-resolution input").is_checked()  # the default of a small video
            wait_text(page, "#video-sum", "Frames 1 to 12 (0.00 to 0.48 s), 64x48 → 256x192.")
            page.locator("#video-first").fill("4")
            page.locator("#video-length").fill("3")
            for side, value in (("width", "37"), ("left", "8")):
                page.get_by_label(side).fill(value)
                page.get_by_label(side).blur()
            wait_text(page, "#video-sum", "Frames 5 to 7 (0.16 to 0.28 s), 37x48 → 148x192.")
            page.locator("#video-go").click()
            row = page.locator("[data-scene]")
            row.wait_for(timeout=180_000)  # imports torch
            assert "small_clip.mp4, frames 5 to 7" in row.inner_text()
            assert "3 frames of 148x192, no scores" in row.inner_text()
            assert page.get_by_role("link", name="scores (json)").count() == 0
            taken = {}
            for name in ("frames (zip)", "Low resolution", "Plain student (vespcn_s)"):
                with page.expect_download() as download:
                    row.get_by_role("link", name=name).click()
                taken[name] = download.value.path()
            with zipfile.ZipFile(taken["frames (zip)"]) as archive:
                names = archive.namelist()
                low = np.asarray(Image.open(io.BytesIO(archive.read("low/00000.webp"))).convert("RGB"))
            assert names == [f"{key}/{i:05d}.webp" for key in ("low", "bicubic", "plain") for i in range(3)]
            np.testing.assert_array_equal(low, read_video(video, first=4, last=5).frames[0][:, 8:45])
            assert read_video(taken["Low resolution"]).frames.shape[0] == 3  # an odd size is possible
            assert read_video(taken["Plain student (vespcn_s)"]).frames.shape == (3, 192, 148, 3)
            row.get_by_role("link", name="Compare", exact=True).click()
            page.wait_for_selector(".lens[data-frame]")
            keys = page.evaluate("document.querySelector('.lens').lens.state")
            assert (keys["left"], keys["right"]) == ("plain", "plain")
            assert page.locator(".lens [data-panel=worst]").is_hidden()  # no scores, so no worst
            wait_text(page, "#scene-tables", "No scores in this scene")
            page.go_back()
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("button", name="Delete for good?").click()
            wait_text(page, "#video-results", "No result yet")
            page.close()  # an open page reports that its server is gone
        finally:
            app.close()


class TestNetworks:
    def test_the_table_and_a_measurement(self, whole):
        page = whole[0].open("networks")
        page.locator("[data-network=small]").wait_for(timeout=60000)
        assert "A <b>paper</b>" in page.locator("[data-network=small]").inner_text()
        page.locator("#networks-filter").fill("teacher")
        assert page.locator("tr[data-network]").count() == 1
        page.locator("#networks-filter").fill("")
        page.get_by_label("measure small").check()
        page.get_by_label("measure large").check()
        page.locator("#networks-measure").click()
        wait_text(page, "#networks-measured", "here and now")
        assert "250.0 ms" in page.locator("#networks-measured").inner_text()
        row = page.locator("#networks-shares tr", has_text="vespcn_plain").inner_text()
        assert len(re.findall(r"[+−]\d\.\d{3}", row)) == 4  # noqa: RUF001

    def test_on_a_phone_a_row_is_a_card(self, whole):
        page = whole[0].open("networks", width=390, height=844)
        page.locator("[data-network=small]").wait_for(timeout=60000)
        page.wait_for_function("document.querySelector('[data-network=small]')?.getBoundingClientRect().height < 110")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        cell = "document.querySelector('[data-network=small] td.parameters')"  # the row may be replaced
        page.wait_for_function(f"getComputedStyle({cell}, '::before').content === '\"parameters \"'")
        page.get_by_role("button", name="parameters").click()  # the heads still sort
        page.get_by_role("button", name="parameters").click()
        assert page.locator("tr[data-network]").first.get_attribute("data-network") == "large"
