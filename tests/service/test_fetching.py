"""Photos by address: from the public internet alone, whatever a name or a redirect says."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.recognition.errors import TooManyBytes
from service.recognition.fetching import Fetcher, UrlFailed, UrlRefused, resolve_host
from service.recognition.public_addresses import Address, is_public

BODY = b"\xff\xd8 a photo, as far as a fetcher cares"
HERE, INSIDE = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")
REDIRECTS = {
    "/inside": "http://inside.test/photo",
    "/here": "/photo",
    "/once": "/here",
    "/twice": "/once",
    "/thrice": "/twice",
    "/round": "/round",
    "/file": "file:///etc/passwd",
    "/nowhere": "http://[",
    "/plain": "http://photos.test/photo",
}


class Site(BaseHTTPRequestHandler):
    """A site on this machine, taken for a public one."""

    over = threading.Event()  # the test is
    asked: list[tuple[str, str, str]] = []  # noqa: RUF012 - (Host, path, Accept-Encoding) of one test

    def do_GET(self) -> None:
        self.asked.append((self.headers["Host"], self.path, self.headers["Accept-Encoding"]))
        if self.path in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[self.path])
            self.end_headers()
        elif self.path == "/packed":
            self._send(gzip.compress(bytes(10**7)), ("Content-Encoding", "gzip"))
        elif self.path == "/slow":
            self._send(BODY[:4])
            self.over.wait(30)
        elif self.path == "/photo":
            self._send(BODY)
        else:
            self.send_error(404)

    def _send(self, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class SiteV6(ThreadingHTTPServer):
    """The same on IPv6."""

    address_family = socket.AF_INET6


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[int]:
    Site.asked.clear()
    Site.over.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    Site.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def site() -> Iterator[int]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Site)) as port:
        yield port


async def resolve(host: str, _: int) -> list[Address]:
    """Names end in .test; `inside` leads to an address that is not allowed, `both` to one of each kind."""
    return {"inside.test": [INSIDE], "both.test": [HERE, INSIDE], "nowhere.test": []}.get(host, [HERE])


def fetch(port: int, url: str, max_bytes: int = 10**6, scheme: str = "http") -> bytes:
    ports = {"http": 80, scheme: port}
    fetcher = Fetcher(max_bytes, resolve=resolve, allowed=lambda address: address == HERE, ports=ports, seconds=2)
    return asyncio.run(fetcher.fetch(url))


def test_a_photo_is_fetched_from_the_address_that_was_checked(site: int) -> None:
    assert fetch(site, "http://photos.test/photo") == BODY
    assert Site.asked == [("photos.test", "/photo", "identity")]
    for way in ("/here", "/once", "/twice"):
        assert fetch(site, f"http://photos.test{way}") == BODY
    assert {host for host, *_ in Site.asked} == {"photos.test"}


@pytest.mark.parametrize(
    "url",
    [
        *("http://inside.test/photo", "http://both.test/photo", "http://nowhere.test/photo"),
        *("http://photos.test/inside", "http://photos.test/file"),
        *("http://photos.test:22/photo", "http://photos.test:443/photo", "http://user:secret@photos.test/photo"),
        *("https://photos.test/photo", "file:///etc/passwd", "gopher://photos.test/", "data:image/png;base64,AAAA"),
        *("http:///photo", "http://[::1", "http://\x00/", "//photos.test/photo", "photo.jpg", ""),
    ],
)
def test_everything_else_is_refused(site: int, url: str) -> None:
    if url.startswith("https:"):
        ports = {"http": site}
        with pytest.raises(UrlRefused):
            asyncio.run(Fetcher(99, resolve=resolve, ports=ports).fetch(url))
        return
    with pytest.raises(UrlRefused):
        fetch(site, url)
    assert all("/etc" not in path for _, path, _ in Site.asked)


def test_names_inside_are_told_like_names_that_are_not(site: int) -> None:
    told = set()
    for host in ("inside.test", "nowhere.test"):
        with pytest.raises(UrlRefused) as refusal:
            fetch(site, f"http://{host}/photo")
        told.add(str(refusal.value))
    assert len(told) == 1


@pytest.mark.parametrize("path", ["/missing", "/nowhere", "/round", "/thrice", "/packed", "/slow"])
def test_what_does_not_come_as_a_photo_is_told_without_details(site: int, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(UrlFailed) as failure:
        fetch(site, f"http://photos.test{path}")
    assert "127.0.0.1" not in str(failure.value)
    assert time.monotonic() - began < 20


def test_a_photo_has_its_size(site: int) -> None:
    assert fetch(site, "http://photos.test/photo", max_bytes=len(BODY)) == BODY
    with pytest.raises(TooManyBytes):
        fetch(site, "http://photos.test/photo", max_bytes=len(BODY) - 1)


def test_an_ipv6_address_is_connected_to() -> None:
    async def six(_: str, __: int) -> list[Address]:
        return [ipaddress.ip_address("::1")]

    with serving(SiteV6(("::1", 0), Site)) as port:
        fetcher = Fetcher(99, resolve=six, allowed=lambda _: True, ports={"http": port})
        assert asyncio.run(fetcher.fetch("http://photos.test/photo")) == BODY
        assert asyncio.run(fetcher.fetch("http://[2001:db8::1]/photo")) == BODY
    assert [host for host, *_ in Site.asked] == ["photos.test", "[2001:db8::1]"]


@pytest.fixture
def secure_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A site with a certificate for photos.test alone, which this test trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "photos.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("photos.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "site.pem").write_bytes(private + certificate.public_bytes(pem))
    (tmp_path / "trusted.pem").write_bytes(certificate.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "site.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        yield port


def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(secure_site: int) -> None:
    assert fetch(secure_site, "https://photos.test/photo", scheme="https") == BODY
    with pytest.raises(UrlFailed):
        fetch(secure_site, "https://another.test/photo", scheme="https")
    with pytest.raises(UrlRefused, match="redirects from https"):
        fetch(secure_site, "https://photos.test/plain", scheme="https")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_this_machine_is_not_public_however_it_is_spelt(url: str) -> None:
    with pytest.raises(UrlRefused, match="public internet"):
        asyncio.run(Fetcher(99).fetch(url))


def test_a_name_is_looked_up_whole() -> None:
    assert HERE in asyncio.run(resolve_host("localhost", 80))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
        *("100.100.100.200", "0.0.0.0", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9"),
        *("224.0.0.1", "233.252.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "192.88.99.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
        *("64:ff9b:1::808:808", "2002:7f00:1::", "2002:808:808::", "2001::1", "2001:db8::1", "100::1", "3fff::1"),
        *("5f00::1", "4000::1"),
    ],
)
def test_addresses_within_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_addresses_outside_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
