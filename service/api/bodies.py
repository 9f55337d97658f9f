"""The bounds on bodies of requests: of each one, and of all that are held at once, fetched photos among them."""

from __future__ import annotations

import asyncio
import logging
import re
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Problem, problem_response

logger = logging.getLogger(__name__)

# Imports are read as they come in, and not held.
_STREAMED = re.compile(r"/v1/collections/[^/]+/import")
_DRAIN_SECONDS = 10.0
_DRAIN_FACTOR = 8
_current: ContextVar[_CountedBody | None] = ContextVar("body of the current request", default=None)


class BodyLimit:
    """Refuses a body above the limit, announced or not, while it streams in, or when too much is held already.

    max_bytes: of one request; max_import_bytes: of an import; max_pending_bytes: of all requests but imports,
    and of what is fetched for them (`hold`).
    An answer waits until the rest of the body has been read and thrown away (within bounds): closing a
    connection that still carries data would reset it, and the client would never see the answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_import_bytes: int, max_pending_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_import_bytes = max_import_bytes
        self._pending = _Pending(max_pending_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streamed = _STREAMED.fullmatch(scope["path"]) is not None
        most = self._max_import_bytes if streamed else self._max_bytes
        body = _CountedBody(receive, most, None if streamed else self._pending)

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        announced = Headers(scope=scope).get("content-length", "0")
        token = _current.set(body)
        try:
            if announced.isdecimal() and int(announced) > most:
                await problem_response(_too_large(most))(scope, receive, send_after_body)
            else:
                await self._app(scope, body.receive, send_after_body)
        finally:
            _current.reset(token)
            body.release()


def hold(count: int) -> None:
    """The current request holds so many bytes more, until its end. Raises Problem (503) beyond the limit."""
    body = _current.get()
    if body is not None:
        body.hold(count)


class _Pending:
    """How many bytes of bodies all running requests hold. Used from the event loop alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, count: int) -> None:
        """Raises Problem (503) beyond the limit."""
        if self._held + count > self._most:
            detail = f"the requests that wait hold {self._most} bytes already; try again"
            raise Problem(503, "overloaded", detail, {"Retry-After": "1"})
        self._held += count

    def give(self, count: int) -> None:
        """So many are held no longer."""
        self._held -= count


class _CountedBody:
    """The messages of a request's body, counted. pending: who counts what is held; None if nothing is."""

    def __init__(self, receive: Receive, max_bytes: int, pending: _Pending | None) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pending = pending
        self._bytes = 0
        self._held = 0
        self._finished = False

    async def receive(self) -> Message:
        """The next message. Raises Problem (413, 503) beyond the limits."""
        message = await self._next()
        if self._bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        self.hold(len(message.get("body", b"")))
        return message

    def hold(self, count: int) -> None:
        """So many bytes more are held. Raises Problem (503) beyond the limit."""
        if self._pending is not None:
            self._pending.take(count)
            self._held += count

    async def drain(self) -> None:
        """Throw the rest of the body away; gives up after a while, or after several times the limit."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._finished and self._bytes <= _DRAIN_FACTOR * self._max_bytes:
                    await self._next()
        except TimeoutError:
            logger.info("a client was still sending when its answer was ready; its connection will be reset")

    def release(self) -> None:
        """The request is over."""
        if self._pending is not None:
            self._pending.give(self._held)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._finished = not message.get("more_body", False)
        else:
            self._finished = True
        return message


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "request_too_large", f"the request's body exceeds {max_bytes} bytes")
