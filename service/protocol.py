"""HTTP as uvicorn speaks it, but stricter, and with a problem document for what is no HTTP."""

from __future__ import annotations

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import Problem, problem_response

_NOT_HTTP = Problem(400, "malformed_request", "this is not a valid HTTP request")
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1 << 20


class HttpProtocol(H11Protocol):
    """Refuses what h11 cannot parse in the words of every other refusal. The application never sees it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        limit = self.config.h11_max_incomplete_event_size
        self.conn = _Connection(h11.SERVER) if limit is None else _Connection(h11.SERVER, limit)
        self._to_discard: int | None = None

    def data_received(self, data: bytes) -> None:
        """What comes in: a request, or after a refusal something to throw away."""
        if self._to_discard is None:
            super().data_received(data)
            return
        self._to_discard -= len(data)
        if self._to_discard < 0:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer, and close: where such a request ends is anybody's guess.

        The client may still be sending, and a connection that is closed with something unread is reset: the client
        would never see the answer. So only our half is closed at first, and what still comes is thrown away, until
        the client closes its half, or for a while.
        """
        response = problem_response(_NOT_HTTP)
        headers = [*response.raw_headers, (b"cache-control", b"no-store"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._to_discard = _LINGER_BYTES
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


class _Connection(h11.Connection):
    """Refuses a request of two lengths: a proxy may believe the other, and then part of its body is a request."""

    def next_event(self) -> Any:
        """The next event. Raises RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {bytes(name) for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event
