"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
from typing import Final

# glibc keeps what many lists freed: without this a compaction leaves the process twice as large (measured: 3.0 kB of
# memory a face of 1.1 kB; 1.2 kB with it). Other C libraries have no such call, and no need of it.
_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return to the system what the process has freed."""
    if _TRIM is not None:
        _TRIM(0)
