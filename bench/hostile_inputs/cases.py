"""What is sent: an HTTP request for a client library, or bytes for the wire as they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

JSON = "application/json"
PATIENCE = 30.0
BOUNDARY = "hostile-boundary"
ADMIN_KEY = "an admin key for hostile inputs only"
KEY = f"X-API-Key: {ADMIN_KEY}".encode()
PHOTO_ROUTES = (
    ("/v1/detect", "image"),
    ("/v1/embed", "image"),
    ("/v1/identify", "image"),
    ("/v1/collections/default/subjects/hostile/faces", "image"),
    ("/api/v1/detection/detect", "file"),
    ("/api/v1/recognition/recognize", "file"),
    ("/api/v1/recognition/faces?subject=hostile", "file"),
)


@dataclass(frozen=True)
class Case:
    """One hostile input.

    A request: method, target, headers and body go through httpx, with the key added. Or `pieces`: bytes
    for the socket, sent with `pause` seconds between them; `hang_up` ends the connection before the answer.
    patience: seconds to wait for an answer. An input that may not be a whole request has little, and then ends
    the connection; one that is waits long, and no answer is a fault.
    """

    kind: str
    method: str = "POST"
    target: str = "/"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    pieces: Sequence[bytes] = field(default=())
    pause: float = 0.0
    hang_up: bool = False
    patience: float = PATIENCE

    @property
    def whole(self) -> bool:
        """Whether the server owes an answer."""
        return not self.hang_up and self.patience == PATIENCE

    @property
    def compatible(self) -> bool:
        """Whether CompreFace's shape of errors is due, which is not a problem document."""
        return self.target.startswith("/api/v1/")


Maker = Callable[[random.Random], Case]


def form(field_name: str, data: bytes, filename: str = "photo.jpg") -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Headers and body of a correct multipart form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="{filename}"\r\n\r\n'
    body = head.encode("utf-8", "surrogatepass") + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return (("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"),), body


def request_bytes(method: str, target: bytes, headers: Sequence[bytes] = (), body: bytes = b"") -> bytes:
    """A request as it travels, with a Host, and without a Content-Length unless `headers` hold one."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: 127.0.0.1", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
