"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from facemargin.answers import Job
from facemargin.asking import Ask, Download, Listing, Upload
from facemargin.calls import Calls
from facemargin.errors import ClientError
from facemargin.http import check, connection_options, finished, reaching
from facemargin.retrying import Repeat, Retrying

T = TypeVar("T")


class AsyncClient(Calls):
    """`Client` with methods to await; lists and files come by `async for`. Arguments and errors are the same."""

    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retrying: Retrying | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = address
        self._retrying = retrying or Retrying()
        self._http = httpx.AsyncClient(**connection_options(address, key, timeout), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def wait_for_job(self, job: str, *, timeout: float | None = None, interval: float = 1.0) -> Job:
        """Wait until a job is done, asking every `interval` seconds. Raises JobFailed, TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished(found := await self.job(job)):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the job {job} is still {found.state} after {timeout} s")
            await asyncio.sleep(interval)
        return found

    async def _perform(self, build: Callable[[], Ask[T]]) -> T:
        # Photos are read from files while a request is built.
        return await self._answer(await asyncio.to_thread(build))

    async def _iterate(self, build: Callable[[], Listing[T]]) -> AsyncIterator[T]:
        listing, cursor = build(), None
        while True:
            part = await self._answer(listing.part(cursor))
            for item in part.items:
                yield item
            if (cursor := part.next_cursor) is None:
                return

    async def _download(self, build: Callable[[], Download]) -> AsyncIterator[bytes]:
        path = build().path
        response = await self._persist(lambda: self._opened(path), Repeat.ALWAYS)
        try:
            with reaching(self._address):
                async for piece in response.aiter_bytes():
                    yield piece
        finally:
            await response.aclose()

    async def _answer(self, ask: Ask[T]) -> T:
        return ask.read(await self._persist(lambda: self._sent(ask), ask.repeat))

    async def _persist(self, attempt: Callable[[], Awaitable[Any]], repeat: Repeat) -> Any:
        number = 0
        while True:
            number += 1
            try:
                return await attempt()
            except ClientError as error:
                delay = self._retrying.delay(number, error, repeat)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    async def _sent(self, ask: Ask[Any]) -> bytes:
        content = None if ask.upload is None else _pieces(ask.upload)
        with reaching(self._address):
            response = await self._http.request(ask.method, ask.path, content=content, **ask.options())
        check(response)
        return response.content

    async def _opened(self, path: str) -> httpx.Response:
        with reaching(self._address):
            response = await self._http.send(self._http.build_request("GET", path), stream=True)
            if not response.is_success:
                await response.aread()
        check(response)
        return response


async def _pieces(upload: Upload) -> AsyncIterator[bytes]:
    pieces = upload.pieces()
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
