"""Photos by address, fetched from the public internet alone: a caller must not reach what only the server reaches."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

import httpx

from service.recognition.errors import ImageError, TooManyBytes

_REDIRECTS: Final = 3
_SECONDS: Final = 15.0
_PORTS: Final = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]
_EMBEDDING: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class UrlRefused(ImageError):
    """The address is not one of the public internet that the server will fetch from."""

    code: ClassVar[str] = "url_refused"


class UrlFailed(ImageError):
    """The photo could not be fetched."""

    code: ClassVar[str] = "url_failed"
    status: ClassVar[int] = 422


class Fetcher:
    """Fetches photos of at most `max_bytes`. resolve, allowed and ports are for tests: of what is no public address."""

    def __init__(
        self,
        max_bytes: int,
        *,
        resolve: Resolve | None = None,
        allowed: Callable[[Address], bool] | None = None,
        ports: dict[str, int] | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._resolve = resolve or resolve_host
        self._allowed = allowed or is_public
        self._ports = ports or _PORTS

    async def fetch(self, url: str) -> bytes:
        """The body behind an http or https address. Raises UrlRefused, UrlFailed, TooManyBytes."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._fetch(url)
        except TimeoutError as error:
            raise UrlFailed(f"the address did not give its photo within {_SECONDS:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Its text may tell of the network in which the server stands.
            raise UrlFailed("the address could not be reached") from error

    async def _fetch(self, url: str) -> bytes:
        # No proxy of the environment: it would resolve the name anew, and reach where it likes.
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_SECONDS) as client:
            for _ in range(1 + _REDIRECTS):
                address, target = await self._checked(url)
                # The very address that was checked is connected to; name and certificate stay the host's.
                pinned = target.copy_with(host=str(address))
                headers = {"Host": target.netloc.decode("ascii"), "Accept": "image/*"}
                extensions = {"sni_hostname": target.host}
                async with client.stream("GET", pinned, headers=headers, extensions=extensions) as answer:
                    if answer.is_redirect:
                        url = str(target.join(answer.headers.get("location", "")))
                        continue
                    if answer.status_code != 200:
                        raise UrlFailed(f"the address answered {answer.status_code}")
                    return await self._read(answer)
        raise UrlFailed(f"the address redirects more than {_REDIRECTS} times")

    async def _checked(self, url: str) -> tuple[Address, httpx.URL]:
        target = httpx.URL(url)
        if target.scheme not in self._ports or not target.host or target.userinfo:
            raise UrlRefused("only plain http and https addresses are fetched")
        port = target.port or self._ports[target.scheme]
        if port != self._ports[target.scheme]:
            raise UrlRefused("only the usual ports are fetched from")
        found = await self._resolve(target.host, port)
        # All of them: a name that also leads inside is refused whichever comes first.
        if not found or not all(self._allowed(address) for address in found):
            raise UrlRefused("the address does not lead to the public internet")
        return found[0], target.copy_with(port=port)

    async def _read(self, answer: httpx.Response) -> bytes:
        parts, size = [], 0
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            if size > self._max_bytes:
                raise TooManyBytes(f"the photo has more than {self._max_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)


async def resolve_host(host: str, port: int) -> list[Address]:
    """Every address of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, also that which an IPv6 address holds within."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if within is not None:
            return is_public(within)
        if any(address in network for network in _EMBEDDING):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast
