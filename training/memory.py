"""Keeping the C library from giving memory back to the system between batches, only to ask for it again."""

from __future__ import annotations

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed; whether that was possible (elsewhere there is nothing to set).

    By default every large tensor is mapped anew and unmapped when freed, so that each batch on a CPU
    pays for clearing and mapping the same pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
