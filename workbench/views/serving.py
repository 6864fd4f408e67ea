"""Files that a browser may fetch: lossless images and clips of scenes.

Image: ``lens/<kind>/<root>/<name>[/validation_clip | /snapshots/<step>]/<token>/frames/<method>/00000.webp``. The token
changes with ``scene.json``, so a browser may cache images forever. Clip: ``.../clips/<method>+<method>.webm``, written
on request, one at a time. Weights, checkpoints, logs and files outside the given folders have no URL; Gradio's
allowed paths are not used.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from workbench.data.video.write import VideoWriter
from workbench.errors import FolderError, WorkbenchError
from workbench.runs import Run
from workbench.scenes import NAME, Scene, read_scene

PREFIX = "lens"
_NAME = NAME.pattern
_URL = re.compile(
    rf"(?P<kind>scene|run)/(?P<root>\d{{1,3}})/(?P<name>{_NAME})(?:/(?P<part>probe|validation_clip|snapshots/\d{{7}}))?"
    rf"/(?P<token>[0-9a-f]{{1,16}})/(?:(?P<file>(?:frames/{_NAME}|overlays/{_NAME}/{_NAME})/\d{{5}}\.webp)"
    rf"|clips/(?P<clip>{_NAME}(?:\+{_NAME}){{0,15}})\.webm)"
)
SESSION_COOKIE = "workbench-session"
_SESSION = re.compile(r"[0-9a-f]{32}")
MAX_PIXELS = 400_000_000
"""Maximum number of pixels of a clip, all frames together: about a minute of writing."""

UNKNOWN, REWRITTEN = "no file has this URL", "the scene was rewritten after this URL was made; reload it"


class _Located(NamedTuple):
    """Parts of a URL that names a file or clip, and the folders that they name."""

    match: re.Match[str]
    root: Path
    """Folder of the run or scene."""
    scene: Path
    """Folder of the images."""


class SceneFileServer:
    """Files of runs and scenes, and their URLs.

    Args:
        runs: folders that contain runs.
        scenes: folders that contain scenes.
        visible: function of a folder and a browser session: whether the session may fetch files of that run or scene.
    """

    def __init__(
        self,
        *,
        runs: Sequence[Path],
        scenes: Sequence[Path],
        visible: Callable[[Path, str], bool] = lambda folder, session: True,
    ) -> None:
        self._writing, self._visible = threading.Lock(), visible
        self.roots = {"run": tuple(Path(root) for root in runs), "scene": tuple(Path(root) for root in scenes)}

    def url(self, folder: Path) -> str:
        """Return the URL of a folder of images, ``.../frames/<method>`` or ``.../overlays/<kind>/<method>``.

        Raises:
            FolderError: it is in none of the folders of this server.
        """
        homes = [(root, kind, i) for kind, roots in self.roots.items() for i, root in enumerate(roots)]
        for root, kind, index in sorted(homes, key=lambda home: len(home[0].parts), reverse=True):  # the innermost
            if not folder.is_relative_to(root):
                continue
            name, *inside = folder.relative_to(root).parts
            start = next((i for i, part in enumerate(inside) if part in ("frames", "overlays")), len(inside))
            home = root.joinpath(name, *inside[:start])
            parts = [kind, str(index), name, *inside[:start], version_token(home), *inside[start:]]
            return f"{PREFIX}/" + "/".join(quote(part, safe="") for part in parts)
        raise FolderError(f"{folder}: not in a folder that is served; serve it with --runs or --scenes")

    def find(self, url: str, session: str = "") -> Path:
        """Return the image file at a URL.

        Raises:
            FolderError: no image that this session may fetch.
            StaleError: the scene was rewritten after the URL was made.
        """
        found = self._locate(url, session, "file")
        path = (found.scene / found.match["file"]).resolve()
        if not path.is_relative_to(found.root) or not path.is_file():
            raise FolderError(UNKNOWN)
        return path

    def clip(self, url: str, session: str = "") -> tuple[Scene, tuple[str, ...]]:
        """Return scene and methods of the clip at a URL, after checking that its images are inside the folder.

        Raises:
            FolderError: no clip that this session may fetch, or one with more than :data:`MAX_PIXELS`.
            StaleError: the scene was rewritten after the URL was made.
        """
        match, root, folder = self._locate(url, session, "clip")
        part = match["part"] or ""
        scene = Run(root).snapshot(int(part[-7:])) if part.startswith("snapshots/") else read_scene(folder)
        keys = tuple(match["clip"].split("+"))
        paths = [scene.frame_path(scene.method(key).key, i) for key in keys for i in range(scene.frames)]
        if not all(path.resolve().is_relative_to(root) and path.is_file() for path in paths):
            raise FolderError("images of this clip are missing; write the scene again")
        size = len(paths) * scene.width * scene.height
        if size > MAX_PIXELS:
            raise FolderError(
                f"clip: want at most {MAX_PIXELS / 1e6:.0f} million pixels, got {size / 1e6:.0f}; show fewer methods"
            )
        return scene, keys

    def _locate(self, url: str, session: str, kind: str) -> _Located:
        """Return the parts of the URL of a file or clip, and the folders of its run or scene and of its images."""
        match = _URL.fullmatch(url)
        roots = self.roots[match["kind"]] if match else ()
        if not match or not match[kind] or int(match["root"]) >= len(roots):
            raise FolderError(UNKNOWN)
        folder = roots[int(match["root"])] / match["name"]
        top = folder.resolve()
        home = top / (match["part"] or "")
        is_complete = (match["kind"] == "run") == bool(match["part"]) and (home / "scene.json").is_file()
        if not is_complete or not self._visible(folder, session):
            raise FolderError(UNKNOWN)
        if version_token(home) != match["token"]:
            raise StaleError(REWRITTEN)
        return _Located(match, top, home)

    def route(self) -> Route:
        """Return a read-only route for the web server; it requires the same login as the pages."""

        async def send(request: Request) -> Response:
            if not is_logged_in(request):
                return PlainTextResponse("log in first", status_code=401)
            url, session = request.path_params["url"], session_of(request)
            try:
                if url.endswith(".webm"):
                    return await run_in_threadpool(self._answer_clip, url, session)
                path = self.find(url, session)
            except StaleError as error:
                return PlainTextResponse(str(error), status_code=410)
            except (FolderError, OSError) as error:
                return PlainTextResponse(str(error) if isinstance(error, FolderError) else UNKNOWN, status_code=404)
            headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
            return FileResponse(path, media_type="image/webp", headers=headers)

        return Route(f"/{PREFIX}/{{url:path}}", send, methods=["GET"])

    def _answer_clip(self, url: str, session: str) -> Response:
        """Write a clip and return it; only one is written at a time."""
        scene, keys = self.clip(url, session)
        if not self._writing.acquire(blocking=False):
            return PlainTextResponse("another clip is being written; try again when it is done", status_code=503)
        folder = Path(tempfile.mkdtemp(prefix="workbench-clip-"))
        try:
            path = write_clip(scene, keys, folder / "clip.webm")
        except (WorkbenchError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return PlainTextResponse(
                str(error) if isinstance(error, WorkbenchError) else "the clip could not be written", status_code=500
            )
        finally:
            self._writing.release()
        done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(path, media_type="video/webm", headers={"Cache-Control": "no-store"}, background=done)


def write_clip(scene: Scene, methods: Sequence[str], path: Path) -> Path:
    """Write the frames of some methods, side by side, to a lossless ``.webm``.

    Args:
        scene: the scene.
        methods: keys of the methods, from left to right; smaller frames (``low``) are enlarged by repeating pixels.
        path: the file; its folder must exist.
    """
    with VideoWriter(path, fps=scene.fps) as writer:
        for index in range(scene.frames):
            frame = np.concatenate([_enlarge(scene, key, index) for key in methods], axis=1)
            writer.write(frame, *scene.timing(index))
    return path


def _enlarge(scene: Scene, method: str, index: int) -> np.ndarray:
    image = Image.fromarray(scene.frame(method, index))
    return np.asarray(image.resize((scene.width, scene.height), Image.Resampling.NEAREST))


class StaleError(FolderError):
    """URL of a scene that was rewritten."""


def version_token(home: Path) -> str:
    """Return a token that changes when the scene in ``home`` is rewritten."""
    try:
        return f"{(home / 'scene.json').stat().st_mtime_ns:x}"
    except FileNotFoundError as error:
        raise FolderError(f"{home.name}: want a scene.json, got none") from error


def session_of(request: Any) -> str:
    """Return the browser session of a request, from the cookie that the studio sets; empty without a valid cookie.

    Args:
        request: a request of Starlette or Gradio.
    """
    token = request.cookies.get(SESSION_COOKIE) or ""
    return token if _SESSION.fullmatch(token) else ""


def is_logged_in(request: Request) -> bool:
    """Return whether no login is required, or the cookie of Gradio's login is valid.

    See ``get_current_user`` in ``gradio.routes``.
    """
    app: Any = request.app
    if getattr(app, "auth", None) is None and getattr(app, "auth_dependency", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.tokens.get(next(filter(None, map(request.cookies.get, names)), None)) is not None
