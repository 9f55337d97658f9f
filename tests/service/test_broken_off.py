"""A client that hangs up in the middle of its request is no failure of the server."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.api.middleware import RequestContext

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


def test_no_answer_and_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with caplog.at_level(logging.INFO):
        asyncio.run(RequestContext(application)(dict(SCOPE), receive, send))

    assert sent == []
    assert [record.levelname for record in caplog.records if record.name.startswith("service.")] == ["INFO"]
