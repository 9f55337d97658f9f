"""Builds the indexes: from a snapshot and what the log has since, or, on any doubt, from the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery.errors import GalleryDamaged, InvalidEmbedding
from service.gallery.index import VectorIndex
from service.gallery.queries import last_revision, moment_of
from service.gallery.records import Change, News, StoredEmbeddings, Total
from service.gallery.snapshots import SnapshotFolder
from service.gallery.statements import embeddings
from service.gallery.store import GalleryStore
from service.gallery.subjects import SubjectIndex

logger = logging.getLogger(__name__)

CHANGES_AT_ONCE: Final = 5000
_KNOWN: Final = {
    "collection_created", "collection_changed", "collection_erased", "subject_created", "subject_changed",
    "subject_erased", "face_added", "face_moved", "face_erased",
}  # fmt: skip


class UnknownChange(Exception):
    """The log has a change whose effect on an index is not known here: it must be built from the rows."""


@dataclass
class Held:
    """A collection's index.

    revision: of the last change to it. snapshot: of the one on the disk, if any. drops: how often that was dropped.
    """

    index: SubjectIndex
    revision: int = 0
    snapshot: int | None = None
    drops: int = 0


class Builder:
    """Makes indexes of a store's embeddings, and applies changes to them."""

    def __init__(
        self, store: GalleryStore, new_index: Callable[[], VectorIndex], snapshots: SnapshotFolder | None
    ) -> None:
        self._store = store
        self._new_index = new_index
        self._snapshots = snapshots

    def build(self, connection: sa.Connection) -> tuple[int, dict[int, Held]]:
        """The revision that `connection` sees, and by its number every collection that has faces.

        Raises GalleryDamaged, SealError, GalleryModelMismatch.
        """
        revision, totals = last_revision(connection), embeddings.totals(connection)
        self._drop_all_but(totals)
        restored = {key: self._restored(connection, key, revision, total) for key, total in totals.items()}
        held = {key: found for key, found in restored.items() if found is not None}
        missing = [key for key, found in restored.items() if found is None]
        # One pass over all rows is quicker than one for each of many collections.
        for collection_key in missing if held else [None]:
            for block in embeddings.stream(connection, self._store.seal, collection_key):
                self.add(held, block, revision)
        return revision, held

    def _drop_all_but(self, totals: Mapping[int, Total]) -> None:
        """Whoever was erased while this process was not running must not stay in a snapshot."""
        if self._snapshots is not None:
            for collection_key in set(self._snapshots.keys()) - set(totals):
                self._snapshots.drop(collection_key)

    def _restored(self, connection: sa.Connection, collection_key: int, newest: int, total: Total) -> Held | None:
        """From the snapshot, if there is one beyond doubt."""
        snapshot = None if self._snapshots is None else self._snapshots.load(collection_key)
        if snapshot is None or self._snapshots is None:
            return None
        fault, erased = None, False
        held = {collection_key: Held(snapshot.index, snapshot.revision, snapshot.revision)}
        # After a restored backup the same numbers may stand for other people: their moments tell.
        if snapshot.revision > newest or moment_of(connection, snapshot.revision) != snapshot.moment:
            fault = "it is of another history"
        else:
            try:
                erased = self._replay(connection, collection_key, held)
            except (UnknownChange, GalleryDamaged) as error:
                fault = f"what came later cannot be applied to it ({error})"
        if fault is None and (collection_key not in held or held[collection_key].index.total() != total):
            fault = "with what came later it does not come to what the database holds"
        if fault is not None:
            logger.warning(
                "the index of collection %d is built anew: its snapshot is not used, %s", collection_key, fault
            )
            self._snapshots.drop(collection_key)
            return None
        if erased:
            self._snapshots.drop(collection_key)
            held[collection_key].snapshot = None
        return held[collection_key]

    def _replay(self, connection: sa.Connection, collection_key: int, held: dict[int, Held]) -> bool:
        """Apply what the log has of a collection after its snapshot; whether something was erased."""
        revision, erased = held[collection_key].revision, False
        while True:
            news = embeddings.news_after(connection, revision, CHANGES_AT_ONCE, self._store.seal, collection_key)
            erased = bool(self.apply(held, news)) or erased
            if len(news.changes) < CHANGES_AT_ONCE:
                return erased
            revision = news.changes[-1].revision

    def apply(self, held: dict[int, Held], news: News) -> set[int]:
        """Bring the indexes forward; the collections that faces were erased from. Raises UnknownChange."""
        erased: set[int] = set()
        for (change, collection_key), group in groupby(news.changes, lambda each: (each.change, each.collection_key)):
            entries = list(group)
            if change not in _KNOWN:
                raise UnknownChange(change)
            if change in ("face_erased", "collection_erased"):  # an erased subject's faces are erased each
                erased.add(collection_key)
            if change == "collection_erased":
                held.pop(collection_key, None)
            elif change == "face_added":
                self.add(held, _chosen(news.added, np.isin(news.added.faces, _faces(entries))), entries[-1].revision)
            elif change in ("face_erased", "face_moved") and collection_key in held:
                _change_faces(held[collection_key], change, entries)
        return erased

    def add(self, held: dict[int, Held], block: StoredEmbeddings, revision: int) -> None:
        """Put a block's faces into the indexes of their collections. Raises GalleryDamaged."""
        for collection_key in np.unique(block.collections).tolist():
            part = _chosen(block, block.collections == collection_key)
            into = held.setdefault(collection_key, Held(SubjectIndex(self._new_index())))
            try:
                into.index.add(part.faces, part.subjects, part.vectors)
            except InvalidEmbedding as error:
                raise GalleryDamaged(
                    f"a stored embedding is damaged ({error}); restore the database from a backup"
                ) from error
            into.revision = revision


def _change_faces(held: Held, change: str, entries: list[Change]) -> None:
    if change == "face_erased":
        held.index.remove(_faces(entries))
    else:
        for subject_key, moved in groupby(entries, lambda each: each.subject_key):
            if subject_key is not None:
                held.index.move(_faces(moved), subject_key)
    held.revision = entries[-1].revision


def _faces(entries: Iterable[Change]) -> NDArray[np.int64]:
    return np.array([entry.face_key for entry in entries if entry.face_key is not None], np.int64)


def _chosen(block: StoredEmbeddings, which: NDArray[np.bool_]) -> StoredEmbeddings:
    return StoredEmbeddings(block.faces[which], block.subjects[which], block.collections[which], block.vectors[which])
