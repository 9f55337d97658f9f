"""RecordIO, the container of mxnet data sets, read without mxnet.

A file is a row of parts: uint32 magic 0xced7230a, uint32 with a flag in its upper 3 bits and the length n in
its lower 29, n bytes, and zeros up to a multiple of 4; all little-endian. A record is one part (flag 0), or
several (flags 1, 2 …, 3): the writer cuts a record wherever the magic itself stands on a multiple of 4 of it,
and leaves those four bytes out; so the reader puts the magic back between the parts (dmlc-core, recordio.h).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.samples import DataError

MAGIC = 0xCED7230A
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class RecordError(DataError):
    """A record is cut short or is no record; the message names file and offset."""


@dataclass(frozen=True)
class Record:
    """An image record. labels: (L,) float32, one or several; payload: the encoded image, empty for index records."""

    labels: NDArray[np.float32]
    several: bool
    payload: memoryview | bytes


class RecordFile:
    """A .rec file mapped into memory, so that threads and processes read it at once. Raises DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise DataError(f"{path}: not a readable record file ({error})") from error

    def __reduce__(self) -> tuple[type[RecordFile], tuple[Path]]:
        return RecordFile, (self.path,)  # a spawned reader maps the file itself

    def __len__(self) -> int:
        return len(self._bytes)

    def read(self, offset: int) -> memoryview | bytes:
        """The record that starts at an offset. Raises RecordError."""
        flag, data, end = self._part(offset)
        if flag == _WHOLE:
            return data
        if flag != _FIRST:
            raise RecordError(f"{self.path}: offset {offset} lies in the middle of a record")
        parts = [bytes(data)]
        while flag != _LAST:
            flag, data, end = self._part(end)
            if flag not in (_MIDDLE, _LAST):
                raise RecordError(f"{self.path}: the record at offset {offset} never ends")
            parts.append(bytes(data))
        return MAGIC.to_bytes(4, "little").join(parts)

    def record(self, offset: int) -> Record:
        """The image record at an offset: labels and payload apart. Raises RecordError."""
        data = self.read(offset)
        if len(data) < _HEADER.size:
            raise RecordError(f"{self.path}: the record at offset {offset} is shorter than its header")
        count, label, _, _ = _HEADER.unpack_from(data)
        rest = data[_HEADER.size :]
        if not count:
            return Record(np.array([label], np.float32), False, rest)
        if len(rest) < 4 * count:
            raise RecordError(f"{self.path}: the record at offset {offset} is shorter than its {count} labels")
        return Record(np.frombuffer(rest, "<f4", count), True, rest[4 * count :])

    def _part(self, offset: int) -> tuple[int, memoryview, int]:
        """Flag, bytes and end of the part at an offset."""
        if offset < 0 or offset + _PART.size > len(self._bytes):
            raise RecordError(f"{self.path}: truncated, no record at offset {offset}")
        magic, packed = _PART.unpack_from(self._bytes, offset)
        if magic != MAGIC:
            raise RecordError(f"{self.path}: no record starts at offset {offset} (magic {magic:#010x})")
        start, length = offset + _PART.size, packed & (1 << 29) - 1
        if start + length > len(self._bytes):
            raise RecordError(f"{self.path}: truncated, the record at offset {offset} lacks its end")
        return packed >> 29, self._bytes[start : start + length], start + length + -length % 4
