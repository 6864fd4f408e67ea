"""Routes of the page Your video: ``POST uploads``, and ``GET results/NAME/FILE``. Both check login and session."""

from __future__ import annotations

import errno
import threading
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote

import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from workbench.data.video.write import VideoWriter
from workbench.errors import FolderError, VideoError, WorkbenchError
from workbench.scenes import Scene
from workbench.views.scene_tables import scores_json
from workbench.views.serving import is_logged_in, session_of
from workbench.views.studio.upload_store import UploadStore

CLOSE = {"Connection": "close"}
"""Header of a refusal: without it the server reads, and discards, the rest of the request."""


def upload_routes(store: UploadStore, is_open: Callable[[str], bool]) -> list[Route]:
    """Return the routes.

    Args:
        store: uploads and results.
        is_open: function that returns whether a browser session is open; only open sessions may upload.
    """
    exporting = threading.Lock()  # one file at a time is written for download

    async def receive(request: Request) -> Response:
        session = session_of(request)
        if not is_logged_in(request):
            return JSONResponse({"message": "log in first"}, status_code=401, headers=CLOSE)
        if not is_open(session):
            return JSONResponse({"message": "reload the page, then try again"}, status_code=403, headers=CLOSE)
        path: Path | None = None
        try:
            limit, size = store.quota.file.bytes, 0
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > limit:
                raise VideoError(f"file: want at most {limit / 1e6:.0f} MB, got {int(length[:20]) / 1e6:.0f} MB")
            path = store.new_file()
            with path.open("xb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise VideoError(f"file: want at most {limit / 1e6:.0f} MB, got more; upload a part of it")
                    file.write(chunk)
            title = unquote(request.headers.get("x-name", "")[:1000], errors="replace")
            upload = await anyio.to_thread.run_sync(store.add, path, title, session)
        except (WorkbenchError, ClientDisconnect, OSError) as error:
            if path is not None:
                path.unlink(missing_ok=True)
            message = str(error) if isinstance(error, WorkbenchError) else "the upload was interrupted; try again"
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                message = "the disk of the studio is full; delete something there, then try again"
            return JSONResponse({"message": message}, status_code=400, headers=CLOSE)
        return JSONResponse({"upload": upload.key})

    def export(name: str, file: str, session: str) -> Path:
        scene = store.result(name, session)
        stem, _, suffix = file.rpartition(".")
        path = store.exports / f"{token_hex(8)}.{suffix}"
        with exporting, ExitStack() as on_error:
            on_error.callback(path.unlink, missing_ok=True)
            if file == "scores.json":
                path.write_text(scores_json(scene), encoding="utf-8")
            elif file == "frames.zip":
                _zip(scene, path)
            elif suffix == "mp4" and stem in [method.key for method in scene.methods]:
                aspect, variable = scene.pixel_aspect, bool(scene.times_seconds)
                with VideoWriter(path, fps=scene.fps, pixel_aspect=aspect, variable=variable) as writer:
                    for index in range(scene.frames):
                        writer.write(scene.frame(stem, index), *scene.timing(index))
            else:
                raise FolderError(f"file: want scores.json, frames.zip or METHOD.mp4, got {file[:80]!r}")
            on_error.pop_all()
        return path

    async def send(request: Request) -> Response:
        if not is_logged_in(request):
            return PlainTextResponse("log in first", status_code=401)
        name, file = request.path_params["name"], request.path_params["file"]
        try:
            path = await anyio.to_thread.run_sync(export, name, file, session_of(request))
        except WorkbenchError as error:
            return PlainTextResponse(str(error), status_code=404)
        except OSError as error:
            return PlainTextResponse(f"the file cannot be written: {error.strerror}", status_code=507)
        deletion = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, filename=f"{name}-{file}", background=deletion)

    return [
        Route("/uploads", receive, methods=["POST"]),
        Route("/results/{name}/{file}", send, methods=["GET"]),
    ]


def _zip(scene: Scene, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for method in scene.methods:
            for index in range(scene.frames):
                archive.write(scene.frame_path(method.key, index), f"{method.key}/{index:05d}.webp")
