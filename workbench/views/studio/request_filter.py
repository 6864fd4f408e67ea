"""Request filter: bounded requests, addressed to the studio, sent by its own pages; cookie and content policy."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.views.serving import SESSION_COOKIE, session_of

logger = logging.getLogger(__name__)

MAX_BYTES = 2_000_000
"""Limit of one request. The route of uploads has a limit of its own."""

INTERNAL_ERROR = "The studio could not process this request; reload the page and try again."

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
        "frame-ancestors 'self'",  # the last one: RequestFilter appends sites
    )
)
"""Content security policy: nothing is loaded from or sent to another machine, and no other site can frame a page."""


class RequestFilter:
    """ASGI middleware that refuses unknown ``Host`` and ``Origin`` headers and large requests.

    A page of another site, open in the same browser, can send requests here, or let its own host name resolve to this
    machine (DNS rebinding). Both are visible in these two headers, which a page cannot change. Where other computers
    may connect, the addresses and the name of this machine are accepted too.

    Every response has the content security policy. A browser without a session receives the session cookie; a login
    starts a new session. An unexpected error is logged in one line and answered in JSON.

    Args:
        app: application behind the filter.
        host: address that the server is bound to.
        names: further host names of the studio.
        frame_ancestors: origins of other sites that may show the studio in a frame; its cookies are sent there too.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, names: Iterable[str] = (), frame_ancestors: Iterable[str] = ()
    ) -> None:
        self.app, self.is_public = app, host not in LOOPBACK
        machine = (socket.gethostname(), socket.getfqdn()) if self.is_public else ()
        self.policy = " ".join((POLICY, *frame_ancestors))
        self.same_site = "None; Secure; Partitioned" if self.policy != POLICY else "Lax"
        self.names = {name.lower() for name in (*LOOPBACK, host, *machine, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"].rstrip("/")
        problem = self.problem(headers.get("host", ""), headers.get("origin"))
        if problem:
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        is_upload, length = path.endswith("/uploads"), headers.get("content-length", "")
        if path.endswith("/gradio_api/upload"):  # no component of the studio takes files
            problem = "files are not accepted here; upload a video on the page Your video"
        elif not is_upload and length.isdecimal() and int(length[:20]) > MAX_BYTES:
            problem = f"request: want at most {MAX_BYTES / 1e6:.0f} MB, got {int(length[:20]) / 1e6:.1f} MB"
        if problem:
            refusal = PlainTextResponse(problem, status_code=413, headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        new_session = not session_of(HTTPConnection(scope)) or path.endswith("/login")
        size, started = 0, False

        async def receive_bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message if is_upload or size <= MAX_BYTES else {"type": "http.disconnect"}

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                sent = MutableHeaders(scope=message)
                sent.setdefault("Content-Security-Policy", self.policy)
                sent.setdefault("X-Content-Type-Options", "nosniff")
                sent.setdefault("Referrer-Policy", "same-origin")
                if new_session:
                    cookie = f"{SESSION_COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite={self.same_site}"
                    sent.append("Set-Cookie", cookie)
            await send(message)

        try:
            await self.app(scope, receive_bounded, send_with_headers)
        except Exception as error:
            if started:
                raise
            logger.error("a request for %s failed: %s: %s", scope["path"][:200], type(error).__name__, str(error)[:200])
            logger.debug("traceback", exc_info=True)
            await JSONResponse({"error": INTERNAL_ERROR}, status_code=500)(scope, receive, send_with_headers)

    def problem(self, host: str, origin: str | None) -> str:
        """Return the reason why a request with these headers is refused; empty where it is accepted.

        Example:
            >>> request_filter = RequestFilter(lambda *_: None, host="127.0.0.1")
            >>> request_filter.problem("localhost:7860", "http://localhost:7860")
            ''
            >>> request_filter.problem("localhost:7860", "http://elsewhere.example")
            'this request comes from another site; open the studio itself'
        """
        if not self._is_own(host):
            return "the studio has no such host name; use the printed address, or add the name with --name"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "this request comes from another site; open the studio itself"
        return ""

    def _is_own(self, host: str) -> bool:
        with suppress(ValueError):  # neither a host name nor an address
            name = (urlsplit(f"//{host}").hostname or "").lower()
            # an address cannot be made to resolve elsewhere
            return name in self.names or (self.is_public and bool(ipaddress.ip_address(name)))
        return False
