"""The packed format: decoded images in one flat file, read by mapping it into memory.

A folder of
    images.u8       N x size x size x 3 bytes, RGB, image after image, rows from the top; nothing else
    labels.npy      (N,) little-endian int64, the position in identities.txt, -1 for no known identity
    identities.txt  UTF-8, one name a line
    keys.txt        UTF-8, one IDENTITY/NAME a line, in the order of the images
    key_ends.npy    (N,) little-endian int64, where each key's line ends in keys.txt (behind its line feed)
    packed.json     {"format": 1, "images": N, "size": size, "digests": {file: SHA-256 in hex}, "broken": [names]}
packed.json is written last, and the folder gets its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.samples import BrokenImage, DataError, LazySequence

FORMAT = 1
DOCUMENT = "packed.json"
IMAGES, LABELS, IDENTITIES, KEYS, KEY_ENDS = "images.u8", "labels.npy", "identities.txt", "keys.txt", "key_ends.npy"


class PackedDocument(BaseModel):
    """What packed.json says."""

    model_config = ConfigDict(extra="forbid")

    format: int
    images: int
    size: int
    digests: dict[str, str]
    broken: list[str] = []


class PackedSource:
    """A packed folder; `pixels` is the (N, size, size, 3) uint8 memory map. Raises DataError for a damaged one.

    Opening checks the format, the sizes, and that labels, keys and identities fit together; `verify` reads all.
    """

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        self.document = _document(folder)
        count, size = self.document.images, self.document.size
        expected = count * size * size * 3
        path = folder / IMAGES
        if not path.is_file() or path.stat().st_size != expected:
            raise DataError(f"{path}: not the {expected} bytes of {count} images; pack the data again")
        self.pixels: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", shape=(count, size, size, 3))
        self.codes: NDArray[np.int64] = _array(folder / LABELS, count)
        self._ends = _array(folder / KEY_ENDS, count)
        self.identities = _text(folder / IDENTITIES).splitlines()
        if self.codes.max() >= len(self.identities) or self.codes.min() < -1:
            raise DataError(f"{folder / LABELS}: labels beyond the {len(self.identities)} names of {IDENTITIES}")
        self._lines = _mapped(folder / KEYS, int(self._ends[-1]))
        self.keys: Sequence[str] = LazySequence(count, self._key)

    def __reduce__(self) -> tuple[type[PackedSource], tuple[Path]]:
        return PackedSource, (self._folder,)

    def _key(self, position: int) -> str:
        start = int(self._ends[position - 1]) if position else 0
        return self._lines[start : int(self._ends[position]) - 1].decode()

    def image(self, position: int) -> NDArray[np.uint8]:
        """One image, a view of the file."""
        view: NDArray[np.uint8] = self.pixels[position]
        return view

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """All images in order; none can be broken."""
        for position in range(len(self.keys)):
            yield position, self.image(position)

    def verify(self) -> None:
        """Read every byte. Raises DataError naming a file that is not what was packed."""
        for name, expected in self.document.digests.items():
            if digest(self._folder / name) != expected:
                raise DataError(f"{self._folder / name}: changed since it was packed; pack the data again")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _document(folder: Path) -> PackedDocument:
    path = folder / DOCUMENT
    try:
        document = PackedDocument.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: no packed data here ({error.strerror}); `facemargin pack` makes it") from error
    except ValidationError as error:
        raise DataError(f"{path}: not the document of packed data ({error.errors()[0]['msg']})") from error
    if document.format != FORMAT:
        raise DataError(f"{path}: format {document.format}, this version reads {FORMAT}; pack the data again")
    if document.images < 1:
        raise DataError(f"{path}: holds no images")
    return document


def _array(path: Path, count: int) -> NDArray[np.int64]:
    try:
        array: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable array ({error})") from error
    if array.shape != (count,) or array.dtype != np.int64:
        raise DataError(f"{path}: {array.dtype} {array.shape} where int64 ({count},) is expected")
    return array


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error


def _mapped(path: Path, size: int) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable file ({error})") from error
    if len(mapped) != size:
        raise DataError(f"{path}: {len(mapped)} bytes where {KEY_ENDS} ends at {size}; pack the data again")
    return mapped
