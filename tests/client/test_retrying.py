"""What the client does when a service refuses, breaks off or is not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from launching.server import free_port

from facemargin.client import AsyncClient, Client, Problem, Retrying, Unreachable

QUICK = Retrying(attempts=4, first_delay=0.01, longest_delay=2)
SUBJECT = (
    b'{"subject_id": "ada", "name": "", "metadata": {}, "faces": 0, "created_at": "2026-01-01T00:00:00Z", "new": 1}'
)
BROKEN_OFF = 0


class Stub:
    """Answers with these statuses in turn, then with 200; BROKEN_OFF closes the connection instead."""

    def __init__(self, statuses: list[int], retry_after: str | None) -> None:
        self.statuses = statuses
        self.retry_after = retry_after
        self.tokens: list[str | None] = []
        self.bodies: list[bytes] = []
        self.address = ""


Refuse = Callable[..., AbstractContextManager[Stub]]


@pytest.fixture
def refusing() -> Refuse:
    """`with refusing(503, 503) as stub` serves on a free port."""

    @contextmanager
    def started(*statuses: int, retry_after: str | None = None) -> Iterator[Stub]:
        stub = Stub(list(statuses), retry_after)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
        stub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return started


@pytest.mark.parametrize("statuses", [(503, 503), (429, 503), (BROKEN_OFF, 503), (502, 504)])
def test_a_write_is_sent_again_with_its_token(refusing: Refuse, statuses: tuple[int, ...]) -> None:
    with refusing(*statuses) as stub, Client(stub.address, "key", retrying=QUICK) as client:
        assert client.create_subject("ada", name="Ada").subject_id == "ada"
        client.create_subject("ada", name="Ada")
    assert len(stub.tokens) == 4
    assert None not in stub.tokens
    assert len(set(stub.tokens[:3])) == 1
    assert stub.tokens[3] != stub.tokens[0]
    assert len(set(stub.bodies)) == 1


def test_the_async_client_does_the_same(refusing: Refuse) -> None:
    async def create(address: str) -> str:
        async with AsyncClient(address, "key", retrying=QUICK) as client:
            return (await client.create_subject("ada")).subject_id

    with refusing(503, BROKEN_OFF) as stub:
        assert asyncio.run(create(stub.address)) == "ada"
    assert len(stub.tokens) == 3
    assert len(set(stub.tokens)) == 1


def test_it_waits_as_long_as_it_is_told(refusing: Refuse) -> None:
    with refusing(429, retry_after="1") as stub, Client(stub.address, retrying=QUICK) as client:
        client.subject("ada")
    with (
        refusing(429, retry_after="60") as stub,
        Client(stub.address, retrying=QUICK) as client,
        pytest.raises(Problem) as refused,
    ):
        client.subject("ada")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    assert len(stub.tokens) == 1


def test_it_gives_up(refusing: Refuse) -> None:
    with (
        refusing(*[503] * 9) as stub,
        Client(stub.address, retrying=QUICK) as client,
        pytest.raises(Problem, match="503 no_problem_document"),
    ):
        client.subject("ada")
    assert len(stub.tokens) == QUICK.attempts


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_other_refusals_are_final(refusing: Refuse, status: int) -> None:
    with refusing(status) as stub, pytest.raises(Problem):
        quick(stub).subject("ada")
    assert len(stub.tokens) == 1


@pytest.mark.parametrize("outcome", [BROKEN_OFF, 503])
def test_a_key_is_not_made_twice(refusing: Refuse, outcome: int) -> None:
    with (
        refusing(outcome) as stub,
        Client(stub.address, retrying=QUICK) as client,
        pytest.raises((Problem, Unreachable)),
    ):
        client.create_key("door", "read")
    assert stub.tokens == [None]


def test_a_file_is_imported_again_but_a_stream_is_not(refusing: Refuse, tmp_path: Path) -> None:
    file = tmp_path / "faces.ndjson"
    file.write_bytes(b"a line\n")
    with (
        refusing(503, 400) as stub,
        Client(stub.address, retrying=QUICK) as client,
        pytest.raises(Problem, match="400"),
    ):
        client.import_faces(file)
    assert stub.bodies == [b"a line\n"] * 2
    with refusing(503) as stub, pytest.raises(Problem, match="503"):
        quick(stub).import_faces(iter([b"a line\n"]))
    assert len(stub.bodies) == 1


def test_nobody_there_is_said_in_one_line() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with (
        Client(address, retrying=QUICK) as client,
        pytest.raises(Unreachable, match=f"no answer from {address}") as error,
    ):
        client.subject("ada")
    assert not error.value.sent
    with pytest.raises(ValueError, match="must begin with"):
        Client("127.0.0.1:8000")


def quick(stub: Stub) -> Client:
    """A client of the stub that does not wait long."""
    return Client(stub.address, "key", retrying=QUICK)


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            stub.tokens.append(self.headers["Idempotency-Key"])
            stub.bodies.append(self._body())
            status = stub.statuses.pop(0) if stub.statuses else 200
            if status == BROKEN_OFF:
                self.close_connection = True
                return
            body = SUBJECT if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if stub.retry_after is not None and status != 200:
                self.send_header("Retry-After", stub.retry_after)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _body(self) -> bytes:
            if self.headers["Transfer-Encoding"] != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

    return Handler
