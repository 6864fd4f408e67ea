"""Tour of the page Compare: the first visit, its steps, and how it is closed."""

import json

import pytest

from tests import specimens
from tests.browser.conftest import INSPECT, Watched

pytestmark = pytest.mark.browser
CARD = "aside[aria-label=Tour]"
TITLES = ["Wipe", "Attention maps", "Memory cells", "Worst frames", "Live run"]
HIGHLIGHTED = "[...document.querySelectorAll('*')].filter(e => e.style?.outline)"


@pytest.fixture
def visitor(browser, address):
    """Pages of a visitor whose browser has stored nothing."""
    context = browser.new_context()
    context.add_init_script(path=INSPECT)
    made = Watched(lambda touch: context, address)
    yield made
    made.check()
    context.close()


def first_visit(visitor, path="?scene=disc", **options):
    page = visitor.open(path, **options)
    page.locator(CARD).wait_for()
    return page


def press(page, name):
    page.locator(CARD).get_by_role("button", name=name).click()


def title(page):
    return page.locator(f"{CARD} strong").inner_text()


def test_the_first_visit_shows_five_steps(visitor):
    page = first_visit(visitor)
    assert page.evaluate("document.activeElement === document.body")  # the card takes no focus
    for number, expected in enumerate(TITLES, 1):
        page.locator(f"{CARD} strong").get_by_text(expected, exact=True).wait_for()
        assert page.locator(f"{CARD} small").inner_text() == f"Step {number} of 5"
        assert page.evaluate(f"{HIGHLIGHTED}.length") == 1
        if number < 5:
            press(page, "Next")
    assert page.evaluate(f"{HIGHLIGHTED}[0].textContent").strip() == "Run"
    assert page.get_by_role("link", name="Open the page Run").get_attribute("href").endswith("/run")
    press(page, "Back")
    assert title(page) == "Worst frames"
    press(page, "Next")
    press(page, "Done")
    assert page.locator(CARD).is_hidden()
    assert not page.evaluate(f"{HIGHLIGHTED}.length")


def test_a_step_shows_what_it_explains_and_leaves_nothing_over_the_frames(visitor):
    page = first_visit(visitor)
    press(page, "Show it")
    page.wait_for_function("Math.abs(inspect('.lens').state.wipe - 0.5) > 0.1")
    press(page, "Next")
    assert page.evaluate("inspect('.lens').state.wipe") == 0.5
    press(page, "Show it")
    assert page.evaluate("inspect('.lens').state.overlay").startswith("attention")
    press(page, "Next")
    assert page.evaluate("inspect('.lens').state.overlay") == ""
    press(page, "Show it")
    assert page.evaluate("inspect('.lens').state.overlay") == "memory"
    press(page, "Next")
    press(page, "Show it")
    assert page.evaluate("inspect('.lens').state.panels") == ["worst"]
    assert page.evaluate(f"{HIGHLIGHTED}[0].dataset.part") == "worst"


def test_a_scene_without_memory_cells_has_no_such_step(visitor, serve, tmp_path):
    file = specimens.make_scene(tmp_path / "scenes" / "one", frames=3) / "scene.json"
    record = json.loads(file.read_text())
    record["overlays"] = [overlay for overlay in record["overlays"] if overlay["kind"] != "memory"]
    file.write_text(json.dumps(record))
    visitor.address = serve(runs=[], scenes=[tmp_path / "scenes"]).address
    page = first_visit(visitor, "")
    seen = [title(page)]
    while page.locator(CARD).get_by_role("button", name="Next").is_visible():
        press(page, "Next")
        seen.append(title(page))
    assert seen == [name for name in TITLES if name != "Memory cells"]
    assert page.locator(f"{CARD} small").inner_text() == "Step 4 of 4"


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_a_closed_tour_stays_closed_until_its_link_is_clicked(visitor, way):
    page = first_visit(visitor)
    if way == "button":
        press(page, "Close the tour")
    else:
        page.keyboard.press("Escape")
    assert page.locator(CARD).is_hidden()
    page.reload()
    page.wait_for_selector(".lens[data-frame]")
    page.wait_for_timeout(600)  # longer than the tour waits for a scene
    assert page.locator(CARD).is_hidden()
    page.get_by_role("button", name="Show the tour").press("Enter")
    assert title(page) == "Wipe"
    page.keyboard.press("Tab")  # the card follows its link
    assert page.evaluate("document.activeElement.textContent") == "Show it"
    page.keyboard.press("Escape")
    assert page.locator(CARD).is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "Show the tour"


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_card_is_in_the_window_and_moves_nothing(visitor, width, height):
    page = first_visit(visitor, width=width, height=height)
    page.wait_for_function("inspect('.lens').stats.pending === 0")
    top = "document.querySelector(s).getBoundingClientRect().top + scrollY"
    places = f"['.page-head', '.lens-stage', '.lens-curves'].map(s => {top})"
    shown = page.evaluate(places)
    for _ in TITLES:
        box = page.locator(CARD).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height
        page.locator(f"{CARD} .main").click()
    assert page.evaluate(places) == shown
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_browser_that_blocks_storage_shows_the_tour(visitor):
    context = visitor.contexts(False)
    context.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })")
    page = first_visit(visitor)
    press(page, "Close the tour")
    assert page.locator(CARD).is_hidden()
