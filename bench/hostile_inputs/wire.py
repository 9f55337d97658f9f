"""Bytes that are not quite HTTP."""

from __future__ import annotations

import random

from hostile_inputs.cases import BOUNDARY, KEY, Case, form, request_bytes
from hostile_inputs.photos import drawn, encode

_JSON = b"Content-Type: application/json"
_CLOSE = b"Connection: close"
_LITTLE = 0.4
_LONG = b'{"image":"' + b"A" * 3000 + b'"}'
_SMUGGLED = request_bytes("DELETE", b"/v1/collections/default", [KEY, _CLOSE])


class Wire:
    """Makes connections that break, stretch or pause the protocol."""

    def __init__(self) -> None:
        _, self._form = form("image", encode(drawn(96), "JPEG"))

    def measured(self, random_: random.Random) -> Case:
        """Bodies whose length is not what was announced."""
        lengths = {
            "too small": [b"Content-Length: 3"],
            "negative": [b"Content-Length: -1"],
            "words": [b"Content-Length: many"],
            "with a sign": [b"Content-Length: +12"],
            "10^20": [b"Content-Length: 100000000000000000000"],
            "above the limit": [b"Content-Length: 34359738368"],
            "hex": [b"Content-Length: 0x0c"],
            "empty": [b"Content-Length: "],
            "two that differ": [b"Content-Length: 12", b"Content-Length: 13"],
            "other digits": ["Content-Length: ١٢".encode()],
            "with chunks": [b"Content-Length: 12", b"Transfer-Encoding: chunked"],
        }
        kind = random_.choice(sorted(lengths))
        head = request_bytes("POST", b"/v1/detect", [KEY, _JSON, *lengths[kind], _CLOSE], b'{"image":""}')
        return Case(f"length: {kind}", pieces=(head,), patience=_LITTLE)

    def chunked(self, random_: random.Random) -> Case:
        """Chunks of false, giant or no size."""
        bodies = {
            "giant size": b"FFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
            "negative size": b"-2\r\n{}\r\n0\r\n\r\n",
            "no size": b"\r\n{}\r\n0\r\n\r\n",
            "words": b"two\r\n{}\r\n0\r\n\r\n",
            "extension": b"2;" + b"e" * 50_000 + b"\r\n{}\r\n0\r\n\r\n",
            "too long": b"2\r\n{}{}{}\r\n0\r\n\r\n",
            "trailers": b"2\r\n{}\r\n0\r\n" + b"X-T: 1\r\n" * 500 + b"\r\n",
            "by the byte": b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"image":"' + b"A" * 3000 + b'"}')
            + b"0\r\n\r\n",
            "bare line feeds": b"2\n{}\n0\n\n",
        }
        kind = random_.choice(sorted(bodies))
        headers = [KEY, _JSON, b"Transfer-Encoding: chunked", _CLOSE]
        whole = request_bytes("POST", b"/v1/detect", headers, bodies[kind])
        return Case(f"chunks: {kind}", pieces=(whole,), patience=_LITTLE)

    def smuggled(self, random_: random.Random) -> Case:
        """A second request hidden in the first's body. It would delete what cannot be deleted."""
        hidden = b"0\r\n\r\n" + _SMUGGLED
        length = b"Content-Length: %d" % len(hidden)
        codings = (
            [length, b"Transfer-Encoding: chunked"],
            [length, b"Transfer-Encoding : chunked"],
            [length, b"Transfer-Encoding: xchunked"],
            [length, b"Transfer-Encoding: chunked, identity"],
            [length, b"Transfer-Encoding:\tchunked"],
            [length, b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"],
            [length, b"X: y\nTransfer-Encoding: chunked"],
            [b"Content-Length: 0", length],
            [length, b" Transfer-Encoding: chunked"],
            [b"Content-Length: 5", b"Transfer-Encoding: \x0bchunked"],
        )
        headers = [KEY, _JSON, *random_.choice(codings)]
        return Case("smuggled", pieces=(request_bytes("POST", b"/v1/detect", headers, hidden),), patience=_LITTLE)

    def foreign(self, random_: random.Random) -> Case:
        """Another protocol, an older one, or none."""
        host = b"Host: 127.0.0.1\r\n"
        talks = {
            "HTTP/0.9": b"GET /\r\n",
            "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
            "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            "HTTP/9.9": b"GET / HTTP/9.9\r\n" + host + b"\r\n",
            "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random_.randbytes(300),
            "SSH": b"SSH-2.0-OpenSSH_9.0\r\n",
            "noise": random_.randbytes(random_.randrange(1, 2000)),
            "zeros": bytes(3000),
            "no host": b"GET / HTTP/1.1\r\n\r\n",
            "two hosts": b"GET / HTTP/1.1\r\n" + host * 2 + b"\r\n",
            "line without end": b"GET /" + b"a" * 200_000,
            "long line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
            "method of bytes": b"\xff\xfe / HTTP/1.1\r\n" + host + b"\r\n",
            "method of 20 KB": b"M" * 20_000 + b" / HTTP/1.1\r\n" + host + b"\r\n",
            "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + host + b"\r\n",
            "TRACE": b"TRACE / HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
            "absolute": b"GET http://169.254.169.254/ HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
            "asterisk": b"OPTIONS * HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
            "target of bytes": b"GET /\xff\xfe\xc0\xaf HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
            "target with a zero": b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n",
            "target without slash": b"GET v1 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
            "folded header": b"GET / HTTP/1.1\r\n" + host + b"X-A: 1\r\n  2\r\nConnection: close\r\n\r\n",
            "header without colon": b"GET / HTTP/1.1\r\n" + host + b"nothing\r\n\r\n",
            "header with a zero": b"GET / HTTP/1.1\r\n" + host + b"X: a\0b\r\n\r\n",
            "websocket": b"GET /v1/detect HTTP/1.1\r\n" + host + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            "expectation": b"POST /v1/detect HTTP/1.1\r\n" + host + b"Expect: the-impossible\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n",
            "pipeline": request_bytes("GET", b"/healthz") * 50 + request_bytes("GET", b"/healthz", [_CLOSE]),
        }
        kind = random_.choice(sorted(talks))
        return Case(f"protocol: {kind}", "GET", pieces=(talks[kind],), patience=_LITTLE)

    def slow(self, random_: random.Random) -> Case:
        """A request that drips, for half a second at most."""
        whole = self._whole()
        cut = sorted(random_.sample(range(1, len(whole)), 5))
        edges = zip([0, *cut], [*cut, len(whole)], strict=True)
        return Case("slow", pieces=tuple(whole[start:end] for start, end in edges), pause=0.1)

    def broken_off(self, random_: random.Random) -> Case:
        """A client that hangs up in the middle of its request, or right after it."""
        whole = self._whole()
        end = len(whole) if random_.random() < 0.3 else random_.randrange(1, len(whole))
        return Case("broken off", pieces=(whole[:end],), hang_up=True)

    def _whole(self) -> bytes:
        media_type = f"Content-Type: multipart/form-data; boundary={BOUNDARY}".encode()
        headers = [KEY, media_type, b"Content-Length: %d" % len(self._form), _CLOSE]
        return request_bytes("POST", b"/v1/detect", headers, self._form)
