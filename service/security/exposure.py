"""Whether a service may listen where it was told to."""

from __future__ import annotations

import ipaddress


class Exposed(Exception):
    """The service would let anybody in; the message is one line with the remedy."""


def is_loopback(host: str) -> bool:
    """Whether a host, named or numbered, is this machine as only it can reach itself."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(auth: str, address: str) -> None:
    """Refuse a service without keys on an address that others can reach. address: as the socket is bound.

    Raises Exposed.
    """
    if auth == "off" and not is_loopback(address):
        raise Exposed(
            f"without authentication everybody who reaches {address} could do everything: "
            "listen on 127.0.0.1, or leave FACEMARGIN_AUTH at `required`"
        )
