"""Every request leaves one line in the log, and its mark in metrics and traces."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.logs import log_fields
from service.telemetry.routes import route_of
from service.telemetry.telemetry import Telemetry

logger = logging.getLogger("facemargin.requests")

_CLIENT_GONE = 499  # as proxies note a client that went before its answer
_LONGEST_PROBLEM = 64 * 1024
_QUIET_ROUTES = ("/healthz", "/readyz", "/metrics")
_EXPECTED = (None, "loading", "draining")
_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


class ObserveRequests:
    """Outermost of all: sees each answer as the client does.

    Probes and scrapes are counted, but logged only when something is wrong: they would drown the rest.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer()

        async def send_and_look(message: Message) -> None:
            answer.look(message)
            await send(message)

        began = time.perf_counter()
        with self._telemetry.tracing.request(Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_and_look)
            finally:
                route, method = route_of(scope), _method(scope)
                span.end(method, route, answer.status)
                self._note(scope, method, route, answer, time.perf_counter() - began)

    def _note(self, scope: Scope, method: str, route: str, answer: _Answer, seconds: float) -> None:
        code = answer.problem_code()
        self._telemetry.answered(method, route, answer.status, seconds, code)
        if route in _QUIET_ROUTES and code in _EXPECTED:
            return
        state = scope.get("state", {})
        log_fields(
            logger,
            "request",
            {
                "method": method,
                "route": route,
                "status": answer.status,
                "code": code,
                "ms": round(seconds * 1e3, 1),
                "request_id": state.get("request_id"),
                "key_id": state.get("key_id"),
            },
        )


@dataclass
class _Answer:
    """What of an answer is worth a note: its status, and the body if it tells a problem."""

    status: int = _CLIENT_GONE
    problem: bytearray | None = None

    def look(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if Headers(raw=message["headers"]).get("content-type", "").startswith("application/problem+json"):
                self.problem = bytearray()
        elif self.problem is not None and len(self.problem) < _LONGEST_PROBLEM:
            self.problem += message.get("body", b"")

    def problem_code(self) -> str | None:
        """The stable code of the problem that was answered, if one was."""
        if self.problem is None:
            return None
        try:
            return str(json.loads(self.problem)["code"])
        except (ValueError, KeyError, TypeError):
            return "unreadable"


def _method(scope: Scope) -> str:
    """One of the known methods: what a client may invent must not become a label."""
    method = str(scope["method"])
    return method if method in _METHODS else "OTHER"
