"""A request's body on disk without leaving it there: an unlinked file, sealed with a key that only lives in memory."""

from __future__ import annotations

import io
import secrets
import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

_BLOCK: Final = 16


class SealedSpool(io.RawIOBase):
    """Written once from front to back, then read anywhere. AES-CTR: position p is block p // 16 of the key stream.

    The file has no name from the start, so a kill leaves nothing; what the disk still holds of its blocks
    cannot be read without the key. One reader at a time.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the spool
        self._key, self._start = secrets.token_bytes(32), secrets.randbits(128)
        self._sealing = self._stream(0)
        self._size = self._position = 0

    def append(self, data: bytes) -> None:
        """Write at the end."""
        self._file.seek(self._size)
        self._file.write(self._sealing.update(data))
        self._size += len(data)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set where the next read begins. Raises OSError before the start, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes."""
        left = max(0, self._size - self._position)
        count = left if count is None or count < 0 else min(count, left)
        if count == 0:
            return b""
        skipped = self._position % _BLOCK
        self._file.seek(self._position - skipped)
        data = self._stream(self._position // _BLOCK).update(self._file.read(skipped + count))[skipped:]
        self._position += len(data)
        return data

    def close(self) -> None:
        """Give the space back."""
        self._file.close()
        super().close()

    def _stream(self, block: int) -> CipherContext:
        counter = (self._start + block) % 2**128
        return Cipher(algorithms.AES(self._key), modes.CTR(counter.to_bytes(_BLOCK, "big"))).encryptor()
