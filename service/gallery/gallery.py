"""The gallery as the API sees it: the store and its index kept in step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.gallery.bulk import BulkFace, BulkInserted
from service.gallery.errors import GalleryUnusable
from service.gallery.records import Enrolled, Erased, Merged, NewFace, Then
from service.gallery.replica import Lag, Replica
from service.gallery.snapshots import SnapshotFolder
from service.gallery.store import GalleryStore
from service.gallery.subjects import SubjectIndex
from service.gallery.tiered import TieredIndex
from service.recognition.timeline import Unwatched, Watcher, watched

logger = logging.getLogger(__name__)
Gone = TypeVar("Gone", Erased, Merged)


@dataclass(frozen=True)
class Candidate:
    """A subject that a searched face may be: its most similar face and that face's cosine in [-1, 1]."""

    subject_id: str
    name: str
    face_id: str
    similarity: float


class Gallery:
    """Known faces, searchable the moment an enrolment returns. Safe to use from many threads.

    `store` may be read and written directly; what changes faces goes through here, so that searches know of it at
    once. A write's `then` is called inside its transaction with the write's result.
    """

    def __init__(self, store: GalleryStore, replica: Replica, watcher: Watcher | None = None) -> None:
        self.store = store
        self._watcher = watcher or Unwatched()
        self._replica = replica
        self._forgotten = True

    @classmethod
    def open(
        cls,
        store: GalleryStore,
        embedding_size: int,
        watcher: Watcher | None = None,
        snapshots: Path | None = None,
    ) -> Gallery:
        """Build the indexes, from snapshots in that folder where there are any beyond doubt, else from the store.

        Raises GalleryModelMismatch, GalleryDamaged, SealError; GalleryUnusable if the folder cannot be used.
        """

        def new_index() -> TieredIndex:
            return TieredIndex(embedding_size)

        store.check_model()
        if stale := store.check_keys():
            logger.warning("%d faces are not sealed with the newest key; run `facemargin service rotate-key`", stale)
        sealer = store.seal.sealer
        try:
            folder = None if snapshots is None else SnapshotFolder(snapshots, store.model_id, sealer).open()
            replica = Replica(store, new_index, folder)
            replica.catch_up()
        except OSError as error:
            raise GalleryUnusable(
                f"the folder of index snapshots {snapshots} cannot be used: {error.strerror}; make it writable, or "
                "move it away: it is made again"
            ) from error
        gallery = cls(store, replica, watcher)
        # Whoever was killed right after an erasure left that to do.
        gallery._forgotten = store.forget_erased()
        return gallery

    def enrol(
        self,
        collection_id: str,
        subject_id: str,
        faces: Sequence[NewFace],
        *,
        create_subject: bool = True,
        then: Then[Enrolled] | None = None,
    ) -> Enrolled:
        """Add at least one face to a subject; on return they are durable and searchable.

        Raises CollectionNotFound, or SubjectNotFound when it is missing and not to be created.
        """
        with watched(self._watcher, "store"):
            enrolled = self.store.enrol(collection_id, subject_id, faces, create_subject=create_subject, then=then)
            self._replica.catch_up()
        return enrolled

    def import_faces(
        self, collection_id: str, faces: Sequence[BulkFace], *, then: Then[BulkInserted] | None = None
    ) -> BulkInserted:
        """Add what is new of many faces; on return they are durable and searchable. Raises CollectionNotFound."""
        inserted = self.store.import_faces(collection_id, faces, then=then)
        self._replica.catch_up()
        return inserted

    def merge_subjects(self, collection_id: str, source: str, into: str, *, then: Then[Merged] | None = None) -> Merged:
        """Move all faces of `source` to `into`, and erase `source`.

        Raises CollectionNotFound, SubjectNotFound, SameSubject.
        """
        return self._forget(self.store.merge_subjects(collection_id, source, into, then=then))

    def erase_face(
        self, collection_id: str, subject_id: str, face_id: str, *, then: Then[Erased] | None = None
    ) -> Erased:
        """Erase one face. Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""
        return self._forget(self.store.erase_face(collection_id, subject_id, face_id, then=then))

    def erase_subject(self, collection_id: str, subject_id: str, *, then: Then[Erased] | None = None) -> Erased:
        """Erase a subject and its faces. Raises CollectionNotFound, SubjectNotFound."""
        return self._forget(self.store.erase_subject(collection_id, subject_id, then=then))

    def erase_collection(self, collection_id: str, *, then: Then[Erased] | None = None) -> Erased:
        """Erase a collection and all in it. Raises CollectionNotFound, CollectionPermanent."""
        return self._forget(self.store.erase_collection(collection_id, then=then))

    def catch_up(self) -> None:
        """Let searches know of what other processes changed, and finish what erasures left to do.

        Raises GalleryDamaged, SealError, GalleryModelMismatch.
        """
        self._replica.catch_up()
        if not self._forgotten:
            self._forgotten = self.store.forget_erased()

    @property
    def revision(self) -> int:
        """The number of the last change that searches know of."""
        return self._replica.revision

    @property
    def indexes(self) -> Mapping[int, SubjectIndex]:
        """What is searched, by the number of the collection."""
        return self._replica.indexes

    def lag(self) -> Lag:
        """How far searches are behind what other processes changed."""
        return self._replica.lag()

    def snapshot_revision(self, collection_key: int) -> int | None:
        """Up to which change a collection's index is saved; None without a snapshot."""
        return self._replica.snapshot_revision(collection_key)

    def save_snapshots(self) -> int:
        """Save the indexes that have changed, for a quicker start; how many those were. Raises OSError."""
        return self._replica.save_snapshots()

    def searchable_subjects(self, collection_id: str) -> int:
        """How many subjects a search of this collection compares with. Raises CollectionNotFound."""
        index = self._replica.index(self.store.collection_key(collection_id))
        return 0 if index is None else index.subjects

    def search(self, collection_id: str, queries: NDArray[np.float32], top_k: int) -> list[list[Candidate]]:
        """The `top_k` most similar subjects for each of (Q, D) unit embeddings, best first.

        Raises CollectionNotFound, InvalidEmbedding.
        """
        index = self._replica.index(self.store.collection_key(collection_id))
        if index is None or len(queries) == 0:
            return [[] for _ in queries]
        with watched(self._watcher, "search"):
            ranked = index.search(queries, top_k)
            owners = self.store.owners(sorted({hit.face_key for hits in ranked for hit in hits}))
        return [
            [
                Candidate(owner.subject_id, owner.name, owner.face_id, hit.similarity)
                for hit in hits
                # A face erased since the index was read has no owner any more.
                if (owner := owners.get(hit.face_key)) is not None
            ]
            for hits in ranked
        ]

    def _forget(self, gone: Gone) -> Gone:
        self._replica.catch_up()
        self._forgotten = self.store.forget_erased()
        return gone
