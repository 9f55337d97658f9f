"""Whether a service may listen where it was told to."""

from __future__ import annotations

import ipaddress


class Exposed(Exception):
    """The service would let anybody in; the message is one line with the remedy."""


def check_exposure(auth: str, address: str) -> None:
    """Refuse a service without keys on an address that others can reach. address: as the socket is bound.

    Raises Exposed.
    """
    if auth == "off" and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise Exposed(
            f"without authentication everybody who reaches {address} could do everything: "
            "listen on 127.0.0.1, or leave FACEMARGIN_AUTH at `required`"
        )
