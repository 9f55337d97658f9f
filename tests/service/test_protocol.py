"""What is no HTTP is refused as everything else is: as a problem document."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from service.protocol import HttpProtocol


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port of 127.0.0.1 on which a server of this protocol listens."""
    server = uvicorn.Server(
        uvicorn.Config(_application, port=0, http=HttpProtocol, lifespan="off", log_config=None, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def answer(port: int, *sent: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of the one answer to these bytes, sent with a pause after each part."""

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in sent[:-1]:
            writer.write(part)
            await asyncio.sleep(0.2)
        writer.write(sent[-1])
        got = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return got

    head, _, body = asyncio.run(talk()).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "sent",
    [
        b"nothing at all\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000,
    ],
)
def test_what_is_no_http_gets_a_problem_and_the_connection_ends(port: int, sent: bytes) -> None:
    status, headers, body = answer(port, sent)

    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")


def test_a_client_that_goes_on_sending_still_sees_the_answer(port: int) -> None:
    header = b"X: " + b"x" * 100_000

    status, _, _ = answer(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + header, header, header)

    assert status == "HTTP/1.1 400 Bad Request"


def test_a_client_that_sends_without_end_is_cut_off(port: int) -> None:
    async def talk() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nothing at all\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        asyncio.run(talk())


def test_what_is_http_is_served(port: int) -> None:
    status, _, _ = answer(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert status == "HTTP/1.1 204 No Content"
