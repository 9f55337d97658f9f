"""Whether the checkpoints that were loaded still lie where they were loaded from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_Mark = tuple[int, int, int, int]


class ModelFiles:
    """Checkpoints as they were before they were loaded.

    A running service keeps what it has loaded and proved: a file that is replaced takes effect at the next start,
    which checks it against its digest, its probe and the gallery. Until then every replica of one gallery goes on
    comparing with one model.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._marks = {file: _mark(file) for file in files}
        self._warned: set[Path] = set()

    def changed(self) -> list[Path]:
        """The files that are no longer what was loaded; the first time, each is named in the log."""
        changed = [file for file, mark in self._marks.items() if _mark(file) != mark]
        for file in changed:
            if file not in self._warned:
                self._warned.add(file)
                logger.warning("%s was changed; the loaded model stays in use until a restart", file)
        return changed


def _mark(file: Path) -> _Mark | None:
    """What tells one version of a file from another; None if it cannot be looked at."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
