"""Who may speak to the studio: requests under its own name, from its own pages. And what its pages may load."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """Refuses foreign ``Host`` and ``Origin`` headers, and adds the policy to every answer.

    A page of somebody else, open in the same browser, can send requests here, or make a name of its own point here
    (DNS rebinding). Both show in these two headers, which a page cannot choose. Where other computers may connect, the
    addresses and the name of this machine are its own, too.

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

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent.setdefault("Content-Security-Policy", POLICY)
                sent.setdefault("X-Content-Type-Options", "nosniff")
                sent.setdefault("Referrer-Policy", "same-origin")
            await send(message)

        await self.app(scope, receive, with_policy)

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
