"""Image files: a folder of IDENTITY/NAME.webp, or a list of files with their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.samples import (
    EXTENSIONS,
    UNLABELLED,
    BrokenImage,
    DataError,
    coded,
    decode,
    in_order,
    refuse_doubles,
)


class FileSource:
    """One file an image. Raises DataError for two files of one key, or for none at all."""

    def __init__(self, name: str, keys: list[str], paths: list[Path]) -> None:
        refuse_doubles(keys, name)
        self.name = name
        self.keys: Sequence[str] = keys
        self.identities, self.codes = coded(keys)
        self._paths = paths

    def image(self, position: int) -> NDArray[np.uint8]:
        """Read and decode one file. Raises BrokenImage."""
        path = self._paths[position]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BrokenImage(str(path), error.strerror) from error
        return decode(data, str(path))

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """All files, in the order of their keys."""
        return in_order(self)


def open_folder(folder: Path) -> FileSource:
    """The images below a folder; the last folder above an image names its identity."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    keys = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return FileSource(str(folder), keys, paths)


def open_list(file: Path) -> FileSource:
    """The images that a text file lists: a line holds `PATH<TAB or space>LABEL`, or PATH as IDENTITY/NAME.webp.

    Paths start from the list's folder. A label is the identity's name or number; -1 and `_unlabelled` say
    that nobody knows it. The key of a labelled image is LABEL/PATH with `_` for `/`. Empty lines are skipped.
    Raises DataError naming the line.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a readable text file ({error})") from error
    keys, paths = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, label = _cells(line)
        if PurePosixPath(path).suffix.lower() not in EXTENSIONS or (label is not None and (not label or "/" in label)):
            raise DataError(f"{file}:{number}: expected PATH<TAB>LABEL or IDENTITY/NAME.webp, found {line!r}")
        keys.append(_key(path, label))
        paths.append(file.parent / path)
    return FileSource(str(file), keys, paths)


def _cells(line: str) -> tuple[str, str | None]:
    """Path and label of a line; a path with spaces needs the tab, or no label."""
    if "\t" in line:
        path, label = line.rsplit("\t", 1)
        return path.strip(), label.strip()
    line = line.strip()
    if PurePosixPath(line).suffix.lower() in EXTENSIONS or " " not in line:
        return line, None
    path, label = line.rsplit(" ", 1)
    return path.strip(), label


def _key(path: str, label: str | None) -> str:
    bare = PurePosixPath(path).with_suffix("")
    if label is None:
        return str(bare)
    return f"{UNLABELLED if label == '-1' else label}/{str(bare).strip('/').replace('/', '_')}"
