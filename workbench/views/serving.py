"""What of the folders on disk a browser may fetch: lossless pictures of whole scenes, and nothing else.

An address is ``lens/<kind>/<root>/<name>[/probe | /snapshots/<step>]/<token>/frames/<method>/00000.webp``. The token
changes when ``scene.json`` does, so a picture may be kept by the browser for ever. Weights, states, logs and everything
outside the given folders have no address; allowed paths of Gradio are not used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from workbench.errors import FolderError
from workbench.scenes import NAME

PREFIX = "lens"
_NAME = NAME.pattern
_ADDRESS = re.compile(
    rf"(?P<kind>scene|run)/(?P<root>\d{{1,3}})/(?P<name>{_NAME})(?:/(?P<part>probe|snapshots/\d{{7}}))?"
    rf"/(?P<token>[0-9a-f]{{1,16}})/(?P<file>(?:frames/{_NAME}|overlays/{_NAME}/{_NAME})/\d{{5}}\.webp)"
)


class Gallery:
    """The folders that are on show, and the addresses of their pictures.

    Args:
        runs: folders that hold runs.
        scenes: folders that hold scenes.
    """

    def __init__(self, *, runs: Sequence[Path], scenes: Sequence[Path]) -> None:
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

    def find(self, address: str) -> Path:
        """The picture that an address names.

        Raises:
            FolderError: no such picture, or not one that may be seen.
            StaleError: the scene was rewritten since the address was made.
        """
        match = _ADDRESS.fullmatch(address)
        roots = self.roots[match["kind"]] if match else ()
        if not match or int(match["root"]) >= len(roots) or (match["kind"] == "run") != bool(match["part"]):
            raise FolderError("no picture has this address")
        top = (roots[int(match["root"])] / match["name"]).resolve()
        home = top / match["part"] if match["part"] else top
        path = (home / match["file"]).resolve()
        if not path.is_relative_to(top) or not path.is_file() or not (home / "scene.json").is_file():
            raise FolderError("no picture has this address")
        if token(home) != match["token"]:
            raise StaleError("the scene was rewritten since this address was made")
        return path

    def route(self) -> Route:
        """A read-only route for the web server; it asks for the same login as the pages do."""

        async def picture(request: Request) -> Response:
            if not _signed_in(request):
                return PlainTextResponse("log in first", status_code=401)
            try:
                path = self.find(request.path_params["address"])
            except StaleError as error:
                return PlainTextResponse(str(error), status_code=410)
            except (FolderError, OSError) as error:
                return PlainTextResponse(str(error) if isinstance(error, FolderError) else "no", status_code=404)
            headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
            return FileResponse(path, media_type="image/webp", headers=headers)

        return Route(f"/{PREFIX}/{{address:path}}", picture, methods=["GET"])


class StaleError(FolderError):
    """An address of a scene as it was."""


def token(home: Path) -> str:
    """A word that changes when the scene in ``home`` is rewritten."""
    try:
        return f"{(home / 'scene.json').stat().st_mtime_ns:x}"
    except FileNotFoundError as error:
        raise FolderError(f"{home.name}: no scene.json here") from error


def _signed_in(request: Request) -> bool:
    """What Gradio asks of its own routes where a login is set; see ``login_check`` in ``gradio.routes``."""
    app: Any = request.app
    if getattr(app, "auth", None) is None and getattr(app, "auth_dependency", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names if request.cookies.get(name))
