"""Cursors of lists: opaque to clients, so that the order behind them may change."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from service.gallery.errors import InvalidCursor

_PLAIN: Final = re.compile(r"([a-z]+):(\d{1,19})")
_LARGEST_KEY: Final = 2**63 - 1


def encode_cursor(listing: str, last: int) -> str:
    """A cursor for the page after the row with key `last` of `listing` (`subjects`, `faces` …)."""
    return base64.urlsafe_b64encode(f"{listing}:{last}".encode()).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str | None) -> int:
    """The key after which the page begins: 0 without a cursor.

    Raises InvalidCursor for anything that `encode_cursor` did not make for this listing.
    """
    if cursor is None:
        return 0
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        plain = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor("the cursor was not made by this server; start again without one") from error
    match = _PLAIN.fullmatch(plain)
    if match is None or match[1] != listing or int(match[2]) > _LARGEST_KEY:
        raise InvalidCursor(f"the cursor does not belong to this list of {listing}; start again without one")
    return int(match[2])
