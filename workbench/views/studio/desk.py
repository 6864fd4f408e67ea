"""A desk for strangers' videos: a bounded folder of their own, what came, and the scenes that were made of it.

Nothing that a person sends is ever part of a path: files lie under names made here. The folder goes when the studio
ends; one that was left behind by a studio that was killed goes when the next begins. Where people log in, everything is
its owner's alone, and the folder may be one that lasts: what is in it is there again after a restart.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from workbench.data.video.color import Conversion
from workbench.data.video.inspect import Limits, VideoInfo, inspect_video
from workbench.data.video.read import read_video
from workbench.errors import BusyError, ConfigError, FolderError, VideoError
from workbench.scenes import Scene, list_scenes, read_scene
from workbench.views.studio.owners import Owners

CONVERSION = Conversion(background=(0, 0, 0))
"""Choices for uploaded videos: deinterlace what is marked, map HDR to SDR, black behind transparent pixels."""

PREFIX = "workbench-studio-"
PREVIEW_WIDTH = 960


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much there is room for.

    Attributes:
        film: what is too much of one file.
        bytes: of all files on the desk together; the oldest go first.
        clips: kept at a time.
        scenes: kept at a time.
        seconds: after which what nobody touched goes.
        frames: of a part that is enlarged.
        pixels: of one enlarged frame.
        side: the smallest side of a region, in low-resolution pixels.
        kept: scenes that one who logs in may keep for good.
    """

    film: Limits = field(default_factory=Limits)
    bytes: int = 2_000_000_000
    clips: int = 24
    scenes: int = 24
    seconds: float = 24 * 3600.0
    frames: int = 60
    pixels: int = 960 * 540
    side: int = 8
    kept: int = 12


@dataclass(frozen=True)
class Clip:
    """A video that somebody brought.

    Attributes:
        key: its name here.
        title: the name of the file, for people only.
        path: where it lies.
        info: what it is.
    """

    key: str
    title: str
    path: Path
    info: VideoInfo


class Desk:
    """The folder, and what lies in it.

    Args:
        room: how much there is room for.
        home: where the folder shall be; the system's place for temporary files where left out.
        wanted: the files that work in line still needs; they stay, whatever there is room for.
        lasting: the folder itself, which stays when the studio ends; None: it is a new one, and goes.
        shelf: the folder of scenes that those which are kept are copied to, where the desk does not last.

    Users are names that somebody logged in with; the empty one is everybody, where nobody logs in.

    Raises:
        BusyError: another studio is open on the lasting folder.
    """

    def __init__(
        self,
        room: Room | None = None,
        home: Path | None = None,
        wanted: Callable[[], Collection[str]] = tuple,
        *,
        lasting: Path | None = None,
        shelf: Path | None = None,
    ) -> None:
        self.room, self._wanted, self.lasts = room or Room(), wanted, lasting is not None
        self._shelf = shelf
        place = home or Path(tempfile.gettempdir())
        sweep(place)
        if lasting is None:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place)).resolve()
        else:
            lasting.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = lasting.resolve()
        self._alive = FileLock(self.folder / "alive")
        try:
            self._alive.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(
                f"{self.folder}: another studio with a login is open on this folder; end it first"
            ) from error
        self.scenes = self.folder / "scenes"
        for name in ("clips", "scenes", "made"):
            (self.folder / name).mkdir(exist_ok=True)
        self._owners = Owners(self.folder / "owners")
        self._clips: dict[str, Clip] = {}
        self._lock = threading.Lock()
        if self.lasts:
            self._find_again()

    def _find_again(self) -> None:
        """What was there when the studio ended; what was half made then is removed."""
        for path in (*(self.folder / "made").iterdir(), *self.scenes.glob(".*")):
            self._remove(path)
        for path in sorted((self.folder / "clips").iterdir(), key=_touched):
            title = self._owners.title(path.name)
            try:
                if title is None:
                    raise VideoError("it had not arrived")
                self._clips[path.name] = Clip(path.name, title, path, inspect_video(path, self.room.film))
            except (VideoError, OSError):
                self._remove(path)
        self.tidy()

    # -- clips

    def place(self) -> Path:
        """A new file to write an arriving video to, after making room.

        Raises:
            VideoError: the disk is full.
        """
        self.tidy()
        if shutil.disk_usage(self.folder).free < 2 * self.room.film.bytes:
            raise VideoError("there is not enough space on the disk of the studio; delete something there")
        return self.folder / "clips" / secrets.token_hex(8)

    def take(self, path: Path, title: str, user: str = "") -> Clip:
        """Look at a video that arrived at a :meth:`place`, and keep or remove it.

        Raises:
            VideoError: why it is not taken, in words that name it as the person does.
            FolderError: whose it is cannot be written down.
        """
        title = clean_title(title)
        try:
            info = inspect_video(path, self.room.film)
        except VideoError as error:
            path.unlink(missing_ok=True)
            raise VideoError(str(error).replace(str(path), title)) from error
        except OSError as error:
            path.unlink(missing_ok=True)
            raise VideoError(f"{title}: cannot be read ({error.strerror})") from error
        clip = Clip(path.name, title, path, info)
        self._owners.note(clip.key, user, title)
        with self._lock:
            self._clips[clip.key] = clip
        self.tidy()
        return clip

    def clip(self, key: Any, user: str = "") -> Clip:
        """A clip by its key.

        Raises:
            FolderError: there is none, or it is somebody else's.
        """
        clip = self._clips.get(key) if isinstance(key, str) else None
        if clip is None or not self.owns(clip.key, user) or not clip.path.is_file():
            raise FolderError("this video is not here any more; upload it again")
        return clip

    def newest(self, user: str = "") -> Clip | None:
        """The clip of this user that came last."""
        with self._lock:
            return next((clip for clip in reversed(self._clips.values()) if self.owns(clip.key, user)), None)

    def preview(self, clip: Clip, frame: int) -> str:
        """One frame as a picture inside an address (``data:``), small enough to send.

        Raises:
            VideoError: damaged there.
        """
        frame = min(max(frame, 0), clip.info.frames - 1)
        try:
            picture = Image.fromarray(
                read_video(clip.path, first=frame, last=frame + 1, conversion=CONVERSION).frames[0]
            )
        except VideoError as error:
            raise VideoError(str(error).replace(str(clip.path), clip.title)) from error
        if picture.width > PREVIEW_WIDTH:
            height = max(1, round(picture.height * PREVIEW_WIDTH / picture.width))
            picture = picture.resize((PREVIEW_WIDTH, height))
        kept = io.BytesIO()
        picture.save(kept, "WEBP", quality=80, method=0)
        return "data:image/webp;base64," + base64.b64encode(kept.getvalue()).decode()

    def part(self, data: Mapping[str, Any], user: str = "", scale: int = 4) -> dict[str, Any]:
        """Frames and region that somebody chose, checked against the clip and the room.

        Args:
            data: ``{"frames": [first, last], "region": [top, left, height, width], "truth": whether it is the high
                resolution, ...}``.
            user: whose clip it must be.
            scale: how much is enlarged.

        Raises:
            ConfigError: not inside the clip, too much, or too little.
        """
        clip, room = self.clip(data.get("clip"), user), self.room
        first, last = _whole(data.get("frames"), 2, "frames")
        top, left, height, width = _whole(data.get("region"), 4, "region")
        truth = data.get("truth")
        if not isinstance(truth, bool):
            raise ConfigError("say whether this is the high resolution or the low-resolution input")
        if not 0 <= first < last <= clip.info.frames:
            raise ConfigError(f"frames: want some of 0 to {clip.info.frames}, got {first} to {last}")
        if last - first > room.frames:
            raise ConfigError(f"frames: up to {room.frames} at a time, got {last - first}; choose a shorter part")
        inside = 0 <= top <= top + height <= clip.info.height and 0 <= left <= left + width <= clip.info.width
        least = room.side * (scale if truth else 1)
        if not inside or height < least or width < least:
            raise ConfigError(
                f"region: want a part of {clip.info.width}x{clip.info.height}, {least} pixels to a side or more, got "
                f"{width}x{height} at column {left}, row {top}"
            )
        enlarged = width * height * (1 if truth else scale * scale)
        if enlarged > room.pixels:
            raise ConfigError(
                f"region: {width}x{height} would become {enlarged / 1e6:.2f} million pixels a frame; there is room for "
                f"{room.pixels / 1e6:.2f}: choose a smaller one"
            )
        return {
            "file": str(clip.path), "title": clip.title, "frames": [first, last], "region": [top, left, height, width],
            "truth": truth,
        }  # fmt: skip

    # -- scenes

    def new_scene(self, user: str = "") -> Path:
        """Where the next scene shall be; whose it will be is written down before it is there.

        Raises:
            FolderError: it cannot be written.
        """
        path = self.scenes / f"video-{secrets.token_hex(4)}"
        self._owners.note(path.name, user)
        return path

    def owns(self, name: str, user: str) -> bool:
        """Whether a clip or a scene is this user's."""
        return self._owners.owns(name, user)

    def scene(self, name: Any, user: str = "") -> Scene:
        """A scene of a video by its name.

        Raises:
            FolderError: there is none, or it is somebody else's.
        """
        if not isinstance(name, str) or not self.owns(name, user) or name not in list_scenes(self.scenes):
            raise FolderError("this result is not here any more; refresh the page")
        return read_scene(self.scenes / name)

    def results(self, user: str = "") -> list[Scene]:
        """The scenes of this user's videos, the newest first."""
        found, mine = [], [name for name in list_scenes(self.scenes) if self.owns(name, user)]
        for name in sorted(mine, key=lambda n: _touched(self.scenes / n), reverse=True):
            try:
                found.append(read_scene(self.scenes / name))
            except FolderError:
                continue
        return found

    def delete(self, name: Any, user: str = "") -> None:
        """Remove a scene of this user's."""
        self._remove(self.scene(name, user).folder)

    @property
    def keeps(self) -> bool:
        """Whether a scene can be kept."""
        return self.lasts or self._shelf is not None

    def kept(self, name: str) -> bool:
        """Whether a scene was kept: it stays until somebody deletes it."""
        if self.lasts:
            return self._owners.kept(name)
        return self._shelf is not None and (self._shelf / name).is_dir()

    def keep(self, name: Any, user: str = "") -> None:
        """Keep a scene of this user's beyond the studio's end: here where the desk lasts, else as a copy on the shelf.

        Raises:
            FolderError: there is none, it is somebody else's, there are too many, or it cannot be written.
        """
        scene = self.scene(name, user)
        if self.kept(scene.name):
            return
        if self.lasts:
            mine = [one for one in list_scenes(self.scenes) if self.owns(one, user) and self.kept(one)]
            if len(mine) >= self.room.kept:
                raise FolderError(f"{len(mine)} results are kept already, which is all there is room for; delete one")
            self._owners.keep(scene.name)
        elif self._shelf is None:
            raise FolderError("this studio has no folder to keep results in; take the frames home instead")
        else:
            half = self._shelf / f".{scene.name}"
            try:
                self._shelf.mkdir(parents=True, exist_ok=True)
                shutil.copytree(scene.folder, half, dirs_exist_ok=True)
                half.rename(self._shelf / scene.name)
            except OSError as error:
                shutil.rmtree(half, ignore_errors=True)
                raise FolderError(f"the result cannot be kept ({error.strerror}); make room on the disk") from error

    # -- room

    def tidy(self, *, working: bool = True) -> None:
        """Remove what is too old or too much; with ``working`` off also what a cancelled job left half made."""
        wanted = set(self._wanted())
        with self._lock:
            now = time.time()
            arrived = sorted((self.folder / "clips").iterdir(), key=_touched)
            made = [name for name in list_scenes(self.scenes) if not (self.lasts and self.kept(name))]
            scenes = sorted((self.scenes / name for name in made), key=_touched)
            held = [path for path in arrived if str(path) in wanted]
            arrived = [path for path in arrived if path not in held]
            known = [path for path in arrived if path.name in self._clips]
            doomed = [path for path in arrived + scenes if now - _touched(path) > self.room.seconds]
            doomed += known[: max(0, len(known) - self.room.clips)] + scenes[: max(0, len(scenes) - self.room.scenes)]
            if not working:
                doomed += [path for path in self.scenes.iterdir() if path.name.startswith(".")]
            for path in doomed:
                self._remove(path)
            left = sorted((path for path in known + scenes if path.exists()), key=_touched)
            for key in self._owners.left():
                if not any((self.folder / kind / key).exists() for kind in ("clips", "scenes")):
                    self._owners.forget(key)
            total = sum(map(size_of, left + held))
            while total > self.room.bytes and len(left) > 1:
                total -= size_of(left[0])
                self._remove(left.pop(0))

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            self._clips.pop(path.name, None)
        self._owners.forget(path.name)

    def close(self) -> None:
        """Remove the folder, unless it lasts."""
        self._alive.release()
        if not self.lasts:
            shutil.rmtree(self.folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove folders that studios left behind which were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        about = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or not _is_mine(about) or not (folder / "alive").exists():
            continue
        lock = FileLock(folder / "alive")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _is_mine(about: os.stat_result) -> bool:
    """Return whether a file is this user's; on Windows every user has a folder for temporary files."""
    return not hasattr(os, "getuid") or about.st_uid == os.getuid()


def clean_title(name: str) -> str:
    """The last part of a file's name as people may see it: printable, and not long.

    Example:
        >>> clean_title("../../etc/holiday.mp4"), clean_title("")
        ('holiday.mp4', 'video')
    """
    last = re.split(r"[/\\]", str(name))[-1]
    kept = "".join(letter for letter in last if letter.isprintable()).strip()
    return (kept if len(kept) <= 80 else f"{kept[:60]}…{kept[-16:]}") or "video"


def size_of(path: Path) -> int:
    """Bytes of a file or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _whole(values: Any, count: int, name: str) -> list[int]:
    fits = isinstance(values, list) and len(values) == count
    if not fits or any(type(value) is not int or abs(value) > 10**9 for value in values):
        raise ConfigError(f"{name}: want {count} whole numbers, got {str(values)[:60]!r}")
    return values
