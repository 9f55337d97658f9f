"""InsightFace's data sets: train.rec, train.idx and property, read without mxnet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.record_io import RecordError, RecordFile
from training.data.samples import BrokenImage, DataError, LazySequence, decode, in_order

_EXACT_FLOAT32 = 1 << 24
"""Record numbers are stored as float32; above this they are rounded, and the ranges cannot be trusted."""


class RecordSource:
    """The images of a .rec by random access. Identities are the labels as text; keys are LABEL/RECORD.

    Record 0 says by two labels [a, b) which records describe identities; each of those says by two labels
    which records are its images. Where that is missing, or its numbers are too large to be exact, every
    record's own header is read instead. Raises DataError for files that do not fit together.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = RecordFile(path)
        numbers, offsets = _read_index(path.with_suffix(".idx"))
        if offsets.max() >= len(self._file):
            cut = int(numbers[offsets.argmax()])
            raise DataError(f"{path}: truncated, its .idx places record {cut} beyond the end; copy the file again")
        ranged = _by_ranges(self._file, numbers, offsets)
        self._numbers, self._offsets, labels = ranged or _by_headers(self._file, numbers, offsets)
        if not len(labels):
            raise DataError(f"{path}: holds no image record")
        distinct, codes = np.unique(labels[labels >= 0], return_inverse=True)
        self.codes: NDArray[np.int64] = np.full(len(labels), -1, dtype=np.int64)
        self.codes[labels >= 0] = codes
        self.identities = [str(label) for label in distinct]
        self._labels = labels
        self.keys: Sequence[str] = LazySequence(len(labels), self._key)
        _check_property(path.with_name("property"), labels)

    def _key(self, position: int) -> str:
        label = int(self._labels[position])
        return f"{label if label >= 0 else '_unlabelled'}/{self._numbers[position]}"

    def image(self, position: int) -> NDArray[np.uint8]:
        """Decode one record, (H, W, 3) uint8 RGB. Raises BrokenImage; DataError when its label is another's."""
        named = f"{self.name}[{self._numbers[position]}]"
        try:
            record = self._file.record(int(self._offsets[position]))
        except RecordError as error:
            raise BrokenImage(named, error) from error
        if int(record.labels[0]) != self._labels[position]:
            raise DataError(
                f"{named}: labelled {record.labels[0]:g} where the index records say {self._labels[position]}"
            )
        return decode(record.payload, named)

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """All images, by record number."""
        return in_order(self)


_Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Record number, offset and label of each image."""


def _read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Record numbers, ascending, and their offsets, from lines NUMBER<TAB>OFFSET."""
    try:
        table = np.array(path.read_text().split(), dtype=np.int64).reshape(-1, 2)
    except OSError as error:
        raise DataError(f"{path}: no readable index of the .rec beside it ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not an index of lines NUMBER<TAB>OFFSET ({error})") from error
    if not len(table):
        raise DataError(f"{path}: empty")
    table = table[np.argsort(table[:, 0], kind="stable")]
    if (np.diff(table[:, 0]) == 0).any() or table[:, 1].min() < 0:
        raise DataError(f"{path}: a record number twice, or an offset below 0")
    return table[:, 0].copy(), table[:, 1].copy()


def _by_ranges(file: RecordFile, numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> _Found | None:
    """Labels by the records that describe identities; None where record 0 names none, or not exactly."""
    start = file.record(int(offsets[0]))
    if numbers[0] != 0 or not start.several or len(start.labels) < 2 or len(start.payload):
        return None
    first, last = (int(label) for label in start.labels[:2])
    if last >= _EXACT_FLOAT32:
        return None
    rows = dict(zip(numbers[numbers >= first].tolist(), offsets[numbers >= first].tolist(), strict=True))
    chosen, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for identity in range(first, last):
        if identity not in rows:
            raise DataError(f"{file.path}: record 0 promises identities up to {last}, record {identity} is missing")
        described = file.record(rows[identity]).labels
        if len(described) < 2:
            raise DataError(f"{file.path}: record {identity} does not say which images are its identity's")
        begin, end = np.searchsorted(numbers, described[:2].astype(np.int64))
        if begin < end:
            chosen.append(np.arange(begin, end))
            labels.append(np.full(end - begin, _label(file, offsets[begin:end])))
    at = np.concatenate(chosen)
    order = np.argsort(at, kind="stable")
    return numbers[at[order]], offsets[at[order]], np.concatenate(labels)[order]


def _label(file: RecordFile, offsets: NDArray[np.int64]) -> int:
    """The label of an identity, from the first of its images whose header can be read."""
    for offset in offsets[:-1]:
        try:
            return int(file.record(int(offset)).labels[0])
        except RecordError:
            continue  # counted when the image itself is read
    return int(file.record(int(offsets[-1])).labels[0])


def _by_headers(file: RecordFile, numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> _Found:
    """Labels by every record's own header; records without a payload describe, and are no images."""
    keep = np.zeros(len(numbers), dtype=bool)
    labels = np.zeros(len(numbers), dtype=np.int64)
    for row, offset in enumerate(offsets):
        record = file.record(int(offset))
        keep[row], labels[row] = len(record.payload) > 0, int(record.labels[0])
    return numbers[keep], offsets[keep], labels[keep]


def _check_property(path: Path, labels: NDArray[np.int64]) -> None:
    """`property` (identities,height,width), where there is one, must have room for every label."""
    if not path.is_file():
        return
    cells = path.read_text().strip().split(",")
    if not cells[0].isdecimal():
        raise DataError(f"{path}: expected IDENTITIES,HEIGHT,WIDTH, found {','.join(cells)!r}")
    if labels.max() >= int(cells[0]):
        raise DataError(f"{path}: {cells[0]} identities, but a record is labelled {labels.max()}")
