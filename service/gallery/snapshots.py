"""Saved indexes on the disk, one file a collection: for a quicker start. On any doubt there is none."""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from service.gallery.snapshot_file import SnapshotReader, SnapshotUnusable, SnapshotWriter
from service.gallery.subjects import SubjectIndex, SubjectState
from service.gallery.tiered import TieredIndex
from service.gallery.vector_state import read_parts
from service.security.sealing import Sealer, SealError

logger = logging.getLogger(__name__)

FORMAT: Final = 1
_ZEROS: Final = bytes(2**20)
_NAME: Final = re.compile(r"collection-([0-9]+)\.index")
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True)
class Snapshot:
    """An index as it was saved: all changes up to `revision` are in it. moment: when that change was made."""

    revision: int
    moment: datetime
    index: SubjectIndex


class SnapshotFolder:
    """Snapshots of one model's indexes. A process that is killed at any moment leaves a whole one, or none.

    One process at a time saves into a folder. Safe to use from many threads that save different collections.
    """

    def __init__(self, path: Path, model_id: str, sealer: Sealer) -> None:
        self._path = path
        self._model_id = model_id
        self._sealer = sealer
        # What has a name now is wiped by whoever takes it away, and by nobody else.
        self._naming = threading.Lock()

    def open(self) -> SnapshotFolder:
        """Make the folder, and wipe what a killed process has left unfinished; returns itself. Raises OSError."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in self._path.glob(f"*{_UNFINISHED}"):
            _wipe(file)
        return self

    def keys(self) -> list[int]:
        """The collections of which there is one, good or not."""
        if not self._path.is_dir():
            return []
        names = (_NAME.fullmatch(file.name) for file in self._path.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def state_of(self, index: SubjectIndex) -> SubjectState:
        """What is to be saved of an index. Quick; nothing may change the index meanwhile."""
        return index.state()

    def save(self, collection_key: int, revision: int, moment: datetime, state: SubjectState) -> None:
        """Put it in the place of the one before, all at once, durably. Raises OSError."""
        file, fresh = self._file(collection_key), self._file(collection_key).with_suffix(_UNFINISHED)
        stamp = {
            "format": FORMAT,
            "model": self._model_id,
            "collection": collection_key,
            "revision": revision,
            "moment": moment.isoformat(),
            "vectors": state.vectors.shape(),
        }
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
                writer = SnapshotWriter(written, stamp, self._sealer)
                state.vectors.write(writer)
                writer.write(state.faces)
                writer.write(state.subjects)
                writer.finish()
                written.flush()
                os.fsync(written.fileno())
            self._put_in_place(fresh, file)
        except BaseException:
            if fresh.exists():
                _wipe(fresh)
            raise

    def load(self, collection_key: int) -> Snapshot | None:
        """The last one that was saved, if it is beyond doubt; if not, the log says why, in a line."""
        if not self._file(collection_key).exists():
            return None
        try:
            return self.read(collection_key)
        except (SnapshotUnusable, SealError) as error:
            logger.warning("the snapshot of the index of collection %d is not used: %s", collection_key, error)
            return None

    def read(self, collection_key: int) -> Snapshot:
        """The last one that was saved, also while another process saves. Raises SnapshotUnusable, SealError."""
        path = self._file(collection_key)
        try:
            while True:
                with path.open("rb") as file:
                    try:
                        return self._read(SnapshotReader(file, self._sealer), collection_key)
                    except SnapshotUnusable:
                        # Replaced while it was read, and overwritten: then it is the new one that counts.
                        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                            raise
        except OSError as error:
            raise SnapshotUnusable(f"it cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError, OverflowError, MemoryError, RuntimeError) as error:
            # Of another hand, with a right digest: RuntimeError is how FAISS refuses.
            raise SnapshotUnusable(f"it does not hold what it should ({type(error).__name__})") from error

    def drop(self, collection_key: int) -> None:
        """Overwrite and unlink the one there is, if any. Raises OSError."""
        with self._naming:
            file = self._file(collection_key)
            if file.exists():
                _wipe(file)
                self._sync()

    def _put_in_place(self, fresh: Path, file: Path) -> None:
        """Give the fresh one its name, then overwrite the one that had it."""
        with self._naming:
            before = file.open("r+b") if file.exists() else None
            fresh.replace(file)
            self._sync()
        if before is not None:
            with before:
                _overwrite(before)

    def _read(self, reader: SnapshotReader, collection_key: int) -> Snapshot:
        stamp = reader.stamp
        for name, expected in (("format", FORMAT), ("model", self._model_id), ("collection", collection_key)):
            if stamp.get(name) != expected:
                raise SnapshotUnusable(f"it is of {name} {stamp.get(name)}, not {expected}")
        parts = read_parts(reader, stamp["vectors"])
        keys = parts.keys()
        count = len(keys)
        faces, subjects = reader.read(np.int64, count), reader.read(np.int64, count)
        _check_owners(faces, keys)
        index = SubjectIndex.restored(TieredIndex.restored(parts), faces, subjects)
        return Snapshot(int(stamp["revision"]), datetime.fromisoformat(stamp["moment"]), index)

    def _file(self, collection_key: int) -> Path:
        return self._path / f"collection-{collection_key}.index"

    def _sync(self) -> None:
        """Make renames and removals in the folder durable."""
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _check_owners(faces: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
    if not np.array_equal(np.sort(faces), np.sort(keys)) or len(np.unique(faces)) != len(faces):
        raise SnapshotUnusable("its faces are not those of its vectors")


def _wipe(file: Path) -> None:
    """Overwrite, then unlink: erased people may be in it. What a file system copies on write, it keeps."""
    with file.open("r+b") as opened:
        _overwrite(opened)
    file.unlink(missing_ok=True)


def _overwrite(file: IO[bytes]) -> None:
    left = os.fstat(file.fileno()).st_size
    while left > 0:
        left -= file.write(_ZEROS[:left])
    file.flush()
    os.fsync(file.fileno())
