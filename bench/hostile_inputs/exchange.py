"""Sending a case and reading what comes back."""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from hostile_inputs.cases import ADMIN_KEY, PATIENCE, Case

_MOST_ANSWERS = 60


@dataclass(frozen=True)
class Answer:
    """What the server said; status 0: it closed the connection without a word."""

    status: int
    media_type: str
    body: bytes
    retry_after: str | None = None


class NoAnswer(AssertionError):
    """The server kept a connection open and said nothing for half a minute."""


class Sender:
    """Sends cases to one address; for one thread."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        headers = {"X-API-Key": ADMIN_KEY}
        self._client = httpx.Client(base_url=address, headers=headers, timeout=PATIENCE, trust_env=False)

    def send(self, case: Case) -> list[Answer]:
        """Every answer to a case, in order. Raises NoAnswer."""
        return self._over_the_wire(case) if case.pieces else [self._through_a_client(case)]

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _through_a_client(self, case: Case) -> Answer:
        headers = [(name.encode(), value.encode("latin-1")) for name, value in case.headers]
        try:
            got = self._client.request(case.method, case.target, headers=headers, content=case.body)
        except httpx.TimeoutException as error:
            raise NoAnswer(f"{case.kind}: {type(error).__name__}") from error
        except httpx.RemoteProtocolError:
            return Answer(0, "", b"")
        return Answer(
            got.status_code, _media_type(got.headers.get("content-type")), got.content, got.headers.get("retry-after")
        )

    def _over_the_wire(self, case: Case) -> list[Answer]:
        with socket.create_connection((self._host, self._port), timeout=PATIENCE) as connection:
            try:
                for piece in case.pieces:
                    connection.sendall(piece)
                    time.sleep(case.pause)
            except TimeoutError as error:
                raise NoAnswer(f"{case.kind}: the server does not read") from error
            except OSError:
                pass  # refused before it was all sent: the answer may be there
            if case.hang_up:
                return [Answer(0, "", b"")]
            connection.settimeout(case.patience)
            return _read_all(connection, case)


def _read_all(connection: socket.socket, case: Case) -> list[Answer]:
    answers: list[Answer] = []
    reader = connection.makefile("rb")
    while len(answers) < _MOST_ANSWERS:
        answer = _read(_Reread(reader), case)
        if answer is None:
            break
        answers.append(answer)
    return answers or [Answer(0, "", b"")]


class _Reread:
    """Lets http.client read several answers from one stream, which it would close after the first."""

    def __init__(self, reader: object) -> None:
        self._reader = reader

    def makefile(self, *_: object) -> _Reread:
        """Itself, as http.client asks a socket for it."""
        return self

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def close(self) -> None:
        """Nothing: more may come."""

    def flush(self) -> None:
        """Nothing is ever written."""


def _read(stream: _Reread, case: Case) -> Answer | None:
    got = http.client.HTTPResponse(stream, method=case.method)  # type: ignore[arg-type]
    try:
        got.begin()
        body = got.read()
    except (http.client.BadStatusLine, http.client.IncompleteRead, ConnectionError):
        return None  # the connection ended
    except TimeoutError as error:
        if case.whole:
            raise NoAnswer(f"{case.kind}: nothing for {case.patience:.0f} s") from error
        return None
    return Answer(got.status, _media_type(got.headers.get("content-type")), body, got.headers.get("retry-after"))


def _media_type(header: str | None) -> str:
    return (header or "").split(";")[0].strip().lower()
