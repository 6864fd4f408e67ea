"""Visitors of a served studio: HTTP clients with a cookie jar of their own, as browsers have."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from workbench.runs import create_run
from workbench.views.serving import session_of
from workbench.views.studio import Services
from workbench.views.studio.page import Pages


def make_services(**changes: Any) -> Services:
    """Return services of a studio that has no networks."""
    simple: dict[str, Any] = {
        "start": lambda: "a run", "prepare": create_run, "names": dict, "command": lambda kind: ["true"],
        "methods": lambda: {"bicubic": "Bicubic"},
    }  # fmt: skip
    return Services(**simple | changes)


class Visitor:
    """A browser with one open page.

    Args:
        app: the served studio.
        url: its address.
        login: user and password, where the studio requires them.
    """

    def __init__(self, app: Pages, url: str, login: tuple[str, str] | None = None) -> None:
        self.app, self.url, self.session_hash = app, url, secrets.token_hex(5)
        self.client = httpx.Client(base_url=url, timeout=60)
        if login:
            answer = self.client.post("login", data={"username": login[0], "password": login[1]})
            assert answer.status_code == 200
        assert self.client.get("video").status_code == 200
        self.send("open_page")

    @property
    def session(self) -> str:
        """Value of the session cookie."""
        return session_of(self.client)

    def send(self, handler: str, data: list[Any] | None = None, event: Any = None) -> dict[str, Any]:
        """Send an event, and return the answer; the qualified name of the handler ends with ``handler``."""
        names = {index: getattr(one.fn, "__qualname__", "") for index, one in self.app.fns.items()}
        index = next(index for index, name in names.items() if name.endswith(handler))
        body = {"fn_index": index, "data": data or [], "event_data": event, "session_hash": self.session_hash}
        return self.client.post("gradio_api/run/predict", json=body).json()

    def act(self, action: str, **event: Any) -> dict[str, Any]:
        """Send an event of the page Your video, and return its new value."""
        return self.send(action, event=event)["data"][0]

    def page(self) -> dict[str, Any]:
        """Return the value of the page Your video."""
        return self.send("video_page.<locals>.load")["data"][0]

    def scenes(self) -> list[str]:
        """Return the choices of the page Compare."""
        return [value for _, value in self.send("compare_page.<locals>.load", [None])["data"][0]["choices"]]

    def status(self, path: str) -> int:
        """Return the status code of a GET request."""
        return self.client.get(path).status_code

    def upload(self, content: bytes, name: str = "video.mp4") -> httpx.Response:
        """Upload a file."""
        return self.client.post("uploads", content=content, headers={"x-name": name})

    def leave(self) -> None:
        """Close the page: the connection that Gradio's pages hold while they are open."""
        with self.client.stream("GET", f"gradio_api/heartbeat/{self.session_hash}") as heartbeat:
            next(heartbeat.iter_text())


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def image_address(app: Pages, scene: str) -> str:
    """Return the address of the first low-resolution frame of a result."""
    folder: Path = app.store.scenes / scene
    return f"{app.studio.files.url(folder / 'frames' / 'low')}/00000.webp"
