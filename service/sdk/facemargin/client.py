"""The client of a face recognition service.

    with Client("http://127.0.0.1:8000", "fm_...") as client:
        client.enrol("ada", "ada.jpg")
        print(client.identify("party.jpg").faces)

`AsyncClient` has the same methods, to be awaited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from facemargin.answers import Job
from facemargin.asking import Ask, Download, Listing
from facemargin.asynchronous import AsyncClient
from facemargin.calls import Calls
from facemargin.errors import ClientError, JobFailed, Problem, UnexpectedAnswer, Unreachable
from facemargin.http import check, connection_options, finished, reaching
from facemargin.photos import Embedding, FaceId, PhotoUrl
from facemargin.retrying import Repeat, Retrying

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Embedding",
    "FaceId",
    "JobFailed",
    "PhotoUrl",
    "Problem",
    "Retrying",
    "UnexpectedAnswer",
    "Unreachable",
]

T = TypeVar("T")


class Client(Calls):
    """Asks the service and waits for its answers. May be shared by threads.

    address: `http://HOST:PORT`. key: the API key. timeout: seconds without a sign of the service after which a
    request has failed. retrying: how often to ask again. transport: httpx's, for certificates and proxies of
    your own. Methods raise Problem, Unreachable, UnexpectedAnswer, and OSError for a file they cannot read.
    """

    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retrying: Retrying | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._address = address
        self._retrying = retrying or Retrying()
        self._http = httpx.Client(**connection_options(address, key, timeout), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def wait_for_job(self, job: str, *, timeout: float | None = None, interval: float = 1.0) -> Job:
        """Wait until a job is done, asking every `interval` seconds. Raises JobFailed, TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished(found := self.job(job)):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the job {job} is still {found.state} after {timeout} s")
            time.sleep(interval)
        return found

    def _perform(self, build: Callable[[], Ask[T]]) -> T:
        return self._answer(build())

    def _iterate(self, build: Callable[[], Listing[T]]) -> Iterator[T]:
        listing, cursor = build(), None
        while True:
            part = self._answer(listing.part(cursor))
            yield from part.items
            if (cursor := part.next_cursor) is None:
                return

    def _download(self, build: Callable[[], Download]) -> Iterator[bytes]:
        path = build().path
        response = self._persist(lambda: self._opened(path), Repeat.ALWAYS)
        try:
            with reaching(self._address):
                yield from response.iter_bytes()
        finally:
            response.close()

    def _answer(self, ask: Ask[T]) -> T:
        return ask.read(self._persist(lambda: self._sent(ask), ask.repeat))

    def _persist(self, attempt: Callable[[], Any], repeat: Repeat) -> Any:
        number = 0
        while True:
            number += 1
            try:
                return attempt()
            except ClientError as error:
                delay = self._retrying.delay(number, error, repeat)
                if delay is None:
                    raise
            time.sleep(delay)

    def _sent(self, ask: Ask[Any]) -> bytes:
        content = None if ask.upload is None else ask.upload.pieces()
        with reaching(self._address):
            response = self._http.request(ask.method, ask.path, content=content, **ask.options())
        check(response)
        return response.content

    def _opened(self, path: str) -> httpx.Response:
        with reaching(self._address):
            response = self._http.send(self._http.build_request("GET", path), stream=True)
            if not response.is_success:
                response.read()
        check(response)
        return response
