"""JSON that is broken, bottomless, or of the wrong types."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

from hostile_inputs.cases import JSON, Case

_ROUTES = (
    ("POST", "/v1/detect"),
    ("POST", "/v1/embed"),
    ("POST", "/v1/verify"),
    ("POST", "/v1/identify"),
    ("POST", "/v1/collections"),
    ("PUT", "/v1/collections/hostile"),
    ("PATCH", "/v1/collections/default"),
    ("POST", "/v1/collections/default/subjects"),
    ("PUT", "/v1/collections/default/subjects/hostile"),
    ("PATCH", "/v1/collections/default/subjects/hostile"),
    ("POST", "/v1/collections/default/subjects/hostile/merge"),
    ("POST", "/v1/collections/default/subjects/hostile/faces"),
    ("POST", "/v1/keys"),
    ("POST", "/api/v1/recognition/subjects"),
    ("PUT", "/api/v1/recognition/subjects/hostile"),
    ("POST", "/api/v1/recognition/faces?subject=hostile"),
    ("POST", "/api/v1/recognition/faces/delete"),
    ("POST", "/api/v1/recognition/recognize"),
    ("POST", "/api/v1/recognition/embeddings/recognize"),
    ("POST", "/api/v1/verification/embeddings/verify"),
    ("POST", "/api/v1/detection/detect"),
)
_FIELDS = (
    "image",
    "source",
    "target",
    "name",
    "metadata",
    "collection",
    "top_k",
    "far",
    "threshold",
    "max_faces",
    "face_id",
    "embedding",
    "embeddings",
    "encoding",
    "face_policy",
    "create_subject",
    "into",
    "role",
    "collections",
    "expires_at",
    "file",
    "subject",
    "targets",
    "url",
)
_TEXTS = (
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\ud800",
    "\udfff\ud800",
    "\U0001f9d1‍\U0001f9b0",
    "‮gnp.exe",
    "a" * 100_000,
    "../../etc/passwd",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "%s%s%n",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "data:image/png;base64,AAAA",
    "====",
    "QUJD\nREVG",
    "9999-99-99T99:99:99Z",
)
_NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0, 1e-320, 0.5)


class Documents:
    """Makes hostile JSON documents."""

    def typed(self, random_: random.Random) -> Case:
        """Well-formed, with fields of any type in any place."""
        document = {random_.choice(_FIELDS): _anything(random_, 3) for _ in range(random_.randrange(1, 5))}
        return self._sent(random_, "JSON of wrong types", json.dumps(document).encode())

    def broken(self, random_: random.Random) -> Case:
        """Text that JSON parsers differ on, or refuse."""
        field = random_.choice(_FIELDS)
        texts = {
            "JSON cut off": json.dumps({field: _anything(random_, 2)}).encode()[:-1],
            "JSON empty": b"",
            "JSON of NaN": b'{"%s": NaN, "far": Infinity, "top_k": -Infinity}' % field.encode(),
            "JSON with a lone surrogate": b'{"%s": "\\ud800", "name": "\\udc00\\ud800"}' % field.encode(),
            "JSON with U+0000": b'{"%s": "a\\u0000b", "metadata": {"\\u0000": 1}}' % field.encode(),
            "JSON of doubled fields": b'{"%s": 1, "%s": "a", "image": "", "image": []}' % ((field.encode(),) * 2),
            "JSON with a byte order mark": b"\xef\xbb\xbf{}",
            "JSON in UTF-16": json.dumps({field: "a"}).encode("utf-16"),
            "JSON in no UTF-8": b'{"%s": "\xff\xfe\xc0\xaf\xed\xa0\x80"}' % field.encode(),
            "JSON with comments": b'{/* a */ "%s": 1, // b\n}' % field.encode(),
            "JSON scalar": random_.choice((b"1", b"null", b'"a"', b"true", b"[]", b"[[]]", b"-")),
            "JSON noise": random_.randbytes(random_.randrange(1, 300)),
        }
        kind = random_.choice(sorted(texts))
        return self._sent(random_, kind, texts[kind])

    def deep(self, random_: random.Random) -> Case:
        """Nested further than any stack."""
        depth = random_.choice((100, 1_000, 10_000, 200_000))
        opening, closing = random_.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"metadata":', b"}"), (b"[{", b"}]")))
        end = closing * depth if random_.random() < 0.5 else b""
        field = random_.choice(("metadata", "image", "embedding", "source", "embeddings"))
        return self._sent(random_, "JSON deep", b'{"%s": ' % field.encode() + opening * depth + b"1" + end + b"}")

    def giant(self, random_: random.Random) -> Case:
        """Numbers of many digits, lists of many numbers, objects of many keys."""
        field = random_.choice(("far", "threshold", "top_k", "max_faces", "embedding", "metadata")).encode()
        values = {
            "JSON of many digits": b"9" * random_.choice((400, 5_000, 100_000)),
            "JSON of many decimals": b"0." + b"3" * 100_000,
            "JSON of a giant exponent": random_.choice((b"1e999", b"-1e999", b"1e-999", b"1e999999999999999999")),
            "JSON of many numbers": b"[" + b"0.1," * 50_000 + b"0]",
            "JSON of many keys": b"{" + b",".join(b'"k%d":0' % number for number in range(20_000)) + b"}",
            "JSON of a long text": b'"' + b"a" * 1_000_000 + b'"',
        }
        kind = random_.choice(sorted(values))
        return self._sent(random_, kind, b'{"%s": ' % field + values[kind] + b"}")

    def mislabelled(self, random_: random.Random) -> Case:
        """A body that is not what its type says."""
        bodies = {
            "XML of entities": ("application/xml", _BILLION_LAUGHS),
            "XML as JSON": (JSON, _BILLION_LAUGHS),
            "form as JSON": (JSON, b"image=1&far=2"),
            "urlencoded": ("application/x-www-form-urlencoded", b"image=%00%ff&" * 1000),
            "plain text": ("text/plain", b"{}"),
            "JSON of a strange charset": ("application/json; charset=utf-7", b"+AHs-+AH0-"),
            "no type": ("", b"{}"),
            "a strange type": ("application/json, multipart/form-data", b"{}"),
            "a long type": ("application/" + "j" * 4000, b"{}"),
            "pickle": ("application/octet-stream", b"\x80\x04cos\nsystem\n(S'id'\ntR."),
        }
        kind = random_.choice(sorted(bodies))
        media_type, body = bodies[kind]
        method, target = random_.choice(_ROUTES)
        headers = (("Content-Type", media_type),) if media_type else ()
        return Case(f"type: {kind}", method, target, headers, body)

    def compressed(self, random_: random.Random) -> Case:
        """A compressed body: small on the wire, large if anybody unpacked it."""
        method, target = random_.choice(_ROUTES)
        coding = random_.choice(("gzip", "deflate", "br", "gzip, gzip", "identity, gzip"))
        headers = (("Content-Type", JSON), ("Content-Encoding", coding))
        return Case("body bomb", method, target, headers, _COMPRESSED)

    def _sent(self, random_: random.Random, kind: str, body: bytes) -> Case:
        method, target = random_.choice(_ROUTES)
        return Case(kind, method, target, (("Content-Type", JSON),), body)


def _anything(random_: random.Random, depth: int) -> Any:
    choice = random_.randrange(8 if depth else 5)
    if choice == 0:
        return random_.choice((None, True, False))
    if choice in (1, 2):
        return random_.choice(_NUMBERS)
    if choice in (3, 4):
        return random_.choice(_TEXTS)
    if choice == 5:
        return [_anything(random_, depth - 1) for _ in range(random_.randrange(4))]
    return {random_.choice((*_FIELDS, *_TEXTS[:6])): _anything(random_, depth - 1) for _ in range(random_.randrange(4))}


_BILLION_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (level, b"&a%d;" % (level - 1) * 10) for level in range(1, 10))
    + b"]><l>&a9;</l>"
)
_COMPRESSED = gzip.compress(bytes(2**26))
