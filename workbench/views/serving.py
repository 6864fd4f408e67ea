"""What of the folders on disk a browser may fetch: lossless pictures and clips of whole scenes, and nothing else.

A picture: ``lens/<kind>/<root>/<name>[/validation_clip | /snapshots/<step>]/<token>/frames/<method>/00000.webp``. The
token changes when ``scene.json`` does, so a picture may be kept by the browser for ever. A clip, written when it is
asked for, one at a time: ``.../clips/<method>+<method>.webm``. Weights, states, logs and everything outside the given
folders have no address; allowed paths of Gradio are not used.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
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
_ADDRESS = re.compile(
    rf"(?P<kind>scene|run)/(?P<root>\d{{1,3}})/(?P<name>{_NAME})(?:/(?P<part>probe|validation_clip|snapshots/\d{{7}}))?"
    rf"/(?P<token>[0-9a-f]{{1,16}})/(?:(?P<file>(?:frames/{_NAME}|overlays/{_NAME}/{_NAME})/\d{{5}}\.webp)"
    rf"|clips/(?P<clip>{_NAME}(?:\+{_NAME}){{0,15}})\.webm)"
)
SESSION_COOKIE = "workbench-session"
_SESSION = re.compile(r"[0-9a-f]{32}")
MOST_PIXELS = 400_000_000
"""Of a clip, all its frames together: about a minute of writing."""


class SceneFileServer:
    """The folders that are on show, and the addresses of their pictures.

    Args:
        runs: folders that hold runs.
        scenes: folders that hold scenes.
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

    def address(self, folder: Path) -> str:
        """The address of a folder of numbered pictures, ``.../frames/<method>`` or ``.../overlays/<kind>/<method>``.

        Raises:
            FolderError: it lies in none of the folders on show.
        """
        homes = [(root, kind, i) for kind, roots in self.roots.items() for i, root in enumerate(roots)]
        for root, kind, index in sorted(homes, key=lambda home: len(home[0].parts), reverse=True):  # the innermost
            if not folder.is_relative_to(root):
                continue
            name, *inside = folder.relative_to(root).parts
            start = next((i for i, part in enumerate(inside) if part in ("frames", "overlays")), len(inside))
            home = root.joinpath(name, *inside[:start])
            parts = [kind, str(index), name, *inside[:start], token(home), *inside[start:]]
            return f"{PREFIX}/" + "/".join(quote(part, safe="") for part in parts)
        raise FolderError(f"{folder}: not in a folder that is on show")

    def find(self, address: str, session: str = "") -> Path:
        """The picture that an address names.

        Raises:
            FolderError: no such picture, or not one that may be seen.
            StaleError: the scene was rewritten since the address was made.
        """
        match, top, home = self._home(address, session)
        path = (home / (match["file"] or "")).resolve()
        if not match["file"] or not path.is_relative_to(top) or not path.is_file():
            raise FolderError("no picture has this address")
        if token(home) != match["token"]:
            raise StaleError("the scene was rewritten since this address was made")
        return path

    def clip(self, address: str, session: str = "") -> tuple[Scene, tuple[str, ...]]:
        """The scene and the methods of the clip that an address names; every picture lies inside the scene or run.

        Raises:
            FolderError: no such clip, or more than :data:`MOST_PIXELS`.
            StaleError: the scene was rewritten since the address was made.
        """
        match, top, home = self._home(address, session)
        if not match["clip"]:
            raise FolderError("no clip has this address")
        if token(home) != match["token"]:
            raise StaleError("the scene was rewritten since this address was made")
        part = match["part"] or ""
        scene = Run(top).snapshot(int(part[-7:])) if part.startswith("snapshots/") else read_scene(home)
        keys = tuple(match["clip"].split("+"))
        paths = [scene.frame_path(scene.method(key).key, i) for key in keys for i in range(scene.frames)]
        if not all(path.resolve().is_relative_to(top) and path.is_file() for path in paths):
            raise FolderError("pictures of this clip are missing")
        size = len(paths) * scene.width * scene.height
        if size > MOST_PIXELS:
            raise FolderError(f"{size / 1e6:.0f} million pixels are too many for a clip; show fewer methods")
        return scene, keys

    def _home(self, address: str, session: str) -> tuple[re.Match[str], Path, Path]:
        """What an address says, the scene or run that it lies in, and the folder with its ``scene.json``."""
        match = _ADDRESS.fullmatch(address)
        roots = self.roots[match["kind"]] if match else ()
        if not match or int(match["root"]) >= len(roots) or (match["kind"] == "run") != bool(match["part"]):
            raise FolderError("no picture has this address")
        folder = roots[int(match["root"])] / match["name"]
        if not self._visible(folder, session):
            raise FolderError("no picture has this address")
        top = folder.resolve()
        home = top / match["part"] if match["part"] else top
        if not (home / "scene.json").is_file():
            raise FolderError("no picture has this address")
        return match, top, home

    def route(self) -> Route:
        """A read-only route for the web server; it asks for the same login as the pages do."""

        async def picture(request: Request) -> Response:
            if not is_logged_in(request):
                return PlainTextResponse("log in first", status_code=401)
            address, session = request.path_params["address"], session_of(request)
            try:
                if address.endswith(".webm"):
                    return await run_in_threadpool(self._answer_clip, address, session)
                path = self.find(address, session)
            except StaleError as error:
                return PlainTextResponse(str(error), status_code=410)
            except (FolderError, OSError) as error:
                return PlainTextResponse(str(error) if isinstance(error, FolderError) else "no", status_code=404)
            headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
            return FileResponse(path, media_type="image/webp", headers=headers)

        return Route(f"/{PREFIX}/{{address:path}}", picture, methods=["GET"])

    def _answer_clip(self, address: str, session: str) -> Response:
        """A clip, written now; while one is being written, others are asked to come again."""
        scene, keys = self.clip(address, session)
        if not self._writing.acquire(blocking=False):
            return PlainTextResponse("another clip is being written; try again when it is done", status_code=503)
        folder = Path(tempfile.mkdtemp(prefix="workbench-clip-"))
        try:
            path = write_clip(scene, keys, folder / "clip.webm")
        except (WorkbenchError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return PlainTextResponse(str(error) if isinstance(error, WorkbenchError) else "no", status_code=500)
        finally:
            self._writing.release()
        done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(path, media_type="video/webm", headers={"Cache-Control": "no-store"}, background=done)


def write_clip(scene: Scene, methods: Sequence[str], path: Path) -> Path:
    """Write the pictures of some methods, side by side and pixel by pixel as they are, to a lossless ``.webm``.

    Args:
        scene: whose pictures.
        methods: from left to right; a smaller picture (``low``) is enlarged pixel by pixel.
        path: where; its folder must exist.
    """
    with VideoWriter(path, fps=scene.fps) as writer:
        for index in range(scene.frames):
            frame = np.concatenate([_whole(scene, key, index) for key in methods], axis=1)
            writer.write(frame, *scene.timing(index))
    return path


def _whole(scene: Scene, method: str, index: int) -> np.ndarray:
    picture = scene.frame(method, index)
    rows = np.arange(scene.height) * len(picture) // scene.height
    columns = np.arange(scene.width) * picture.shape[1] // scene.width
    return picture[rows][:, columns]


class StaleError(FolderError):
    """An address of a scene as it was."""


def token(home: Path) -> str:
    """A word that changes when the scene in ``home`` is rewritten."""
    try:
        return f"{(home / 'scene.json').stat().st_mtime_ns:x}"
    except FileNotFoundError as error:
        raise FolderError(f"{home.name}: no scene.json here") from error


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
