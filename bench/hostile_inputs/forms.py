"""Multipart forms that are malformed, doubled, or endless."""

from __future__ import annotations

import random

from hostile_inputs.cases import BOUNDARY, PHOTO_ROUTES, Case
from hostile_inputs.photos import drawn, encode

_NAMES = (
    '"image"; filename="../../../../etc/cron.d/evil"',
    '"image"; filename="C:\\\\windows\\\\win.ini"',
    '"image"; filename="a\\"b; c=d"',
    "image; filename=unquoted.jpg",
    "\"image\"; filename*=UTF-8''%00%ff%c0%af",
    '"image"; filename="' + "n" * 20_000 + '"',
    '"im\0age"; filename="p.jpg"',
    '""; filename="p.jpg"',
    '"\U0001f9d1"; filename="\U0001f9d1.jpg"',
    '"image"',
    '"__proto__"; filename="p.jpg"',
    '"image[]"; filename="p.jpg"',
)
_TYPES = (
    f"multipart/form-data; boundary={BOUNDARY}",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=" + "b" * 5000,
    f'multipart/form-data; boundary="{BOUNDARY}"; boundary=other',
    f"multipart/form-data; boundary={BOUNDARY}; charset=utf-16",
    f"multipart/form-data; boundary={BOUNDARY}; charset=nonsense",
    f"multipart/mixed; boundary={BOUNDARY}",
    "multipart/form-data; boundary=wrong",
    "multipart/form-data; boundary=\xff\xfe",
)


class Forms:
    """Makes hostile forms around one small photo."""

    def __init__(self) -> None:
        self._photo = encode(drawn(96), "JPEG")

    def misnamed(self, random_: random.Random) -> Case:
        """Strange names of fields and files."""
        target, field = random_.choice(PHOTO_ROUTES)
        name = random_.choice(_NAMES).replace("image", field)
        return _sent(
            "form of strange names", target, _part(f"Content-Disposition: form-data; name={name}", self._photo)
        )

    def repeated(self, random_: random.Random) -> Case:
        """More parts than anybody needs."""
        target, field = random_.choice(PHOTO_ROUTES)
        head = f'Content-Disposition: form-data; name="{field}"; filename="p.jpg"'
        count = random_.choice((2, 2, 25, 1500))
        data = self._photo if count < 3 else b"x"
        plain = f'Content-Disposition: form-data; name="{random_.choice((field, "far", "limit"))}"'
        parts = (
            [_part(head, data), _part(plain, b"1")] * count if random_.random() < 0.5 else [_part(head, data)] * count
        )
        return _sent("form of doubled fields", target, b"".join(parts))

    def malformed(self, random_: random.Random) -> Case:
        """Forms that break the grammar of MIME."""
        target, field = random_.choice(PHOTO_ROUTES)
        head = f'Content-Disposition: form-data; name="{field}"; filename="p.jpg"'
        good = _part(head, self._photo)
        edge = f"--{BOUNDARY}".encode()
        bodies = {
            "form without an end": (good, b""),
            "form cut off": (good[: random_.randrange(1, len(good))], b""),
            "form of nothing": (b"", b""),
            "form of only an end": (b"", edge + b"--\r\n"),
            "form without dispositions": (_part("X-Nothing: 1", self._photo), edge + b"--\r\n"),
            "form of headers without colons": (_part("Content-Disposition form-data name", b"1"), edge + b"--"),
            "form of endless headers": (_part("X: " + "y" * 200_000, b"1"), edge + b"--"),
            "form of many headers": (_part("\r\n".join(["X-H: 1"] * 5000), b"1"), edge + b"--"),
            "form of bare line feeds": (good.replace(b"\r\n", b"\n"), edge + b"--\n"),
            "form of bare returns": (good.replace(b"\r\n", b"\r"), edge + b"--\r"),
            "form with a preamble": (b"preamble " * 50_000 + b"\r\n" + good, edge + b"--\r\n"),
            "form with an epilogue": (good, edge + b"--\r\n" + b"epilogue " * 50_000),
            "form in a form": (_part(head, _part(head, self._photo) + edge + b"--\r\n"), edge + b"--\r\n"),
            "form of transfer codings": (_part(head + "\r\nContent-Transfer-Encoding: base64", b"!!!!"), edge + b"--"),
            "form in no UTF-8": (_part(head, b"").replace(field.encode(), b"\xff\xfe\xc0\xaf"), edge + b"--"),
            "form noise": (random_.randbytes(500), b""),
        }
        kind = random_.choice(sorted(bodies))
        body, end = bodies[kind]
        return Case(kind, "POST", target, (("Content-Type", _TYPES[0]),), body + end)

    def mistyped(self, random_: random.Random) -> Case:
        """A good form under a bad Content-Type."""
        target, field = random_.choice(PHOTO_ROUTES)
        good = _part(f'Content-Disposition: form-data; name="{field}"; filename="p.jpg"', self._photo)
        body = good + f"--{BOUNDARY}--\r\n".encode()
        return Case("form of a strange type", "POST", target, (("Content-Type", random_.choice(_TYPES[1:])),), body)


def _part(head: str, data: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"


def _sent(kind: str, target: str, parts: bytes) -> Case:
    return Case(kind, "POST", target, (("Content-Type", _TYPES[0]),), parts + f"--{BOUNDARY}--\r\n".encode())
