"""Holding the data folder: the index follows only its own process's writes, so one process has it at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.gallery.errors import GalleryUnusable


class DataFolderUnusable(GalleryUnusable):
    """The data folder cannot be made, or another process holds it."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Make the data folder, and hold it for this process alone. Raises DataFolderUnusable."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise DataFolderUnusable(
            f"the data folder {path} cannot be used: {error.strerror}; choose another --data-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataFolderUnusable(f"another facemargin already serves the data folder {path}") from error
        yield
