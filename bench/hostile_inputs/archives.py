"""Imports that are no imports: archives that explode or climb out of their folder, lines that are no faces."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable

from hostile_inputs.cases import Case
from hostile_inputs.photos import drawn, encode

_TARGET = "/v1/collections/hostile-import/import"
_MIB = 2**20


class Archives:
    """Makes hostile imports. They go to a collection that nobody has made, or to one that is there."""

    def __init__(self) -> None:
        self._zips = {name: make() for name, make in _ZIPS.items()}
        self._zips["zip cut off"] = self._zips["zip of climbing names"][:-30]
        self._lines = {name: make() for name, make in _LINES.items()}

    def imported(self, random_: random.Random) -> Case:
        """A hostile import."""
        bodies = {**self._zips, **self._lines}
        kind = random_.choice(sorted(bodies))
        claimed = "application/zip" if kind in self._zips else "application/x-ndjson"
        media_type = claimed if random_.random() < 0.8 else random_.choice(("application/x-ndjson", "text/csv", ""))
        headers = (("Content-Type", media_type),) if media_type else ()
        target = random_.choice((_TARGET, "/v1/collections/default/import"))
        return Case(f"import: {kind}", "POST", target, headers, bodies[kind])


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method, compresslevel=9) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def _climbing() -> bytes:
    photo = encode(drawn(96), "JPEG")
    names = (
        "../../evil/a.jpg",
        "/etc/evil/a.jpg",
        "C:\\evil\\a.jpg",
        "a/../../b.jpg",
        "a\\..\\b.jpg",
        "./a/b.jpg",
        "a//b.jpg",
    )
    return _zip(dict.fromkeys(names, photo))


def _link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("subject/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return file.getvalue()


def _lying() -> bytes:
    """Announces one byte, holds 32 MiB."""
    data = bytearray(_zip({"a/b.jpg": bytes(32 * _MIB)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 1)
    return bytes(data)


def _encrypted() -> bytes:
    data = bytearray(_zip({"a/b.jpg": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


_ZIPS: dict[str, Callable[[], bytes]] = {
    "zip of nothing": lambda: _zip({}),
    "zip bomb": lambda: _zip({"subject/photo.jpg": bytes(128 * _MIB)}),
    "zip of many": lambda: _zip({f"subject/{number}.jpg": b"x" for number in range(5000)}),
    "zip in a zip": lambda: _zip({"subject/photo.zip": _zip({"a/b.jpg": bytes(8 * _MIB)})}),
    "zip of climbing names": _climbing,
    "zip of a link": _link,
    "zip that lies": _lying,
    "zip of secrets": _encrypted,
    "zip of strange names": lambda: _zip(
        {"\U0001f9d1/\u202e.jpg": b"x", "a" * 300 + "/b.jpg": b"x", "a\n/b.jpg": b"x"}
    ),
    "zip by bzip2": lambda: _zip({"a/b.jpg": bytes(_MIB)}, zipfile.ZIP_BZIP2),
    "no zip": lambda: b"PK\x05\x06" + b"\xff" * 18,
}
_LINES: dict[str, Callable[[], bytes]] = {
    "lines of noise": lambda: b"\n".join([b"{", b"", b"null", b"[]", b"\xff\xfe", b"[" * 5000, b"1e999", b'"a"']),
    "one endless line": lambda: b'{"a": "' + b"a" * (2 * _MIB),
    "lines of nothing": lambda: b"\n" * 200_000,
    "lines of wrong faces": lambda: b"\n".join(
        json.dumps(line).encode()
        for line in (
            {"format": "facemargin", "version": 10**30},
            {"subject": "../..", "embedding": [1e308] * 512},
            {"subject_id": "a", "embedding": [0.0] * 512, "model": "x@0"},
            {"subject_id": "a" * 10_000, "embedding": "AAAA", "face_id": "'; DROP TABLE faces"},
        )
    ),
}
