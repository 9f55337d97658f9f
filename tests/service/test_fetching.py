"""Photos by address: from the public internet alone, whatever a name or a redirect says."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.recognition.errors import ImageError, TooManyBytes
from service.recognition.fetching import Address, Fetcher, UrlFailed, UrlRefused, is_public

BODY = b"\xff\xd8 a photo, as far as a fetcher cares"


class Site(BaseHTTPRequestHandler):
    """A site on this machine, taken for a public one."""

    hosts: list[str] = []  # noqa: RUF012 - one site a test

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        where = {
            "/inside": "http://inside.test/photo",
            "/here": "/photo",
            "/round": "/round",
            "/file": "file:///etc/passwd",
        }
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
        elif self.path == "/photo":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(BODY)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Site.hosts.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def fetcher(port: int, max_bytes: int = 1000) -> Fetcher:
    """Names end in .test; `inside` leads to an address that is not allowed, `both` to one of each kind."""
    public, private = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")

    async def resolve(host: str, _: int) -> list[Address]:
        return {"inside.test": [private], "both.test": [public, private], "nowhere.test": []}.get(host, [public])

    return Fetcher(max_bytes, resolve=resolve, allowed=lambda address: address == public, ports={"http": port})


def fetch(port: int, url: str, max_bytes: int = 1000) -> bytes:
    return asyncio.run(fetcher(port, max_bytes).fetch(url))


def test_a_photo_is_fetched_from_the_address_that_was_checked(site: int) -> None:
    assert fetch(site, "http://photos.test/photo") == BODY
    assert fetch(site, "http://photos.test/here") == BODY
    assert all(host.startswith("photos.test") for host in Site.hosts)


@pytest.mark.parametrize(
    "url",
    [
        "http://inside.test/photo",
        "http://both.test/photo",
        "http://nowhere.test/photo",
        "http://photos.test/inside",
        "http://photos.test/file",
        "http://photos.test:22/photo",
        "http://user:secret@photos.test/photo",
        "https://photos.test/photo",
        "file:///etc/passwd",
        "gopher://photos.test/",
        "http:///photo",
        "photo.jpg",
        "",
    ],
)
def test_everything_else_is_refused(site: int, url: str) -> None:
    with pytest.raises(UrlRefused):
        fetch(site, url)
    assert "/etc" not in str(Site.hosts)


def test_what_does_not_come_is_told_without_details(site: int) -> None:
    for url in ("http://photos.test/missing", "http://photos.test/round", "http://[::1"):
        with pytest.raises(ImageError) as failure:
            fetch(site, url)
        assert isinstance(failure.value, UrlFailed)
        assert "127.0.0.1" not in str(failure.value)
    with pytest.raises(TooManyBytes):
        fetch(site, "http://photos.test/photo", max_bytes=10)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    ],
)
def test_addresses_within_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_outside_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
