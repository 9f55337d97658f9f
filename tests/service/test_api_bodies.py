"""How many bytes of bodies the service holds at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.bodies import BodyLimit, hold
from service.settings import Settings

KIB = 1024


class Holding:
    """An application that reads a request's body and answers when it may."""

    def __init__(self) -> None:
        self.reading = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = len(await Request(scope, receive).body())
        self.reading.release()
        await self.may_answer.wait()
        await Response(str(size))(scope, receive, send)


def client_of(holding: Holding) -> httpx.AsyncClient:
    async def problems(scope: Scope, receive: Receive, send: Send) -> None:
        """What FastAPI does with a Problem that comes out of reading the body."""
        from service.errors import Problem, problem_response

        try:
            await holding(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)

    limited = BodyLimit(problems, max_bytes=8 * KIB, max_import_bytes=64 * KIB, max_pending_bytes=16 * KIB)
    return httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://test")


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(KIB)


def test_what_waits_is_bounded_and_given_back() -> None:
    async def scenario() -> None:
        holding = Holding()
        async with client_of(holding) as client:
            waiting = [asyncio.create_task(client.post("/v1/detect", content=bytes(8 * KIB))) for _ in range(2)]
            for _ in waiting:
                await holding.reading.acquire()
            refused = await client.post("/v1/detect", content=chunks(1))
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"] == "1"
            holding.may_answer.set()
            assert {(await task).text for task in waiting} == {str(8 * KIB)}
            for _ in range(5):
                assert (await client.post("/v1/detect", content=bytes(8 * KIB))).status_code == 200

    asyncio.run(scenario())


def test_an_import_has_a_limit_of_its_own_and_is_not_held() -> None:
    async def scenario() -> None:
        holding = Holding()
        holding.may_answer.set()
        async with client_of(holding) as client:
            path = "/v1/collections/people/import"
            assert (await client.post(path, content=chunks(32))).text == str(32 * KIB)
            for content in (bytes(65 * KIB), chunks(65)):
                answer = await client.post(path, content=content)
                assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
            assert (await client.post("/v1/detect", content=chunks(9))).status_code == 413

    asyncio.run(scenario())


def test_what_is_fetched_for_a_request_counts_until_its_end() -> None:
    async def scenario() -> None:
        class Fetching(Holding):
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await asyncio.gather(*(self.fetch() for _ in range(2)))
                await super().__call__(scope, receive, send)

            async def fetch(self) -> None:
                hold(6 * KIB)

        holding = Fetching()
        async with client_of(holding) as client:
            waiting = asyncio.create_task(client.post("/v1/detect", content=bytes(KIB)))
            await holding.reading.acquire()
            refused = await client.post("/v1/detect", content=bytes(KIB))
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            holding.may_answer.set()
            assert (await waiting).text == str(KIB)
            for _ in range(3):
                assert (await client.post("/v1/detect", content=bytes(KIB))).status_code == 200
        hold(2**40)  # beyond any request nothing is counted

    asyncio.run(scenario())


def test_one_request_must_fit() -> None:
    with pytest.raises(ValidationError, match="max_pending_bytes"):
        Settings(max_pending_bytes=2**20, max_request_bytes=2**21)
