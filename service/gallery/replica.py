"""This process's searchable copy of the gallery: an index a collection, at some revision of the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.gallery.building import CHANGES_AT_ONCE, Builder, Held, UnknownChange
from service.gallery.index import VectorIndex
from service.gallery.queries import moment_of
from service.gallery.snapshots import SnapshotFolder
from service.gallery.store import GalleryStore
from service.gallery.subjects import SubjectIndex


@dataclass(frozen=True)
class Lag:
    """How far searches here are behind the database: changes, and seconds since they were not."""

    revisions: int
    seconds: float


class Replica:
    """Brought forward by `catch_up`, whoever made the changes. Safe to use from many threads.

    revision: of the last change that searches here know of.
    """

    def __init__(
        self, store: GalleryStore, new_index: Callable[[], VectorIndex], snapshots: SnapshotFolder | None = None
    ) -> None:
        self.revision = 0
        self._store = store
        self._snapshots = snapshots
        self._builder = Builder(store, new_index, snapshots)
        self._held: dict[int, Held] = {}
        self._sound = False
        self._in_step_at = time.monotonic()
        # One change at a time, in the log's order. Searches do not wait for it.
        self._changing = threading.Lock()
        self._saving = threading.Lock()

    def index(self, collection_key: int) -> SubjectIndex | None:
        """A collection's index; None if it has never had a face."""
        held = self._held.get(collection_key)
        return None if held is None else held.index

    @property
    def indexes(self) -> Mapping[int, SubjectIndex]:
        """All of them, by the number of their collection."""
        return {key: held.index for key, held in sorted(self._held.copy().items())}

    def snapshot_revision(self, collection_key: int) -> int | None:
        """Up to which change a collection's index is saved; None without a snapshot."""
        held = self._held.get(collection_key)
        return None if held is None else held.snapshot

    def lag(self) -> Lag:
        """How far behind it is."""
        behind = max(0, self._store.revision() - self.revision)
        return Lag(behind, time.monotonic() - self._in_step_at if behind else 0.0)

    def catch_up(self) -> None:
        """Apply every change that is committed by now. Raises GalleryDamaged, SealError, GalleryModelMismatch."""
        with self._changing:
            began = time.monotonic()
            if not self._sound:
                self._build()
            while self._read_on():
                began = time.monotonic()
            self._in_step_at = began

    def save_snapshots(self) -> int:
        """Save every index that has changed since it was saved; how many those were. Raises OSError."""
        if self._snapshots is None:
            return 0
        with self._saving:
            return sum(self._save(self._snapshots, collection_key) for collection_key in sorted(self._held.copy()))

    def _read_on(self) -> bool:
        """Apply some changes; whether there may be more."""
        news = self._store.news(self.revision, CHANGES_AT_ONCE)
        if not news.changes:
            return False
        self._sound = False  # until all of them are in
        try:
            erased = self._builder.apply(self._held, news)
        except UnknownChange:
            self._build()
            return True
        self.revision, self._sound = news.changes[-1].revision, True
        if self._snapshots is not None:
            for collection_key in erased:
                self._drop(self._snapshots, collection_key)
        return len(news.changes) == CHANGES_AT_ONCE

    def _build(self) -> None:
        self._store.check_model()
        with self._store.reading() as connection:
            self.revision, self._held = self._builder.build(connection)
        self._sound = True

    def _save(self, snapshots: SnapshotFolder, collection_key: int) -> bool:
        with self._changing:
            held = self._held.get(collection_key)
            if held is None or (held.snapshot is not None and held.snapshot >= held.revision):
                return False
            revision, drops = self.revision, held.drops
            state = snapshots.state_of(held.index)
        with self._store.reading() as connection:
            moment = moment_of(connection, revision)
        assert moment is not None  # the log only grows
        snapshots.save(collection_key, revision, moment, state)
        with self._changing:
            # Something was erased while it was written: it must not stay.
            if self._held.get(collection_key) is not held or held.drops != drops:
                snapshots.drop(collection_key)
                return False
            held.snapshot = revision
        return True

    def _drop(self, snapshots: SnapshotFolder, collection_key: int) -> None:
        snapshots.drop(collection_key)
        held = self._held.get(collection_key)
        if held is not None:
            held.snapshot = None
            held.drops += 1
