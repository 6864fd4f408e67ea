"""Page Networks: table and measurements."""

import re

import pytest

from tests.browser.studio_page import wait_text

pytestmark = pytest.mark.browser


class TestNetworks:
    def test_the_table_can_be_filtered_and_measured(self, studio):
        page = studio[0].open("networks")
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
        row = page.locator("#networks-shares tr", has_text="basicvsr_s").first.inner_text()
        assert len(re.findall(r"[+−]\d\.\d{3}", row)) == 4  # noqa: RUF001

    def test_on_a_phone_a_row_is_a_card(self, studio):
        page = studio[0].open("networks", width=390, height=844)
        page.locator("[data-network=small]").wait_for(timeout=60000)
        page.wait_for_function("document.querySelector('[data-network=small]')?.getBoundingClientRect().height < 110")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        cell = "document.querySelector('[data-network=small] td.parameters')"  # the row may be replaced
        page.wait_for_function(f"getComputedStyle({cell}, '::before').content === '\"parameters \"'")
        page.get_by_role("button", name="parameters").click()  # the heads still sort
        page.get_by_role("button", name="parameters").click()
        assert page.locator("tr[data-network]").first.get_attribute("data-network") == "large"
