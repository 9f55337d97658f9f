"""Addresses, parameters and headers that no client should send."""

from __future__ import annotations

import random
from urllib.parse import quote

from hostile_inputs.cases import JSON, KEY, Case, request_bytes

_SEGMENTS = (
    "..",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2f",
    "..%5c..%5cwindows",
    "..%252f..%252f",
    "%00",
    "a%00b",
    "a%0d%0aX-Injected:%201",
    "%c0%ae%c0%ae%c0%af",
    "%ff%fe",
    "%ed%a0%80",
    "%zz",
    "%",
    "%u0041",
    "a" * 129,
    "a" * 20_000,
    "%20",
    "%09",
    "a%2Fb",
    "a;b",
    "a?b",
    "'%20OR%201=1--",
    "$(id)",
    "`id`",
    "{{7*7}}",
    "~root",
    "CON",
    "-1",
    "1e400",
    "null",
    "%F0%9F%A7%91%E2%80%8D%F0%9F%A6%B0",
    "%E2%80%AE",
    "e%CC%81",
    "",
    ".",
    "file:%2f%2f%2fetc%2fpasswd",
)
_PLACES = (
    "/v1/collections/{}",
    "/v1/collections/{}/subjects",
    "/v1/collections/{}/import",
    "/v1/collections/{}/export",
    "/v1/collections/default/subjects/{}",
    "/v1/collections/default/subjects/{}/merge",
    "/v1/collections/default/subjects/{}/faces",
    "/v1/collections/default/subjects/hostile/faces/{}",
    "/v1/collections/default/subjects/hostile/faces/{}/crop",
    "/v1/keys/{}",
    "/v1/jobs/{}",
    "/v1/jobs/{}/cancel",
    "/v1/audit/{}",
    "/static/{}",
    "/{}",
    "/api/v1/recognition/subjects/{}",
    "/api/v1/recognition/faces/{}",
    "/api/v1/recognition/faces/{}/img",
    "/api/v1/recognition/faces/{}/verify",
    "/api/v1/recognition/faces?subject={}",
)
_METHODS = ("GET", "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS")
_LISTS = (
    "/v1/collections",
    "/v1/collections/default/subjects",
    "/v1/collections/default/subjects/hostile/faces",
    "/v1/audit",
    "/v1/jobs",
    "/v1/keys",
    "/api/v1/recognition/faces",
    "/api/v1/recognition/subjects",
)
_PARAMETERS = (
    *("limit", "cursor", "search", "page", "size", "subject", "far", "threshold", "top_k", "max_faces", "collection"),
    *("face_policy", "create_subject", "det_prob_threshold", "prediction_count", "status", "face_plugins", "action"),
    *("encoding", "key_id"),
)
_VALUES = (
    *("", "-1", "0", "1e400", "NaN", "inf", "9" * 5000, "0x10", "1_000", "1.5", "true", "null", "[]", "a" * 30_000),
    *("\0", "\n", "\ud7ff", "%", "../x", "' OR 1=1 --", "\U0001f9d1", "c3ViamVjdHM6OTk5OTk5OTk5OTk5OTk5OTk5OTk"),
    *("c3ViamVjdHM6LTE", "ZmFjZXM6MQ", "٣", "²", "default,default"),
)
_SPLIT = ("GET", "DELETE")


class Addresses:
    """Makes hostile addresses and headers."""

    def identified(self, random_: random.Random) -> Case:
        """An identifier that looks like a path, a query, or nothing anybody can print."""
        segment = random_.choice(_SEGMENTS)
        if random_.random() < 0.2:
            segment = quote(random_.randbytes(random_.randrange(1, 40)))
        target = random_.choice(_PLACES).format(segment)
        method = random_.choice(_METHODS)
        body = b"" if method in _SPLIT else b"{}"
        headers = [b"Content-Type: " + JSON.encode(), b"Content-Length: %d" % len(body), b"Connection: close"]
        pieces = (request_bytes(method, target.encode("utf-8", "surrogatepass"), [*headers, KEY], body),)
        return Case("identifier", method, target, pieces=pieces)

    def questioned(self, random_: random.Random) -> Case:
        """Parameters out of range, doubled, or of another kind."""
        pairs = [(random_.choice(_PARAMETERS), random_.choice(_VALUES)) for _ in range(random_.randrange(1, 4))]
        if random_.random() < 0.05:
            pairs *= 500
        query = "&".join(f"{name}={quote(value, errors='replace')}" for name, value in pairs)
        return Case("parameters", "GET", f"{random_.choice(_LISTS)}?{query}"[:60_000])

    def headed(self, random_: random.Random) -> Case:
        """Headers that are huge, many, doubled or unprintable."""
        lines: dict[str, list[bytes]] = {
            "header of 100 KiB": [b"X-Large: " + b"h" * 100_000],
            "headers by the thousand": [b"X-Many-%d: 1" % number for number in range(1500)],
            "header of a long name": [b"N" * 20_000 + b": 1"],
            "key of bytes": [b"X-API-Key: \xff\xfe\xc0\xaf"],
            "key of 60 KB": [b"X-API-Key: " + b"k" * 60_000],
            "key twice": [KEY, b"X-API-Key: other"],
            "key that injects": [b"X-API-Key: ' OR '1'='1"],
            "bearer of nothing": [b"Authorization: Bearer"],
            "basic": [b"Authorization: Basic " + b"A" * 3000],
            "bearer of bytes": [b"Authorization: Bearer \xff\xfe\xed\xa0\x80"],
            "request id that injects": [KEY, b"X-Request-ID: a\x0bb<script>"],
            "idempotency key": [KEY, b"Idempotency-Key: " + random_.choice((b"", b"\xff", b"a b", b"k" * 5000))],
            "etag": [KEY, b"If-None-Match: " + random_.choice((b"*", b'"', b'W/"1"', b'"' + b"9" * 5000 + b'"'))],
            "match": [KEY, b"If-Match: " + random_.choice((b"*", b'"', b"1,2,3", b'"-1"', b'"\xff"'))],
            "range": [KEY, b"Range: bytes=" + b",".join(b"0-1" for _ in range(2000))],
            "forwarded": [KEY, b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"Forwarded: for=_x"],
            "host": [KEY, b"X-Forwarded-Host: evil.example"],
            "origin": [KEY, b"Origin: https://evil.example", b"Access-Control-Request-Method: DELETE"],
            "tracing": [KEY, b"traceparent: " + random_.choice((b"00-0-0-0", b"ff-" + b"f" * 500, b"\xff"))],
            "accept": [KEY, b"Accept: " + b"text/html;q=0.1," * 500, b"Accept-Encoding: gzip;q=NaN"],
            "cookies": [KEY, b"Cookie: " + b"a=b; " * 2000],
        }
        kind = random_.choice(sorted(lines))
        method = random_.choice(("GET", "GET", "DELETE", "OPTIONS"))
        target = random_.choice((*_LISTS, "/", "/static/page.css", "/healthz", "/metrics", "/openapi.json"))
        extra = [*lines[kind], b"Connection: close"]
        return Case(f"header: {kind}", method, target, pieces=(request_bytes(method, target.encode(), extra),))
