"""Uploaded videos and the scenes made of them: one temporary folder, bounded by a quota, split by browser session.

No text from a browser is ever part of a path: names of files and folders are generated here. An upload or a result is
visible to its own session only and is deleted when the session ends. The folder is deleted when the studio ends; a
folder that a killed studio left behind is deleted when the next studio starts.
"""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from workbench.data.video.color import Conversion
from workbench.data.video.inspect import Limits, VideoInfo, inspect_video
from workbench.data.video.read import read_video
from workbench.errors import ConfigError, FolderError, VideoError
from workbench.scenes import Scene, list_scenes, read_scene

CONVERSION = Conversion(background=(0, 0, 0))
"""Conversion of uploaded videos: deinterlace where marked, map HDR to SDR, black behind transparent pixels."""

PREFIX = "workbench-studio-"
RESULT = "video-"
"""Beginning of the names of results; also in the scenes folder, once they are saved."""
PREVIEW_WIDTH = 960

SCALE = 4
"""Upscaling factor of the page."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Upper limits for uploads and results.

    Attributes:
        file: limits of one uploaded file.
        bytes: total size of all uploads and results; the oldest are deleted first.
        uploads: number of uploads.
        results: number of results.
        seconds: age after which an unused upload or result is deleted.
        frames: frames of one selection.
        pixels: pixels of one upscaled frame.
        side: lower limit of the width and height of a selection, in low-resolution pixels.
        saved: number of results in the scenes folder.
    """

    file: Limits = field(default_factory=Limits)
    bytes: int = 2_000_000_000
    uploads: int = 24
    results: int = 24
    seconds: float = 24 * 3600.0
    frames: int = 60
    pixels: int = 960 * 540
    side: int = 8
    saved: int = 100


@dataclass(frozen=True)
class Upload:
    """An uploaded video.

    Attributes:
        key: generated name.
        title: name of the file in the browser, only for display.
        path: the file.
        info: size, length and format of the video.
        session: browser session that owns it.
    """

    key: str
    title: str
    path: Path
    info: VideoInfo
    session: str


class UploadStore:
    """Folder with uploads and results.

    Args:
        quota: upper limits.
        home: parent of the folder; the system's temporary folder where left out.
        in_use: function that returns the files needed by queued jobs; they are kept whatever the quota.
        saved_scenes: folder that results may be saved to; None: results cannot be saved.

    Sessions are the values of the session cookie, see :func:`workbench.views.serving.session_of`. The empty session
    owns nothing.
    """

    def __init__(
        self,
        quota: Quota | None = None,
        home: Path | None = None,
        in_use: Callable[[], Collection[str]] = tuple,
        saved_scenes: Path | None = None,
    ) -> None:
        self.quota, self._in_use, self._saved_scenes = quota or Quota(), in_use, saved_scenes
        parent = home or Path(tempfile.gettempdir())
        delete_abandoned(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        self._alive = FileLock(self.folder / "alive")
        self._alive.acquire(timeout=0)
        self.uploads, self.scenes, self.exports = (self.folder / name for name in ("uploads", "scenes", "exports"))
        for folder in (self.uploads, self.scenes, self.exports):
            folder.mkdir()
        self._uploads: dict[str, Upload] = {}
        self._results: dict[str, str] = {}  # name of the scene -> session
        self._lock = threading.Lock()

    # -- uploads

    def new_file(self) -> Path:
        """Make room and return the path for an arriving video.

        Raises:
            VideoError: the disk is full.
        """
        self.clean()
        if shutil.disk_usage(self.folder).free < 2 * self.quota.file.bytes:
            raise VideoError("there is not enough space on the disk of the studio; delete something there")
        return self.uploads / secrets.token_hex(8)

    def add(self, path: Path, title: str, session: str) -> Upload:
        """Inspect a video that was written to a :meth:`new_file`; keep it, or delete it.

        Raises:
            VideoError: reason of the refusal, with the title in place of the path.
        """
        title = clean_title(title)
        try:
            info = inspect_video(path, self.quota.file)
        except VideoError as error:
            path.unlink(missing_ok=True)
            raise VideoError(str(error).replace(str(path), title)) from error
        except OSError as error:
            path.unlink(missing_ok=True)
            raise VideoError(f"{title}: cannot be read ({error.strerror})") from error
        upload = Upload(path.name, title, path, info, session)
        with self._lock:
            self._uploads[upload.key] = upload
        self.clean()
        return upload

    def upload(self, key: Any, session: str) -> Upload:
        """Return an upload of a session.

        Raises:
            FolderError: no such upload, or it belongs to another session.
        """
        upload = self._uploads.get(key) if isinstance(key, str) else None
        if upload is None or not session or upload.session != session or not upload.path.is_file():
            raise FolderError("this video is not available any more; upload it again")
        return upload

    def newest(self, session: str) -> Upload | None:
        """Return the last upload of a session."""
        with self._lock:
            own = [upload for upload in self._uploads.values() if session and upload.session == session]
        return own[-1] if own else None

    def preview(self, upload: Upload, index: int) -> str:
        """Return a frame as a small image in a ``data:`` URL.

        Raises:
            VideoError: the video is damaged there.
        """
        index = min(max(index, 0), upload.info.frames - 1)
        try:
            frame = read_video(upload.path, first=index, last=index + 1, conversion=CONVERSION).frames[0]
        except VideoError as error:
            raise VideoError(str(error).replace(str(upload.path), upload.title)) from error
        image = Image.fromarray(frame)
        image.thumbnail((PREVIEW_WIDTH, image.height))
        encoded = io.BytesIO()
        image.save(encoded, "WEBP", quality=80, method=0)
        return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()

    def selection(self, data: Mapping[str, Any], session: str) -> dict[str, Any]:
        """Check the frames and the region that a browser selected.

        Args:
            data: ``{"upload": key, "frames": [first, last], "region": [top, left, height, width], "ground_truth":
                whether the video is the high-resolution ground truth, ...}``.
            session: session that must own the upload.

        Raises:
            ConfigError: outside the video, too large, or too small.
        """
        upload, quota = self.upload(data.get("upload"), session), self.quota
        first, last = _integers(data.get("frames"), 2, "frames")
        top, left, height, width = _integers(data.get("region"), 4, "region")
        ground_truth = data.get("ground_truth")
        if not isinstance(ground_truth, bool):
            raise ConfigError("ground_truth: want true (high resolution) or false (low-resolution input)")
        if not 0 <= first < last <= upload.info.frames:
            raise ConfigError(f"frames: want a part of 0 to {upload.info.frames}, got {first} to {last}")
        if last - first > quota.frames:
            raise ConfigError(f"frames: want at most {quota.frames}, got {last - first}; select a shorter part")
        inside = 0 <= top <= top + height <= upload.info.height and 0 <= left <= left + width <= upload.info.width
        least = quota.side * (SCALE if ground_truth else 1)
        if not inside or height < least or width < least:
            raise ConfigError(
                f"region: want a part of {upload.info.width}x{upload.info.height} with at least {least} pixels a side, "
                f"got {width}x{height} at column {left}, row {top}"
            )
        pixels = width * height * (1 if ground_truth else SCALE**2)
        if pixels > quota.pixels:
            raise ConfigError(
                f"region: want at most {quota.pixels / 1e6:.2f} million pixels in an upscaled frame, got "
                f"{pixels / 1e6:.2f}; select a smaller region"
            )
        return {
            "file": str(upload.path), "title": upload.title, "frames": [first, last],
            "region": [top, left, height, width], "ground_truth": ground_truth, "background": CONVERSION.background,
        }  # fmt: skip

    # -- results

    def new_scene(self, session: str) -> Path:
        """Return the folder for the next result of a session."""
        name = RESULT + secrets.token_hex(8)
        with self._lock:
            self._results[name] = session
        return self.scenes / name

    def owns(self, name: str, session: str) -> bool:
        """Return whether a result belongs to a session."""
        return bool(session) and self._results.get(name) == session

    def result(self, name: Any, session: str) -> Scene:
        """Return a result of a session.

        Raises:
            FolderError: no such result, or it belongs to another session.
        """
        if not isinstance(name, str) or not self.owns(name, session) or name not in list_scenes(self.scenes):
            raise FolderError("this result is not available any more; refresh the page")
        return read_scene(self.scenes / name)

    def results(self, session: str) -> list[Scene]:
        """Return the results of a session, the newest first."""
        found, own = [], [name for name in list_scenes(self.scenes) if self.owns(name, session)]
        for name in sorted(own, key=lambda one: _modified(self.scenes / one), reverse=True):
            with suppress(FolderError):
                found.append(read_scene(self.scenes / name))
        return found

    def delete(self, name: Any, session: str) -> None:
        """Delete a result of a session."""
        self._delete(self.result(name, session).folder)

    @property
    def can_save(self) -> bool:
        """Whether results may be saved as scenes."""
        return self._saved_scenes is not None

    def is_saved(self, name: str) -> bool:
        """Return whether a result was saved as a scene."""
        return self._saved_scenes is not None and (self._saved_scenes / name).is_dir()

    def save_as_scene(self, name: Any, session: str) -> None:
        """Copy a result of a session to the scenes folder, where everybody sees it and no session deletes it.

        Raises:
            FolderError: no such result, saving is not allowed, too many are saved, or the disk is full.
        """
        scene, folder = self.result(name, session), self._saved_scenes
        if folder is None:
            raise FolderError("saving is not allowed here; start the studio with --save-scenes, or download the frames")
        if self.is_saved(scene.name):
            return
        count = sum(one.startswith(RESULT) for one in list_scenes(folder))
        if count >= self.quota.saved:
            raise FolderError(f"scenes: want at most {self.quota.saved} saved results, got {count}; delete some there")
        partial = folder / f".{scene.name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(scene.folder, partial, dirs_exist_ok=True)
            partial.rename(folder / scene.name)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise FolderError(f"the result cannot be saved ({error.strerror}); free space on the disk") from error

    # -- deletion

    def end_session(self, session: str) -> None:
        """Delete all uploads and results of a session."""
        with self._lock:
            uploads = [upload.path for upload in self._uploads.values() if upload.session == session]
            for path in (*uploads, *(self.scenes / name for name, owner in self._results.items() if owner == session)):
                self._delete(path)
            self._results = {name: owner for name, owner in self._results.items() if owner != session}

    def clean(self, *, is_working: bool = True) -> None:
        """Delete everything too old or beyond the quota; with ``is_working`` off also partial results."""
        in_use = set(self._in_use())
        with self._lock:
            now = time.time()
            files = sorted(self.uploads.iterdir(), key=_modified)
            scenes = sorted((self.scenes / name for name in list_scenes(self.scenes)), key=_modified)
            kept = [path for path in files if str(path) in in_use]
            files = [path for path in files if path not in kept]
            uploads = [path for path in files if path.name in self._uploads]
            doomed = [path for path in files + scenes if now - _modified(path) > self.quota.seconds]
            doomed += [path for path in scenes if path.name not in self._results]
            doomed += uploads[: max(0, len(uploads) - self.quota.uploads)]
            doomed += scenes[: max(0, len(scenes) - self.quota.results)]
            if not is_working:
                doomed += [path for path in self.scenes.iterdir() if path.name.startswith(".")]
            for path in doomed:
                self._delete(path)
            left = sorted((path for path in uploads + scenes if path.exists()), key=_modified)
            total = sum(map(size_of, left + kept))
            while total > self.quota.bytes and len(left) > 1:
                total -= size_of(left[0])
                self._delete(left.pop(0))

    def _delete(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            self._uploads.pop(path.name, None)

    def close(self) -> None:
        """Delete the folder."""
        self._alive.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def delete_abandoned(parent: Path) -> None:
    """Delete the folders of studios that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        status = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or not _is_own(status) or not (folder / "alive").exists():
            continue
        lock = FileLock(folder / "alive")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _is_own(status: os.stat_result) -> bool:
    """Return whether a file is this user's; on Windows every user has a temporary folder."""
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def clean_title(name: str) -> str:
    """Return the last part of a file's name for display: printable, and not long.

    Example:
        >>> clean_title("../../etc/holiday.mp4"), clean_title("")
        ('holiday.mp4', 'video')
    """
    last = re.split(r"[/\\]", str(name))[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    return (printable if len(printable) <= 80 else f"{printable[:60]}…{printable[-16:]}") or "video"


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _integers(values: Any, count: int, name: str) -> list[int]:
    valid = isinstance(values, list) and len(values) == count
    if not valid or any(type(value) is not int or abs(value) > 10**9 for value in values):
        raise ConfigError(f"{name}: want {count} whole numbers, got {str(values)[:60]!r}")
    return values
