"""Page Video, from upload to deletion."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.browser.studio_page import wait_text
from tests.videos import encode, numbered
from tests.visitors import make_services
from workbench.data.video.read import read_video

pytestmark = pytest.mark.browser


class TestVideo:
    def test_from_upload_to_deletion(self, studio, studio_server, tmp_path):
        video = encode(tmp_path / "<i>clip</i>.mp4".replace("/", ""), numbered(12, 96, 128))
        page = studio[0].open("video")
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
        (saved,) = studio_server[2].iterdir()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete for good?").click()
        wait_text(page, "#video-results", "No result yet")
        assert (saved / "scene.json").is_file()

    def test_a_file_that_is_no_video_is_rejected(self, studio, tmp_path):
        page = studio[0].open("video")
        (tmp_path / "a.mp4").write_text("ffconcat version 1.0")
        page.locator("#video-file").set_input_files(tmp_path / "a.mp4")
        wait_text(page, "#video-problem", "a.mp4: a playlist that names other files")

    def test_a_job_can_be_canceled(self, studio, tmp_path):
        page = studio[0].open("video")
        page.locator("#video-file").set_input_files(encode(tmp_path / "a.mp4", numbered(3)))
        page.locator("[data-method=teacher]").uncheck()
        page.locator("#video-go").click()
        wait_text(page, "#video-jobs", "for a long time")
        page.reload()  # the job continues, and the page shows it
        page.get_by_role("button", name="Cancel").click()
        wait_text(page, "#video-jobs", "canceled")

    def test_a_low_resolution_clip_through_real_networks(self, serve, tmp_path):
        """From upload to download with shipped networks, without scores."""
        from workbench.cli.studio_work import command_line

        named = {"bicubic": "Bicubic", "plain": "Plain student"}
        services = make_services(command=command_line, methods=lambda: named)
        page = serve(runs=[tmp_path / "runs"], scenes=[], services=services).open("video")
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
        for name in ("frames (zip)", "Low resolution", "Plain student (vespcn_plain)"):
            with page.expect_download() as download:
                row.get_by_role("link", name=name).click()
            taken[name] = download.value.path()
        with zipfile.ZipFile(taken["frames (zip)"]) as archive:
            names = archive.namelist()
            low = np.asarray(Image.open(io.BytesIO(archive.read("low/00000.webp"))).convert("RGB"))
        assert names == [f"{key}/{i:05d}.webp" for key in ("low", "bicubic", "plain") for i in range(3)]
        np.testing.assert_array_equal(low, read_video(video, first=4, last=5).frames[0][:, 8:45])
        assert read_video(taken["Low resolution"]).frames.shape[0] == 3  # an odd size is possible
        assert read_video(taken["Plain student (vespcn_plain)"]).frames.shape == (3, 192, 148, 3)
        row.get_by_role("link", name="Compare", exact=True).click()
        page.wait_for_selector(".lens[data-frame]")
        keys = page.evaluate("inspect('.lens').state")
        assert (keys["left"], keys["right"]) == ("plain", "plain")
        assert page.locator(".lens [data-panel=worst]").is_hidden()  # no scores, so no worst
        wait_text(page, "#scene-tables", "No scores in this scene")
        page.go_back()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete for good?").click()
        wait_text(page, "#video-results", "No result yet")
