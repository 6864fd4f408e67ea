"""The two routes of the page Your video: a film comes in, results go out. Both ask for the login of the pages."""

from __future__ import annotations

import errno
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from workbench.views.facts import scores_json
from workbench.views.serving import user_of
from workbench.views.studio.desk import Desk

HANG_UP = {"Connection": "close"}
"""With a refusal: otherwise the server would go on reading, and throwing away, for as long as somebody sends."""


def routes(desk: Desk) -> list[Route]:
    """``POST clips`` and ``GET results/NAME/WHAT``."""
    making = threading.Lock()  # one film or archive at a time is made to be taken home

    async def arrive(request: Request) -> Response:
        user = user_of(request)
        if user is None:
            return JSONResponse({"message": "log in first"}, status_code=401, headers=HANG_UP)
        path: Path | None = None
        try:
            most, size = desk.room.film.bytes, 0
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > most:
                raise VideoError(
                    f"{int(length[:20]) / 1e6:.0f} MB; up to {most / 1e6:.0f} MB are taken, send a part of it"
                )
            path = desk.place()
            with path.open("xb") as file:
                async for piece in request.stream():
                    size += len(piece)
                    if size > most:
                        raise VideoError(f"more than {most / 1e6:.0f} MB; send a part of it")
                    file.write(piece)
            title = unquote(request.headers.get("x-name", "")[:1000], errors="replace")
            clip = await anyio.to_thread.run_sync(desk.take, path, title, user)
        except (WorkbenchError, ClientDisconnect, OSError) as error:
            if path is not None:
                path.unlink(missing_ok=True)
            words = str(error) if isinstance(error, WorkbenchError) else "the upload broke off; try again"
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                words = "the disk of the studio is full; delete something there, then try again"
            return JSONResponse({"message": words}, status_code=400, headers=HANG_UP)
        return JSONResponse({"clip": clip.key})

    def made(name: str, what: str, user: str) -> tuple[Path, str]:
        scene = desk.scene(name, user)
        stem, _, ending = what.rpartition(".")
        path = desk.folder / "made" / f"{token_hex(8)}.{ending}"
        with making, _removed_on_error(path):
            if what == "scores.json":
                path.write_text(scores_json(scene), encoding="utf-8")
            elif what == "frames.zip":
                _zip(scene, path)
            elif ending == "mp4" and stem in [method.key for method in scene.methods]:
                aspect, variable = scene.pixel_aspect, bool(scene.times_seconds)
                with VideoWriter(path, fps=scene.fps, pixel_aspect=aspect, variable=variable) as writer:
                    for index in range(scene.frames):
                        writer.write(scene.frame(stem, index), *scene.timing(index))
            else:
                raise FolderError("there is nothing of this name to take")
        return path, f"{name}-{what}"

    async def take(request: Request) -> Response:
        user = user_of(request)
        if user is None:
            return PlainTextResponse("log in first", status_code=401)
        name, what = request.path_params["name"], request.path_params["what"]
        try:
            path, called = await anyio.to_thread.run_sync(made, name, what, user)
        except WorkbenchError as error:
            return PlainTextResponse(str(error), status_code=404)
        except OSError as error:
            return PlainTextResponse(f"it could not be made: {error.strerror}", status_code=507)
        return FileResponse(path, filename=called, background=BackgroundTask(_remove, path))

    return [
        Route("/clips", arrive, methods=["POST"]),
        Route("/results/{name}/{what}", take, methods=["GET"]),
    ]


def _zip(scene: Scene, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for method in scene.methods:
            for index in range(scene.frames):
                archive.write(scene.frame_path(method.key, index), f"{method.key}/{index:05d}.webp")


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
