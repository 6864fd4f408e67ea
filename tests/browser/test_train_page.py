"""Page Train, with a real worker."""

import time

import pytest

from tests import specimens
from tests.browser.studio_page import wait_text
from workbench.config import with_settings
from workbench.runs import Run, create_run

pytestmark = pytest.mark.browser


class TestTrain:
    def test_a_training_from_the_form_to_its_end(self, studio):
        """Start, follow, kill, reload, resume: with the real worker."""
        watched, home = studio
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

    def test_an_invalid_setting_is_marked(self, studio):
        page = studio[0].open("train")
        page.locator("[id='setting-data.num_frames']").wait_for(state="attached")
        page.evaluate("document.getElementById('setting-data.num_frames').value = '0'")
        page.locator("#train-go").click()
        wait_text(page, "#train-problem", "data.num_frames: want 1 or more, got 0")
        assert page.locator("[id='setting-data.num_frames']").is_visible()  # its group was opened
        assert page.locator(".setting.wrong").count() == 1

    def test_the_estimate_is_shown(self, studio):
        page = studio[0].open("train")
        page.locator("[id='setting-steps']").fill("1800")
        page.locator("#train-measure").click()
        wait_text(page, "#train-estimate", "About 2 min 0 s, its time limit, for 60 of 1,800 steps")

    def test_duplicate_fills_the_form(self, studio):
        watched, home = studio
        specimens.write_status(
            create_run(home / "old", with_settings(specimens.RunConfig(), {"seed": 77})), "finished", 2
        )
        page = watched.open("train")
        wait_text(page, "#train-progress", "Finished")
        page.locator("#train-start").click()
        wait_text(page, "#train-note", "Settings of old")
        assert page.locator("[id='setting-seed']").input_value() == "77"
