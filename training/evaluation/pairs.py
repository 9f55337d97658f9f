"""Lists of image pairs: LFW's `pairs.txt`, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMNS = ["fold", "subject_a", "image_a", "subject_b", "image_b", "same"]
SUFFIXES = (".webp", ".jpg", ".png")


class PairsError(ValueError):
    """A list of pairs is malformed, or names images that are not there; the message names file and line."""


@dataclass(frozen=True)
class Pairs:
    """P pairs over N distinct images.

    images: the N paths, in the order of first mention. first, second: (P,) int64 indices into `images`.
    same: (P,) bool, the same person on both. fold: (P,) int64.
    """

    images: list[Path]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True)
class _Row:
    line: int
    fold: int
    first: tuple[str, str]  # subject, image name without suffix
    second: tuple[str, str]
    same: bool


def read_pairs(images: Path, file: Path, least_folds: int = 2) -> Pairs:
    """Pairs of a list whose photos lie in `images`/SUBJECT/IMAGE.(webp|jpg|png).

    The list is LFW's `pairs.txt` (first line: folds, pairs of each kind per fold; images are named
    SUBJECT_0001) or a CSV with the header fold,subject_a,image_a,subject_b,image_b,same.
    Raises PairsError for a malformed line, fewer than `least_folds` folds, or missing images.
    """
    if not images.is_dir():
        raise PairsError(f"{images}: no such folder of images")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PairsError(f"{file}: not a readable text file ({error})") from error
    if not lines:
        raise PairsError(f"{file}: empty")
    is_csv = lines[0].strip().split(",") == COLUMNS
    rows = list(_csv_rows(file, lines) if is_csv else _lfw_rows(file, lines))
    if len({row.fold for row in rows}) < least_folds:
        raise PairsError(f"{file}: holds fewer than {least_folds} folds, so no threshold can come from other folds")
    return _resolve(images, file, rows)


def _csv_rows(file: Path, lines: list[str]) -> Iterator[_Row]:
    for line, cells in enumerate(csv.reader(lines[1:]), start=2):
        if len(cells) != len(COLUMNS):
            raise PairsError(f"{file}:{line}: {len(cells)} cells where the header has {len(COLUMNS)}")
        fold, subject_a, image_a, subject_b, image_b, same = cells
        if not fold.isdecimal() or same not in ("0", "1"):
            raise PairsError(f"{file}:{line}: fold must be a whole number and same 0 or 1, not {fold!r}, {same!r}")
        yield _Row(line, int(fold), (subject_a, image_a), (subject_b, image_b), same == "1")


def _lfw_rows(file: Path, lines: list[str]) -> Iterator[_Row]:
    header = lines[0].split()
    if len(header) != 2 or not all(cell.isdecimal() and int(cell) > 0 for cell in header):
        raise PairsError(f"{file}:1: neither LFW's header (folds, pairs) nor the CSV header {','.join(COLUMNS)}")
    folds, each = map(int, header)
    if len(lines) - 1 != folds * each * 2:
        raise PairsError(f"{file}: {len(lines) - 1} pairs where its first line promises {folds} x 2 x {each}")
    for line, text in enumerate(lines[1:], start=2):
        cells = text.split()
        same = (line - 2) // each % 2 == 0  # each fold lists its matched pairs first
        if len(cells) != (3 if same else 4) or not all(cell.isdecimal() for cell in (cells[1], cells[-1])):
            form = "NAME n m" if same else "NAME_A n NAME_B m"
            raise PairsError(f"{file}:{line}: expected {form!r}, found {text!r}")
        other = cells[0] if same else cells[2]
        first, second = _lfw_image(cells[0], cells[1]), _lfw_image(other, cells[-1])
        yield _Row(line, (line - 2) // (2 * each), first, second, same)


def _lfw_image(name: str, number: str) -> tuple[str, str]:
    return name, f"{name}_{int(number):04d}"


def _resolve(images: Path, file: Path, rows: list[_Row]) -> Pairs:
    index: dict[tuple[str, str], int] = {}
    paths: list[Path] = []
    missing: list[str] = []
    for row in rows:
        for subject, image in (row.first, row.second):
            if (subject, image) in index:
                continue
            index[subject, image] = len(index)
            found = [p for s in SUFFIXES if (p := images / subject / f"{image}{s}").is_file()]
            paths.extend(found[:1])
            if not found:
                missing.append(f"{subject}/{image} (line {row.line})")
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise PairsError(f"{file}: images missing in {images} as {', '.join(SUFFIXES)}: {named}")
    return Pairs(
        images=paths,
        first=np.array([index[row.first] for row in rows], dtype=np.int64),
        second=np.array([index[row.second] for row in rows], dtype=np.int64),
        same=np.array([row.same for row in rows]),
        fold=np.array([row.fold for row in rows], dtype=np.int64),
    )
