"""Browser sessions: a random cookie identifies a browser, and open pages keep its session alive."""

from __future__ import annotations

import threading
from collections.abc import Callable

import gradio as gr

from workbench.views.serving import session_of

GRACE_SECONDS = 600.0
"""Time between the last page being closed and the end of the session: enough to reload, or to follow a link."""


class BrowserSessions:
    """Open pages of every browser session.

    Args:
        on_end: function called with the session when no page has been open for the grace period.
        grace_seconds: grace period.
    """

    def __init__(self, on_end: Callable[[str], None], grace_seconds: float = GRACE_SECONDS) -> None:
        self._on_end, self._grace_seconds = on_end, grace_seconds
        self._pages: dict[str, set[str]] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def is_open(self, session: str) -> bool:
        """Return whether a session has begun and has not ended."""
        return session in self._pages

    def open_page(self, request: gr.Request) -> None:
        """Record that a page was loaded."""
        session = session_of(request)
        if not session or not request.session_hash:
            return
        with self._lock:
            self._pages.setdefault(session, set()).add(request.session_hash)
            if timer := self._timers.pop(session, None):
                timer.cancel()

    def close_page(self, request: gr.Request) -> None:
        """Record that a page was closed; the session ends after the grace period unless a page is opened."""
        session = session_of(request)
        with self._lock:
            pages = self._pages.get(session)
            if pages is None or request.session_hash not in pages:
                return
            pages.remove(request.session_hash)
            if not pages:
                timer = self._timers[session] = threading.Timer(self._grace_seconds, self._end, (session,))
                timer.daemon = True
                timer.start()

    def _end(self, session: str) -> None:
        with self._lock:
            if self._pages.get(session):
                return
            self._pages.pop(session, None)
            self._timers.pop(session, None)
        self._on_end(session)

    def close(self) -> None:
        """Cancel the pending ends of sessions."""
        with self._lock:
            for timer in self._timers.values():
                timer.cancel()
