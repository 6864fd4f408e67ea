"""Parts that all pages use: heading, settings of events, error messages, and components with scripts of their own."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.routing import Route

from workbench.errors import WorkbenchError
from workbench.views.lens import read as read_lens
from workbench.views.lens.gradio_lens import scripted
from workbench.views.lens.linker import bundle_modules
from workbench.views.studio.folders import Studio
from workbench.views.studio.sessions import BrowserSessions
from workbench.views.studio.upload_store import UploadStore

logger = logging.getLogger(__name__)

LIVE_SECONDS, QUIET_SECONDS = 1.0, 5.0
IMMEDIATE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Settings of the events of timers, sliders and page loads: processed at once, and not part of the public API.
Gradio shows no message (:func:`toast`, :func:`toast_error`) of an event outside of its queue."""

ACTION: dict[str, Any] = IMMEDIATE | {"queue": True, "concurrency_limit": None}
"""Settings of the events of buttons, which may show a message: queued, and processed in parallel."""

QUEUE_POLL_SECONDS = 0.2
"""Poll interval of Gradio's event queue, and so the longest delay of an :data:`ACTION`. The defaults, 1 and 10 ms, take
several percent of a core with no page open."""

INVALID_REQUEST = "The studio could not read this request; reload the page and try again."
INTERNAL_ERROR = "The studio had an internal error; its terminal shows the details."


class Pages(gr.Blocks):
    """Blocks that report every error as a message, never as a traceback.

    Attributes:
        studio: runs and scenes of the pages.
        store: uploads and results.
        sessions: browser sessions.
        routes: further routes of the server.
    """

    studio: Studio
    store: UploadStore
    sessions: BrowserSessions
    routes: list[Route]

    def own(self, routes: list[Route], on_close: list[Callable[[], None]]) -> None:
        """Take the routes, and the functions that close the objects behind the pages."""
        self.routes, self._on_close = routes, on_close
        self._queue.sleep_when_free = self._queue.progress_update_sleep_when_free = QUEUE_POLL_SECONDS
        atexit.register(self.release)

    def release(self) -> None:
        """Close the objects behind the pages."""
        atexit.unregister(self.release)
        while self._on_close:
            self._on_close.pop(0)()

    def close(self, verbose: bool = True) -> None:
        """Stop the server."""
        super().close(verbose)
        self.release()

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Convert the values of a request; values of wrong types do not come from the pages and are refused."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            raise toast_error(str(error.message)) from error
        except Exception as error:  # a component of Gradio can raise anything for invalid JSON
            logger.info("request refused: %s: %s", type(error).__name__, error)
            raise toast_error(INVALID_REQUEST) from error

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Process an event."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except WorkbenchError as error:
            raise toast_error(str(error)) from error
        except Exception as error:
            logger.exception("an event failed")
            raise toast_error(INTERNAL_ERROR) from error


def toast_error(message: str) -> gr.Error:
    """Return an error that is shown as a toast; markup in the message is escaped."""
    return gr.Error(escape(message, quote=False), print_exception=False)


def toast(message: str) -> None:
    """Show a message as a toast; markup in the message is escaped."""
    gr.Info(escape(message, quote=False))


def page_heading(title: str, text: str) -> None:
    """Add the heading of a page and its description."""
    gr.HTML(_heading(title, text), js_on_load=None, elem_classes="page-head")


def heading_with_tour(title: str, text: str) -> None:
    """Add the heading of a page, its description, and the tour of the page Compare (``tour.js``)."""
    here = Path(__file__).parent
    html = f'{_heading(title, text)}<div class="tour" aria-live="polite"></div>'
    css, script = (here / "tour.css").read_text(encoding="utf-8"), bundle_modules(here / "tour.js")
    scripted({}, html, css, script + "mountTour(element);", elem_classes="page-head")


def _heading(title: str, text: str) -> str:
    return f"<h1>{escape(title)}</h1><p>{escape(text)}</p>"


def component(name: str, value: Mapping[str, Any], *, elem_id: str) -> gr.HTML:
    """Add a component with a script: ``NAME.js`` with ``parts.js`` and ``parts.css`` of this folder."""
    here = Path(__file__).parent
    css = read_lens("lens.css", "progress.css") + (here / "parts.css").read_text(encoding="utf-8")
    script = bundle_modules(here / "parts.js", here / f"{name}.js")
    return scripted(value, '<section class="progress part"></section>', css, script, elem_id=elem_id)


def event_data(event: gr.EventData) -> dict[str, Any]:
    """Return the data of an event of a :func:`component`; empty where it is no JSON object."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
