"""A zip archive of `subject/photo.jpg`, from a stranger: every name, size and method is doubted."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, Final

from service.transfer.errors import NotAnArchive
from service.transfer.photos import ImportedPhoto, Unreadable, Unusable, hidden, subject_named

_LARGEST_DIRECTORY: Final = 16 * 2**20  # bytes; more than 150,000 photos with ordinary names
_MOST_ENTRIES: Final = 200_000
_BOMB_RATIO: Final = 200  # deflate reaches 1,032; a photo is compressed already
_HARMLESS: Final = 64 * 1024  # bytes that may be compressed as well as they like
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others' decoders may ask for gigabytes
_ENCRYPTED: Final = 0x1
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, NotImplementedError)


class PhotoArchive:
    """The photos of an archive; one thread at a time. `largest`: bytes that a photo may have.

    Entries lie as subject/photo; if all of them lie in one folder more, that is taken off. Nothing is
    ever extracted to a disk. Raises NotAnArchive.
    """

    def __init__(self, file: IO[bytes] | Any, largest: int) -> None:
        self._largest = largest
        bounded = _BoundedReads(file)
        try:
            self._zip = zipfile.ZipFile(bounded)
        except (*_DAMAGED, RuntimeError) as error:
            raise NotAnArchive(f"this is no zip archive that can be read ({error})") from error
        bounded.largest = None
        entries = [info for info in self._zip.infolist() if not info.is_dir() and not _system_file(info.filename)]
        if len(entries) > _MOST_ENTRIES:
            raise NotAnArchive(f"the archive has {len(entries)} entries; split it, at most {_MOST_ENTRIES} in each")
        if _overlapping(entries):
            raise NotAnArchive("entries of the archive overlap: it is damaged or a bomb")
        self._entries = entries
        self._depth = 1 if _in_one_folder(entries) else 0

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def __iter__(self) -> Iterator[ImportedPhoto | Unusable]:
        """In the archive's order."""
        for info in self._entries:
            yield self._entry(info)

    def _entry(self, info: zipfile.ZipInfo) -> ImportedPhoto | Unusable:
        label = info.filename[:300]
        parts = info.filename.split("/")
        if info.filename.startswith("/") or "\\" in info.filename or ":" in parts[0] or {"", ".", ".."} & set(parts):
            return Unusable(label, "unsafe_path")
        parts = parts[self._depth :]
        if len(parts) != 2:
            return Unusable(label, "nested_path" if len(parts) > 2 else "no_subject")
        subject = subject_named(parts[0])
        if subject is None:
            return Unusable(label, "invalid_subject")
        fault = self._fault(info)
        return Unusable(label, fault) if fault else ImportedPhoto(label, subject, partial(self._read, info))

    def _fault(self, info: zipfile.ZipInfo) -> str | None:
        if info.flag_bits & _ENCRYPTED:
            return "encrypted"
        if info.compress_type not in _METHODS:
            return "unsupported_compression"
        if info.file_size > self._largest:
            return "too_many_bytes"
        if info.file_size > max(_HARMLESS, _BOMB_RATIO * info.compress_size):
            return "bomb"
        return None

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        try:
            with self._zip.open(info) as entry:
                # The sizes in the directory are claims; this is the bound.
                data = entry.read(self._largest + 1)
                if len(data) > self._largest:
                    raise Unreadable("too_many_bytes")
        except (*_DAMAGED, RuntimeError) as error:
            raise Unreadable("damaged") from error
        return data


class _BoundedReads:
    """A file whose single reads are bounded: zipfile takes a whole directory into memory, whatever its size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.largest: int | None = _LARGEST_DIRECTORY
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        """Raises OSError above the bound."""
        if self.largest is None:
            return self._file.read(count)
        data = self._file.read(self.largest + 1 if count < 0 else min(count, self.largest + 1))
        if len(data) > self.largest:
            raise OSError("its directory is too large; split the archive")
        return data


def _system_file(name: str) -> bool:
    return any(hidden(part) for part in name.split("/") if part not in ("", ".", ".."))


def _overlapping(entries: list[zipfile.ZipInfo]) -> bool:
    """Whether the same compressed bytes serve several entries: megabytes then expand to petabytes."""
    end = 0
    for info in sorted(entries, key=lambda info: info.header_offset):
        if info.header_offset < end:
            return True
        end = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
    return False


def _in_one_folder(entries: list[zipfile.ZipInfo]) -> bool:
    paths = [info.filename.split("/") for info in entries]
    return bool(paths) and all(len(path) == 3 for path in paths) and len({path[0] for path in paths}) == 1
