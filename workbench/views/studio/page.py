"""What the pages have in common: their head, how their events answer, and components of our own."""

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
from workbench.views.studio.folders import Studio

logger = logging.getLogger(__name__)

LIVE_SECONDS, QUIET_SECONDS = 1.0, 5.0
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How every event of the studio is bound: answered at once, beside the others, and of no use to programs."""

QUEUE_POLL_SECONDS = 0.5
"""Interval at which Gradio looks into its queue of events, which stays empty, since no event is queued (:data:`QUIET`).
Its own intervals, 1 and 10 ms, take several percent of a core with no page open."""

UNREADABLE = "This request was not understood; reload the page and try again."
BROKEN = "Something went wrong in the studio itself; the terminal it was started from says more."


class Pages(gr.Blocks):
    """Blocks whose every event answers in words: a person is told what was wrong, and never shown a traceback.

    Values of wrong types can only come from elsewhere than the pages: they are refused before a handler sees them.

    Attributes:
        studio: what the pages ask.
        further_routes: to be served beside the pages.
    """

    studio: Studio
    further_routes: list[Route]

    def own(self, studio: Studio, routes: list[Route], closing: list[Callable[[], None]]) -> None:
        """Take what belongs to the pages; it is closed with them, or when Python ends."""
        self.studio, self.further_routes, self._closing = studio, routes, closing
        self._queue.sleep_when_free = self._queue.progress_update_sleep_when_free = QUEUE_POLL_SECONDS
        atexit.register(self.let_go)

    def let_go(self) -> None:
        """End the jobs, and let go of the folder of people's videos."""
        atexit.unregister(self.let_go)
        while self._closing:
            self._closing.pop(0)()

    def close(self, verbose: bool = True) -> None:
        """Stop serving."""
        super().close(verbose)
        self.let_go()

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """What came, as the components read it."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            raise told(str(error.message)) from error
        except Exception as error:  # whatever a component of Gradio makes of a stranger's JSON
            logger.info("refused: %s: %s", type(error).__name__, error)
            raise told(UNREADABLE) from error

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """One event."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except WorkbenchError as error:
            raise told(str(error)) from error
        except Exception as error:
            logger.exception("an event failed")
            raise told(BROKEN) from error


def told(words: str) -> gr.Error:
    """An error for a toast; the words may hold markup, which is shown as it is written."""
    return gr.Error(escape(words, quote=False), print_exception=False)


def say(words: str) -> None:
    """Words for a toast, likewise."""
    gr.Info(escape(words, quote=False))


def head(title: str, words: str) -> None:
    """The heading of a page, and the sentence that says what it shows."""
    gr.HTML(f"<h1>{escape(title)}</h1><p>{escape(words)}</p>", js_on_load=None, elem_classes="page-head")


def part(name: str, value: Mapping[str, Any], *, elem_id: str) -> gr.HTML:
    """A component of our own: ``NAME.js`` and ``parts.css`` of this folder.

    Its template is constant, since Gradio evaluates templates as code; data comes through the value, and the script
    puts every text in through ``textContent``.
    """
    here = Path(__file__).parent
    script = "\n".join((here / file).read_text(encoding="utf-8") for file in ("parts.js", f"{name}.js"))
    return gr.HTML(
        value=dict(value),
        html_template=f'<section class="progress part {name}-part"></section>',
        css_template=read_lens("lens.css", "progress.css") + (here / "parts.css").read_text(encoding="utf-8"),
        js_on_load=read_lens("chart.js") + "\n" + script,
        apply_default_css=False,
        elem_id=elem_id,
    )


def user_of(request: gr.Request) -> str:
    """Who is logged in; empty where no login is asked for."""
    return request.username or ""


def data_of(event: gr.EventData) -> dict[str, Any]:
    """What an event of a :func:`part` says; empty where it is no JSON object."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
