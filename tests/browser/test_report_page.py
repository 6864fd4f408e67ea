"""Report page opened from disk: it works, loads nothing, and shows the pixels of the folder."""

import numpy as np
import pytest

from tests import specimens
from tests.browser.conftest import INSPECT
from tests.browser.pixels import read_image
from workbench.runs import Run
from workbench.scenes import read_scene
from workbench.views.report import write_report

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="window.hurt = 1"></script><script>window.hurt = 2</script>'


@pytest.fixture
def opens(browser):
    """Function that opens a file; a script error, a refusal of the policy or a further request fails the test."""
    contexts, errors, asked, files = [], [], [], []

    def opened(path, *, width=1280, scheme="light"):
        files.append(path.as_uri())
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        contexts[-1].add_init_script(path=INSPECT)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".lens[data-frame]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
    assert asked == files


def shown(page, method):
    """Return the pixels of a method as the page decoded them, uint8 ``(H, W, 3)``."""
    return read_image(page, f"inspect('.lens').readPixels('{method}')")[..., :3]


def on_canvas(page):
    return read_image(page, "inspect('.lens').readTile(0)")[..., :3]


def test_a_scene(opens, home, tmp_path):
    scene = read_scene(home / "scenes" / "disc")
    page = opens(write_report(scene, tmp_path / "page.html").path)
    page.wait_for_selector(".lens[data-frame='0']")
    page.get_by_label("Frame", exact=True).fill("7")
    page.wait_for_selector(".lens[data-frame='7']")
    for method in scene.methods:
        np.testing.assert_array_equal(shown(page, method.key), scene.frame(method.key, 7))
    drawn, edge = on_canvas(page), scene.width // 2
    np.testing.assert_array_equal(drawn[:, :edge], scene.frame("plain", 7)[:, :edge])
    np.testing.assert_array_equal(drawn[:, edge:], scene.frame("distilled", 7)[:, edge:])
    page.locator(".lens [data-part=overlay]").select_option("attention")
    page.wait_for_function("() => inspect('.lens').readValue('teacher', 3, 3) !== null")
    page.locator(".lens [data-panel=slice]").click()
    page.wait_for_function("() => document.querySelector('[data-part=slice-progress]').textContent === ''")
    row = page.evaluate("[...inspect('.lens').readSlice(0).data]")
    clip = scene.clip("high")[:, page.evaluate("inspect('.lens').state.row")]
    np.testing.assert_array_equal(np.array(row, np.uint8).reshape(scene.frames, scene.width, 4)[..., :3], clip)
    assert page.get_by_role("button", name="Save clip").count() == 0  # there is no server that could write one
    assert page.evaluate("inspect('.lens').stats.failed") == []


def test_a_run_from_step_to_step(opens, home, tmp_path):
    run = Run(home / "runs" / "mine")
    page = opens(write_report(run, tmp_path / "page.html").path)
    page.wait_for_selector(".lens[data-frame='0']")
    np.testing.assert_array_equal(shown(page, "student"), run.snapshot(400).frame("student", 0))
    page.get_by_label("Frame", exact=True).fill("2")
    page.wait_for_selector(".lens[data-frame='2']")
    page.get_by_label("Training step").fill("0")
    page.wait_for_function("() => inspect('.lens').state.scene.endsWith('-0')")
    page.wait_for_function("() => !inspect('.lens').stats.pending")
    np.testing.assert_array_equal(shown(page, "student"), run.snapshot(0).frame("student", 2))
    assert page.get_by_role("heading", name="Step 0", exact=True).is_visible()
    assert not page.get_by_role("heading", name="Step 400").is_visible()
    assert page.locator(".progress [data-part=which]").inner_text() == "step 0 (snapshot 1 of 3)"
    page.get_by_label("Later snapshot").click()
    page.wait_for_function("() => inspect('.lens').state.scene.endsWith('-200')")
    assert page.locator(".lens [data-part=training-step]").inner_text() == "step 200"
    assert page.locator(".progress .chart-line").count() >= 3


def test_fewer_frames_and_hostile_texts(opens, tmp_path):
    scene = read_scene(specimens.make_scene(tmp_path / "hostile", title=HOSTILE))
    studio = write_report(scene, tmp_path / "studio.html").bytes
    made = write_report(scene, tmp_path / "page.html", max_bytes=studio * 8 // 10)
    page = opens(made.path)
    assert page.get_by_role("heading", level=1).inner_text() == HOSTILE
    assert page.title() == HOSTILE
    assert page.evaluate("window.hurt") is None
    assert page.locator(".notice", has_text="left out").inner_text() == made.left_out
    page.keyboard.press("End")
    page.locator(".lens").press("End")
    page.wait_for_selector(f".lens[data-frame='{made.frames - 1}']")
    assert f"frame {made.frames} / {made.frames}" in page.locator(".lens-count").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_width_of_a_phone(opens, home, tmp_path, scheme):
    page = opens(write_report(Run(home / "runs" / "mine"), tmp_path / "page.html").path, width=390, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    lightness = [sum(map(int, color.strip("rgb()").split(","))) for color in (paper, ink)]
    assert (lightness[0] > lightness[1]) == (scheme == "light")


def test_what_the_policy_refuses(browser, home, tmp_path):
    """A script that is added to the page does not run."""
    made = write_report(read_scene(home / "scenes" / "disc"), tmp_path / "page.html")
    text = made.path.read_text(encoding="utf-8").replace("<main>", "<main><script>window.hurt = 1</script>", 1)
    made.path.write_text(text, encoding="utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(made.path.as_uri())
        page.wait_for_selector(".lens[data-frame]")
        assert page.evaluate("window.hurt") is None
        refused = page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
        assert refused == "refused"
