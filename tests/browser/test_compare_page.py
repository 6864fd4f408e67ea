"""Page Compare: scores, shipped scenes, a scene that is deleted."""

import json
import shutil

import pytest

from tests import specimens
from tests.browser.studio_page import wait_text

pytestmark = pytest.mark.browser


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


def test_a_scene_names_the_methods_that_are_shown_first(serve, tmp_path):
    record = specimens.make_scene(tmp_path / "scenes" / "named", frames=2) / "scene.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sides": ["bicubic", "teacher"]}))
    page = serve(runs=[], scenes=[tmp_path / "scenes"]).open()
    page.wait_for_selector(".lens[data-frame]")
    assert page.evaluate("inspect('.lens').state.visibleMethods") == ["bicubic", "teacher"]


def test_a_scene_that_is_deleted_while_it_is_shown(serve, tmp_path):
    for name in ("kept", "gone"):
        specimens.make_scene(tmp_path / "scenes" / name, frames=30, title=name)
    page = serve(runs=[], scenes=[tmp_path / "scenes"]).open("?scene=gone")
    page.wait_for_selector(".lens[data-frame]")
    shutil.rmtree(tmp_path / "scenes" / "gone")
    page.evaluate("inspect('.lens').show(25)")
    wait_text(page, ".lens [data-part=status]", "frame 26")
    page.locator("#scene-refresh").click()
    page.wait_for_function("inspect('.lens').state.scene === 'kept'")
