"""What every request passes: an id, security headers, admission."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.draining import Drain
from service.errors import ID_RULE, Problem, problem_response, unexpected
from service.telemetry.routes import route_of

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
_ALWAYS_ANSWERED = ("/healthz", "/readyz", "/metrics")


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
        scope.setdefault("state", {})["request_id"] = request_id
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
        except ClientDisconnect:
            logger.info("request %s was broken off by its client", request_id)
        except Exception:
            # The route, not the path: a path may hold the ids of people.
            logger.exception("request %s failed: %s %s", request_id, scope["method"], route_of(scope))
            if started:
                raise
            await unexpected(request_id)(scope, receive, send_with_headers)


class Admission:
    """Counts running requests, and sends new ones elsewhere once the service is about to stop."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
            return

        async def send_and_part(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if self._drain.refusing:
            problem = Problem(503, "draining", "the service is stopping", {"Retry-After": "2"})
            await problem_response(problem)(scope, receive, send_and_part)
            return
        with self._drain.request():
            await self._app(scope, receive, send_and_part)


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


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
