"""What every request passes: an id, security headers, and the bound on its body."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ID_RULE, Problem, problem_response, unexpected

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DRAIN_SECONDS = 10.0
_DRAIN_FACTOR = 8


class RequestContext:
    """Gives the request an id, its response that id and the security headers, and a bug a silent 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers[name] = value
                # Answers speak of people: no cache between may keep them. The page's files say otherwise.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            await unexpected(request_id)(scope, receive, send_with_headers)


class BodyLimit:
    """Refuses a body above the limit, announced or not, while it streams in.

    An answer waits until the rest of the body has been read and thrown away (within bounds): closing a
    connection that still carries data would reset it, and the client would never see the answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _CountedBody(receive, self._max_bytes)

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await problem_response(_too_large(self._max_bytes))(scope, receive, send_after_body)
        else:
            await self._app(scope, body.receive, send_after_body)


class SlashInIdentifier:
    """Refuses an encoded slash: the router would see it as a separator, and no identifier may hold one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and b"%2f" in scope.get("raw_path", b"").lower():
            await problem_response(Problem(400, "invalid_id", ID_RULE))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _CountedBody:
    """The messages of a request's body, counted."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._bytes = 0
        self._finished = False

    async def receive(self) -> Message:
        """The next message. Raises Problem (413) beyond the limit."""
        message = await self._next()
        if self._bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message

    async def drain(self) -> None:
        """Throw the rest of the body away; gives up after a while, or after several times the limit."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._finished and self._bytes <= _DRAIN_FACTOR * self._max_bytes:
                    await self._next()
        except TimeoutError:
            logger.info("a client was still sending when its answer was ready; its connection will be reset")

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._finished = not message.get("more_body", False)
        else:
            self._finished = True
        return message


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "request_too_large", f"the request's body exceeds {max_bytes} bytes")
