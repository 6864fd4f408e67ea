"""Who may speak to the studio: small requests under its own name, from its own pages. And what its pages may load."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

MOST_BYTES = 2_000_000
"""Of one request. Films come to a route of their own, which counts for itself."""

UNANSWERED = "The studio could not answer this request; reload the page and try again."

LOOPBACK = ("127.0.0.1", "localhost", "::1")

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's page is a script inside its HTML
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""Nothing is loaded from another machine, nothing sent to one, and no other page can frame this one."""


class Guard:
    """Refuses foreign ``Host`` and ``Origin`` headers and what is too large, and adds the policy to every answer.

    A page of somebody else, open in the same browser, can send requests here, or make a name of its own point here
    (DNS rebinding). Both show in these two headers, which a page cannot choose. Where other computers may connect, the
    addresses and the name of this machine are its own, too. What no route foresaw is answered in words, and told to the
    terminal in a line.

    Args:
        app: what is guarded.
        host: the address it is bound to.
        names: further names under which it may be asked for.
    """

    def __init__(self, app: ASGIApp, *, host: str, names: Iterable[str] = ()) -> None:
        self.app, self.open = app, host not in LOOPBACK
        own = (socket.gethostname(), socket.getfqdn()) if self.open else ()
        self.names = {name.lower() for name in (*LOOPBACK, host, *own, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self.problem(headers.get("host", ""), headers.get("origin"))
        if problem:
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        counts = scope["path"].rstrip("/").endswith("/clips")
        length = headers.get("content-length", "")
        if scope["path"].rstrip("/").endswith("/gradio_api/upload"):  # no component of ours takes files
            problem = "no files are taken here; bring a video on the page Your video"
        elif not counts and length.isdecimal() and int(length[:20]) > MOST_BYTES:
            problem = f"a request of up to {MOST_BYTES / 1e6:.0f} MB was wanted, got {int(length[:20]) / 1e6:.1f}"
        if problem:
            refusal = PlainTextResponse(problem, status_code=413, headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        size, started = 0, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message if counts or size <= MOST_BYTES else {"type": "http.disconnect"}

        async def with_policy(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                sent = MutableHeaders(scope=message)
                sent.setdefault("Content-Security-Policy", POLICY)
                sent.setdefault("X-Content-Type-Options", "nosniff")
                sent.setdefault("Referrer-Policy", "same-origin")
            await send(message)

        try:
            await self.app(scope, counted, with_policy)
        except Exception as error:
            if started:
                raise
            logger.error("a request for %s failed: %s: %s", scope["path"][:200], type(error).__name__, str(error)[:200])
            logger.debug("where", exc_info=True)
            await JSONResponse({"error": UNANSWERED}, status_code=500)(scope, receive, with_policy)

    def problem(self, host: str, origin: str | None) -> str:
        """Why a request with these headers is refused, in words; empty where it is not.

        Example:
            >>> guard = Guard(lambda *_: None, host="127.0.0.1")
            >>> guard.problem("localhost:7860", "http://localhost:7860")
            ''
            >>> guard.problem("localhost:7860", "http://elsewhere.example")
            'this request comes from another page; open the studio itself'
        """
        if not self._is_own(host):
            return "the studio is not known under this name; use the address that it printed"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "this request comes from another page; open the studio itself"
        return ""

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self.names:
            return True
        if not self.open:
            return False
        try:
            ipaddress.ip_address(name)  # an address cannot be made to point elsewhere
        except ValueError:
            return False
        return True
