"""The bytes of a snapshot: a stamp in JSON, a stream of blocks (sealed, where there is a key), a SHA-256 of it all.

Layout, little-endian: magic (8), length of the stamp (4), stamp; blocks of length (4) and that many bytes; a length
of 0; digest (32) of everything before it. Nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.security.sealing import Sealer

_MAGIC: Final = b"FMINDEX\n"
_BLOCK: Final = 4 * 2**20
_LENGTH_BYTES: Final = 4
_DIGEST_BYTES: Final = 32
_LONGEST_STAMP: Final = 64 * 1024
_SEALING_ADDS: Final = 28  # nonce and tag
_AT_ONCE: Final = 2**20


class SnapshotUnusable(Exception):
    """A snapshot cannot be used; the message says why, in a few words."""


class SnapshotWriter:
    """Writes the stamp, then arrays one after the other, then the digest."""

    def __init__(self, file: IO[bytes], stamp: Mapping[str, Any], sealer: Sealer) -> None:
        self._file = file
        self._sealer = sealer
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._blocks = 0
        # Compared as it stands with what is read: the seal of every block covers the stamp.
        self._stamp = json.dumps({**stamp, "sealed_with": sealer.current}, sort_keys=True).encode()
        self._put(_MAGIC + _length(self._stamp) + self._stamp)

    def write(self, values: NDArray[Any]) -> None:
        """Append an array's bytes."""
        view = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        for start in range(0, len(view), _BLOCK):
            self._pending += view[start : start + _BLOCK]
            while len(self._pending) >= _BLOCK:
                self._put_block(bytes(self._pending[:_BLOCK]))
                del self._pending[:_BLOCK]

    def finish(self) -> None:
        """Write what is pending, the end and the digest."""
        if self._pending:
            self._put_block(bytes(self._pending))
            self._pending.clear()
        self._put(_length(b""))
        self._file.write(self._digest.digest())

    def _put_block(self, data: bytes) -> None:
        if self._sealer.current is not None:
            data = self._sealer.seal(data, _context(self._stamp, self._blocks))
        self._blocks += 1
        self._put(_length(data) + data)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class SnapshotReader:
    """Reads what SnapshotWriter wrote, once the digest is right. stamp: what was said of it.

    Raises SnapshotUnusable, SealError.
    """

    def __init__(self, file: IO[bytes], sealer: Sealer) -> None:
        _check_digest(file)
        self._file = file
        self._sealer = sealer
        self._blocks = 0
        self._ready = memoryview(b"")
        size = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
        if size > _LONGEST_STAMP:
            raise SnapshotUnusable("its stamp is too long")
        self._stamp = self._file.read(size)
        try:
            stamp = json.loads(self._stamp)
        except ValueError as error:
            raise SnapshotUnusable("its stamp cannot be read") from error
        if not isinstance(stamp, dict):
            raise SnapshotUnusable("its stamp cannot be read")
        self.stamp: Mapping[str, Any] = stamp
        if stamp.get("sealed_with") != sealer.current:
            # Also a plain one, where there is a key by now: it is to be written anew, sealed.
            raise SnapshotUnusable("it is not sealed as the settings ask")

    def read(self, dtype: DTypeLike, *shape: int) -> NDArray[Any]:
        """The next array, of this type and shape."""
        kind = np.dtype(dtype)
        wanted = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if wanted < 0:
            raise SnapshotUnusable("a length in it is negative")
        data = bytearray()
        while len(data) < wanted:
            if not self._ready:
                self._ready = memoryview(self._next_block())
            taken = self._ready[: wanted - len(data)]
            data += taken
            self._ready = self._ready[len(taken) :]
        return np.frombuffer(data, kind).reshape(shape)

    def _next_block(self) -> bytes:
        size = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
        if not 0 < size <= _BLOCK + _SEALING_ADDS:
            raise SnapshotUnusable("it is shorter than its stamp says")
        data = self._file.read(size)
        if self._sealer.current is not None:
            data = self._sealer.open(data, _context(self._stamp, self._blocks), self._sealer.current)
        self._blocks += 1
        return data


def _check_digest(file: IO[bytes]) -> None:
    """Read all of it, and stand after the magic. Raises SnapshotUnusable."""
    file.seek(0, 2)
    left = file.tell() - _DIGEST_BYTES
    file.seek(0)
    if left < len(_MAGIC) or file.read(len(_MAGIC)) != _MAGIC:
        raise SnapshotUnusable("it is not a snapshot")
    digest = hashlib.sha256(_MAGIC)
    left -= len(_MAGIC)
    while left > 0:
        data = file.read(min(left, _AT_ONCE))
        if not data:
            raise SnapshotUnusable("it became shorter while it was read")
        digest.update(data)
        left -= len(data)
    if digest.digest() != file.read(_DIGEST_BYTES):
        raise SnapshotUnusable("its digest is wrong")
    file.seek(len(_MAGIC))


def _context(stamp: bytes, block: int) -> bytes:
    return f"block {block} of the snapshot {hashlib.sha256(stamp).hexdigest()}".encode()


def _length(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "little")
