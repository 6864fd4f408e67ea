"""Uploads: files that are no videos, names that are paths, limits, deletion."""

import os
import sys

import numpy as np
import pytest

from tests import specimens
from tests.hostile_videos import ACCEPTED, REFUSED, content_of, opened_in, points_elsewhere, small_video
from tests.views.uploads import MARKUP, QUOTA, SECRET, SESSION, add
from tests.visitors import Visitor, make_services, wait_until
from workbench.errors import FolderError, VideoError
from workbench.views.studio import launch
from workbench.views.studio.upload_store import PREFIX, Quota, UploadStore, clean_title, delete_abandoned


class TestVideos:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_files_that_are_no_videos_are_rejected_and_deleted(self, store, tmp_path, kind):
        source, says = REFUSED[kind]
        (tmp_path / "made").mkdir()
        content = content_of(source, tmp_path / "made")
        (tmp_path / "made" / "secret.mp4").write_bytes(SECRET)
        uploads = store.uploads
        (uploads / "secret.mp4").write_bytes(SECRET)
        with (
            opened_in(uploads) as seen,
            opened_in(tmp_path / "made") as outside,
            pytest.raises(VideoError, match=says) as error,
        ):
            add(store, content)
        assert "secret.mp4" not in seen
        assert "secret.mp4" not in outside
        assert str(error.value).startswith("video.mp4: ")
        assert str(tmp_path) not in str(error.value)  # no path of the server
        assert [path.name for path in uploads.iterdir()] == ["secret.mp4"]

    @pytest.mark.parametrize("kind", ACCEPTED)
    def test_unusual_videos_are_accepted(self, store, tmp_path, kind):
        (tmp_path / "made").mkdir()
        clip = add(store, ACCEPTED[kind](tmp_path / "made"))
        assert clip.info.frames >= 1
        assert store.preview(clip, clip.info.frames - 1).startswith("data:image/webp;base64,")

    def test_a_file_with_a_reference_to_another_file(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        with opened_in(tmp_path / "made") as seen:
            content = points_elsewhere(tmp_path / "made")
            seen.clear()
        with opened_in(tmp_path / "made") as seen:
            try:
                add(store, content)
            except VideoError as error:
                said = str(error)
            else:
                said = "video.mp4: accepted"
        assert said.startswith("video.mp4: ")
        assert not seen

    def test_flipped_bits_are_accepted_or_refused_with_a_message(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        good, rng, said = small_video(12)(tmp_path / "made"), np.random.default_rng(0), []
        for _ in range(25):
            content = bytearray(good)
            for place in rng.integers(0, len(content), 8):
                content[place] ^= 1 << int(rng.integers(8))
            try:
                store.preview(add(store, bytes(content)), 11)
            except VideoError as error:
                said.append(str(error))
        assert all(words.startswith("video.mp4: ") for words in said)
        assert len(list((store.uploads).iterdir())) <= QUOTA.uploads


class TestNames:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\windows\\system.ini", "system.ini"),
            ("/etc/shadow", "shadow"),
            ("a\0b\n.mp4", "ab.mp4"),
            ("", "video"),
            ("/", "video"),
            (MARKUP, MARKUP),
            ("\u202egpj.exe", "gpj.exe"),
        ],
    )
    def test_file_names_are_used_as_titles_only(self, store, tmp_path, name, shown):
        assert clean_title(name) == shown
        (tmp_path / "made").mkdir()
        clip = add(store, small_video(2)(tmp_path / "made"), name)
        assert clip.title == shown
        assert clip.path.parent == store.uploads
        assert clip.path.name == clip.key

    def test_long_names_are_shortened(self):
        assert len(clean_title("x" * 5000 + ".mp4")) < 80

    @pytest.mark.parametrize(
        "name", [None, 7, "", ".", "..", "../clips", "video-00000000", "a/b", "\0", ["x"], {}, "x" * 9999]
    )
    def test_names_of_results_must_exist(self, store, name):
        with pytest.raises(FolderError, match="not available"):
            store.result(name, SESSION)
        with pytest.raises(FolderError, match="not available"):
            store.delete(name, SESSION)


class TestQuota:
    def test_the_oldest_uploads_are_deleted_first(self, store, tmp_path):
        (tmp_path / "made").mkdir()
        content = small_video(2)(tmp_path / "made")
        keys = [add(store, content).key for _ in range(5)]
        assert len(list((store.uploads).iterdir())) == QUOTA.uploads
        with pytest.raises(FolderError):
            store.upload(keys[0], SESSION)
        assert store.upload(keys[-1], SESSION)

    def test_uploads_of_queued_jobs_are_kept(self, tmp_path):
        in_use = []
        store = UploadStore(Quota(file=QUOTA.file, uploads=2, bytes=1, seconds=-1), tmp_path, in_use=lambda: in_use)
        (tmp_path / "made").mkdir()
        path = store.new_file()
        path.write_bytes(small_video(2)(tmp_path / "made"))
        in_use.append(str(path))
        upload = store.add(path, "mine.mp4", SESSION)
        for _ in range(3):
            add(store, path.read_bytes())
        assert store.upload(upload.key, SESSION) == upload
        assert list((store.uploads).iterdir()) == [path]
        in_use.clear()
        store.clean()
        assert not path.exists()
        store.close()

    def test_old_uploads_are_deleted(self, tmp_path):
        store = UploadStore(Quota(seconds=-1), tmp_path)
        (store.uploads / "abc").write_bytes(b"x")
        store.clean()
        assert not list((store.uploads).iterdir())
        store.close()

    def test_the_total_size_is_bounded(self, tmp_path):
        store = UploadStore(Quota(bytes=1), tmp_path)
        for _ in range(2):
            specimens.make_scene(store.new_scene(SESSION), frames=2)
        store.clean()
        assert len(store.results(SESSION)) == 1
        store.close()

    def test_partial_results_of_canceled_jobs_are_deleted(self, store):
        (store.scenes / ".video-1.77.partial").mkdir()
        store.clean()
        assert list(store.scenes.iterdir())
        store.clean(is_working=False)
        assert not list(store.scenes.iterdir())

    def test_canceling_a_queued_job_keeps_the_partial_result_of_the_running_one(self, tmp_path):
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        services = make_services(command=lambda kind: sleep, methods=lambda: {"bicubic": "Bicubic"})
        app, url = launch(runs=[tmp_path / "runs"], scenes=[], services=services, quota=QUOTA)
        try:
            visitor = Visitor(app, url)
            upload = visitor.upload(small_video(2)(tmp_path)).json()["upload"]
            request = {"upload": upload, "frames": [0, 2], "region": [0, 0, 48, 64], "methods": ["bicubic"]}
            visitor.act(".submit", **request, ground_truth=False)
            first, second = visitor.act(".submit", **request, ground_truth=False)["jobs"]
            wait_until(lambda: visitor.page()["jobs"][0]["state"] == "running")
            partial = app.store.scenes / ".video-1.77.partial"
            partial.mkdir()
            assert visitor.act("Videos.cancel", job=second["key"])["jobs"][1]["state"] == "canceled"
            assert partial.is_dir()
            visitor.act("Videos.cancel", job=first["key"])
            wait_until(lambda: not partial.exists())
        finally:
            app.close()

    @pytest.mark.parametrize("system", ["unix", "windows"])
    def test_only_the_folder_of_a_killed_studio_is_deleted(self, tmp_path, monkeypatch, system):
        if system == "windows":
            monkeypatch.delattr(os, "getuid", raising=False)
        living, dead, link = UploadStore(QUOTA, tmp_path), tmp_path / f"{PREFIX}dead", tmp_path / f"{PREFIX}link"
        dead.mkdir()
        (dead / "alive").touch()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "alive").touch()
        link.symlink_to(tmp_path / "mine")
        delete_abandoned(tmp_path)
        assert living.folder.is_dir()
        assert not dead.exists()
        assert (tmp_path / "mine" / "alive").exists()
        living.close()
        assert not living.folder.exists()
