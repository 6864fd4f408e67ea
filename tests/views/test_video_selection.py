"""Selections of frames and areas of an uploaded video."""

from pathlib import Path

import pytest

from tests.hostile_videos import small_video
from tests.views.uploads import SESSION, add
from tests.visitors import make_services
from workbench.errors import ConfigError, WorkbenchError
from workbench.views.studio import Studio
from workbench.views.studio.job_queue import JobQueue
from workbench.views.studio.upload_store import Quota, UploadStore
from workbench.views.studio.video import Videos


class TestSelections:
    """Region and frames of a video of 12 frames of 64x48."""

    @pytest.fixture
    def videos(self, store, tmp_path):
        services = make_services()
        queue = JobQueue()
        (tmp_path / "made").mkdir()
        made = Videos(Studio(runs=[tmp_path / "runs"], scenes=[]), store, queue, services)
        made.key = add(store, small_video(12)(tmp_path / "made")).key
        yield made
        queue.close()

    def request(self, videos, **changes):
        request = {
            "upload": videos.key,
            "frames": [0, 6],
            "region": [0, 0, 48, 64],
            "ground_truth": True,
            "methods": ["bicubic"],
        }
        return request | changes

    def test_a_valid_selection(self, videos):
        job = videos.submit(self.request(videos), SESSION)
        assert job.request["region"] == [0, 0, 48, 64]
        assert Path(job.request["folder"]).parent == videos.store.scenes

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"upload": None}, "upload it again"),
            ({"upload": "../alive"}, "upload it again"),
            ({"upload": {}}, "upload it again"),
            ({"frames": None}, "want 2 whole numbers"),
            ({"frames": [0]}, "want 2 whole numbers"),
            ({"frames": ["0", "6"]}, "want 2 whole numbers"),
            ({"frames": [0.5, 6]}, "want 2 whole numbers"),
            ({"frames": [True, 6]}, "want 2 whole numbers"),
            ({"frames": [0, 10**30]}, "want 2 whole numbers"),
            ({"frames": [-1, 6]}, "want a part of 0 to 12"),
            ({"frames": [6, 6]}, "want a part of 0 to 12"),
            ({"frames": [0, 13]}, "want a part of 0 to 12"),
            ({"region": [0, 0, 48]}, "want 4 whole numbers"),
            ({"region": [0, 0, 49, 64]}, "want a part of 64x48"),
            ({"region": [-4, 0, 48, 64]}, "want a part of 64x48"),
            ({"region": [0, 0, 16, 64]}, "at least 32 pixels a side"),
            ({"region": [0, 0, -48, -64]}, "want a part of 64x48"),
            ({"ground_truth": "yes"}, "ground_truth: want"),
            ({"methods": []}, "select one to 6"),
            ({"methods": "bicubic"}, "select one to 6"),
            ({"methods": ["bicubic"] * 7}, "select one to 6"),
            ({"methods": ["/etc/passwd.pth"]}, "select from the list"),
            ({"methods": [{}]}, "select from the list"),
        ],
    )
    def test_invalid_selections_are_refused(self, videos, changes, says):
        with pytest.raises(WorkbenchError, match=says):
            videos.submit(self.request(videos, **changes), SESSION)
        assert not videos.queue.jobs()

    def test_too_many_pixels_raise(self, tmp_path):
        store = UploadStore(Quota(pixels=1000), tmp_path)
        (tmp_path / "made").mkdir()
        key = add(store, small_video(2)(tmp_path / "made")).key
        with pytest.raises(ConfigError, match=r"at most 0\.00 million pixels"):
            store.selection({"upload": key, "frames": [0, 2], "region": [0, 0, 48, 64], "ground_truth": False}, SESSION)
        store.close()
