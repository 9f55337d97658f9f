"""Photos by address, fetched from the public internet alone: a caller must not reach what only the server reaches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import ClassVar, Final

import httpx

from service.recognition.errors import ImageError, TooManyBytes
from service.recognition.public_addresses import Address, is_public

_REDIRECTS: Final = 3
_SECONDS: Final = 15.0
_AT_ONCE: Final = 8
_PORTS: Final = {"http": 80, "https": 443}
Resolve = Callable[[str, int], Awaitable[list[Address]]]


class UrlRefused(ImageError):
    """The address is not one of the public internet that the server will fetch from."""

    code: ClassVar[str] = "url_refused"


class UrlFailed(ImageError):
    """The photo could not be fetched."""

    code: ClassVar[str] = "url_failed"
    status: ClassVar[int] = 422


class Fetcher:
    """Fetches photos of at most `max_bytes`, a few at a time.

    resolve, allowed, ports and seconds are for tests, whose sites are on this machine and thus not public.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        resolve: Resolve | None = None,
        allowed: Callable[[Address], bool] = is_public,
        ports: Mapping[str, int] = _PORTS,
        seconds: float = _SECONDS,
    ) -> None:
        self._max_bytes = max_bytes
        self._resolve = resolve or resolve_host
        self._allowed = allowed
        self._ports = ports
        self._seconds = seconds
        self._certificates = httpx.create_ssl_context()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """The body behind an http or https address. Raises UrlRefused, UrlFailed, TooManyBytes."""
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await self._fetch(url)
        except TimeoutError as error:
            raise UrlFailed(f"the address did not give its photo within {self._seconds:g} s") from error
        except httpx.InvalidURL as error:
            raise UrlRefused("this is no address") from error
        except (httpx.HTTPError, OSError) as error:
            # Its text may tell of the network in which the server stands.
            raise UrlFailed("the address could not be reached") from error

    async def _fetch(self, url: str) -> bytes:
        target = httpx.URL(url)
        # No proxy of the environment: it would resolve the name anew, and reach where it likes.
        async with httpx.AsyncClient(
            trust_env=False, verify=self._certificates, follow_redirects=False, timeout=self._seconds
        ) as client:
            for _ in range(1 + _REDIRECTS):
                address = await self._checked(target)
                # The very address that was checked is connected to; name and certificate stay the host's.
                pinned = target.copy_with(host=str(address), port=self._ports[target.scheme])
                sni = {"sni_hostname": target.raw_host.decode("ascii")}
                async with client.stream("GET", pinned, headers=_headers(target), extensions=sni) as answer:
                    if not answer.has_redirect_location:
                        return await self._read(answer)
                    onward = target.join(answer.headers["location"])
                if target.scheme == "https" and onward.scheme != "https":
                    raise UrlRefused("the address redirects from https to something less")
                target = onward
        raise UrlFailed(f"the address redirects more than {_REDIRECTS} times")

    async def _checked(self, target: httpx.URL) -> Address:
        """Where to connect: looked up once, so that it cannot be another by the time it is connected to."""
        if target.scheme not in self._ports or not target.raw_host or target.userinfo:
            raise UrlRefused("only plain http and https addresses are fetched")
        port = self._ports[target.scheme]
        if target.port not in (None, port):
            raise UrlRefused("only the usual ports are fetched from")
        try:
            found = await self._resolve(target.raw_host.decode("ascii"), port)
        except (OSError, UnicodeError):
            found = []
        # All of them: a name that also leads inside is refused whichever comes first. And in the same words as
        # one that leads nowhere, for which names there are inside is nobody's business.
        if not found or not all(self._allowed(address) for address in found):
            raise UrlRefused("the address does not lead to the public internet")
        return found[0]

    async def _read(self, answer: httpx.Response) -> bytes:
        if answer.status_code != 200:
            raise UrlFailed(f"the address answered {answer.status_code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise UrlFailed("the address packed its photo, which it was asked not to")
        parts, size = [], 0
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > self._max_bytes:
                raise TooManyBytes(f"the photo has more than {self._max_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)


async def resolve_host(host: str, port: int) -> list[Address]:
    """Every address of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _headers(target: httpx.URL) -> dict[str, str]:
    # Not packed: unpacking a small answer could take any amount of memory.
    return {"Host": target.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
