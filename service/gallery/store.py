"""The gallery's truth: collections, subjects, faces and the revision log, in SQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery.bulk import BulkFace, BulkInserted, insert_bulk
from service.gallery.database import consistent, forget_erased, notify, writing
from service.gallery.errors import CollectionPermanent
from service.gallery.queries import last_revision
from service.gallery.records import (
    Changes,
    Collection,
    Enrolled,
    Erased,
    Merged,
    NewFace,
    News,
    Owner,
    Page,
    StoredEmbeddings,
    StoredFace,
    Subject,
    Then,
)
from service.gallery.sealed import FaceSeal
from service.gallery.statements import collections, embeddings, faces, subjects
from service.security.sealing import Sealer

DEFAULT_COLLECTION: Final = "default"
R = TypeVar("R")


class GalleryStore:
    """Reads and writes the gallery's tables for one model's embeddings; each write is one transaction.

    A write's `then` is called inside its transaction with the write's result; what it raises undoes both.
    Safe to use from many threads.
    """

    def __init__(
        self,
        engine: sa.Engine,
        model_id: str,
        embedding_size: int,
        sealer: Sealer | None = None,
        keep_crops: bool = False,
    ) -> None:
        self.engine = engine
        self.seal = FaceSeal(sealer or Sealer.none(), model_id, embedding_size, keep_crops)
        # Writers of this process queue here: SQLite's own waiting is neither fair nor quick.
        self._writing = threading.Lock()

    @property
    def model_id(self) -> str:
        """The model of the embeddings that it takes."""
        return self.seal.model_id

    @property
    def embedding_size(self) -> int:
        """How many numbers an embedding has."""
        return self.seal.embedding_size

    @property
    def keep_crops(self) -> bool:
        """Whether the crop of a new face is stored."""
        return self.seal.keep_crops

    # ---- collections

    def create_collection(
        self, identifier: str | None, changes: Changes, *, then: Then[tuple[Collection, bool]] | None = None
    ) -> tuple[Collection, bool]:
        """Create a collection, or set what is given on the one that exists; True if it is new."""
        return self._write(lambda connection: collections.put_collection(connection, identifier, changes), then)

    def list_collections(
        self, cursor: str | None, limit: int, *, only: Sequence[str] | None = None
    ) -> Page[Collection]:
        """In the order of creation; of those named in `only`, unless it is None. Raises InvalidCursor."""
        with self.engine.begin() as connection:
            return collections.list_collections(connection, cursor, limit, only)

    def collection(self, collection_id: str) -> Collection:
        """Raises CollectionNotFound."""
        with self.engine.begin() as connection:
            return collections.find_collection(connection, collection_id)

    def collection_key(self, collection_id: str) -> int:
        """The database's number, without counting what is in it. Raises CollectionNotFound."""
        with self.engine.begin() as connection:
            return collections.collection_key(connection, collection_id)

    def change_collection(
        self, collection_id: str, changes: Changes, *, then: Then[Collection] | None = None
    ) -> Collection:
        """Rename, or replace the metadata. Raises CollectionNotFound."""
        return self._write(lambda connection: collections.change_collection(connection, collection_id, changes), then)

    def erase_collection(self, collection_id: str, *, then: Then[Erased] | None = None) -> Erased:
        """Erase a collection with everything in it. Raises CollectionNotFound, CollectionPermanent."""
        if collection_id == DEFAULT_COLLECTION:
            raise CollectionPermanent("the collection `default` always exists; erase its subjects instead")
        return self._write(lambda connection: collections.erase_collection(connection, collection_id), then)

    # ---- subjects

    def create_subject(
        self,
        collection_id: str,
        identifier: str | None,
        changes: Changes,
        *,
        then: Then[tuple[Subject, bool]] | None = None,
    ) -> tuple[Subject, bool]:
        """Create a subject, or set what is given on the one that exists; True if it is new.

        Raises CollectionNotFound.
        """

        def put(connection: sa.Connection) -> tuple[Subject, bool]:
            key = collections.collection_key(connection, collection_id)
            return subjects.put_subject(connection, key, identifier, changes)

        return self._write(put, then)

    def list_subjects(
        self, collection_id: str, cursor: str | None, limit: int, *, search: str | None = None
    ) -> Page[Subject]:
        """In the order of creation; those with `search` somewhere in id or name, in any case.

        Raises CollectionNotFound, InvalidCursor.
        """
        with self.engine.begin() as connection:
            key = collections.collection_key(connection, collection_id)
            return subjects.list_subjects(connection, key, cursor, limit, search)

    def subject(self, collection_id: str, subject_id: str) -> Subject:
        """Raises CollectionNotFound, SubjectNotFound."""
        with self.engine.begin() as connection:
            return self._subject(connection, collection_id, subject_id)

    def change_subject(
        self, collection_id: str, subject_id: str, changes: Changes, *, then: Then[Subject] | None = None
    ) -> Subject:
        """Rename, or replace the metadata. Raises CollectionNotFound, SubjectNotFound."""

        def change(connection: sa.Connection) -> Subject:
            key = collections.collection_key(connection, collection_id)
            return subjects.change_subject(connection, key, subject_id, changes)

        return self._write(change, then)

    def merge_subjects(self, collection_id: str, source: str, into: str, *, then: Then[Merged] | None = None) -> Merged:
        """Move all faces of `source` to `into`, and erase `source`.

        Raises CollectionNotFound, SubjectNotFound, SameSubject.
        """

        def merge(connection: sa.Connection) -> Merged:
            key = collections.collection_key(connection, collection_id)
            return subjects.merge_subject(connection, key, source, into)

        return self._write(merge, then)

    def erase_subject(self, collection_id: str, subject_id: str, *, then: Then[Erased] | None = None) -> Erased:
        """Erase a subject with all its faces. Raises CollectionNotFound, SubjectNotFound."""

        def erase(connection: sa.Connection) -> Erased:
            key = collections.collection_key(connection, collection_id)
            return subjects.erase_subject(connection, key, subject_id)

        return self._write(erase, then)

    # ---- faces

    def enrol(
        self,
        collection_id: str,
        subject_id: str,
        new: Sequence[NewFace],
        *,
        create_subject: bool,
        then: Then[Enrolled] | None = None,
    ) -> Enrolled:
        """Add at least one face to a subject, which is created if it is missing and `create_subject`.

        Raises CollectionNotFound, or SubjectNotFound.
        """

        def add(connection: sa.Connection) -> Enrolled:
            collection_key = collections.collection_key(connection, collection_id)
            subject_key = subjects.find_subject_key(connection, collection_key, subject_id)
            if subject_key is None:
                if not create_subject:
                    raise subjects.no_subject(subject_id)
                subject_key = subjects.add_subject(connection, collection_key, subject_id, Changes())
            return faces.add_faces(connection, collection_key, subject_key, new, self.seal)

        return self._write(add, then)

    def import_faces(
        self, collection_id: str, new: Sequence[BulkFace], *, then: Then[BulkInserted] | None = None
    ) -> BulkInserted:
        """Add what is new of many faces and subjects. Raises CollectionNotFound."""

        def add(connection: sa.Connection) -> BulkInserted:
            key = collections.collection_key(connection, collection_id)
            return insert_bulk(connection, key, new, self.seal)

        return self._write(add, then)

    def list_faces(self, collection_id: str, subject_id: str, cursor: str | None, limit: int) -> Page[StoredFace]:
        """A subject's faces in the order of enrolment.

        Raises CollectionNotFound, SubjectNotFound, InvalidCursor.
        """
        with self.engine.begin() as connection:
            key = self._subject(connection, collection_id, subject_id).key
            return faces.list_faces(connection, key, cursor, limit)

    def face(self, collection_id: str, subject_id: str, face_id: str) -> StoredFace:
        """Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""
        with self.engine.begin() as connection:
            return faces.find_face(connection, self._subject(connection, collection_id, subject_id), face_id)

    def crop(self, collection_id: str, subject_id: str, face_id: str) -> bytes | None:
        """The aligned crop, lossless WebP; None if it was not kept.

        Raises CollectionNotFound, SubjectNotFound, FaceNotFound.
        """
        with self.engine.begin() as connection:
            subject = self._subject(connection, collection_id, subject_id)
            return faces.crop_of(connection, faces.find_face(connection, subject, face_id), self.seal)

    def erase_face(
        self, collection_id: str, subject_id: str, face_id: str, *, then: Then[Erased] | None = None
    ) -> Erased:
        """Erase one face; its subject stays. Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""

        def erase(connection: sa.Connection) -> Erased:
            return faces.erase_face(connection, self._subject(connection, collection_id, subject_id), face_id)

        return self._write(erase, then)

    def collection_of(self, face_id: str) -> str:
        """The id of the collection that a face is in. Raises FaceNotFound."""
        with self.engine.begin() as connection:
            return faces.collection_of(connection, face_id)

    def is_enrolled(self, collection_id: str, subject_id: str, source_digest: str) -> bool:
        """Whether a subject has a face of the photo with this SHA-256. Raises CollectionNotFound."""
        with self.engine.begin() as connection:
            key = collections.collection_key(connection, collection_id)
            return faces.is_enrolled(connection, key, subject_id, source_digest)

    def owners(self, face_keys: Sequence[int]) -> dict[int, Owner]:
        """Whose these faces are; those erased meanwhile are missing."""
        with self.engine.begin() as connection:
            return faces.owners(connection, face_keys)

    # ---- what search needs

    def embedding(self, face_id: str) -> NDArray[np.float32]:
        """The embedding, float32 (D,), of a face by its id. Raises FaceNotFound."""
        with self.engine.begin() as connection:
            return embeddings.embedding_of(connection, face_id, self.seal)

    def revision(self) -> int:
        """The number of the last change; 0 before the first."""
        with self.engine.begin() as connection:
            return last_revision(connection)

    def news(self, revision: int, limit: int) -> News:
        """At most `limit` changes after `revision`, in their order. Raises GalleryDamaged, SealError."""
        with self.reading() as connection:
            return embeddings.news_after(connection, revision, limit, self.seal)

    def stream(self, connection: sa.Connection, collection_key: int | None = None) -> Iterator[StoredEmbeddings]:
        """Every embedding, of one collection or of all, in blocks. Raises GalleryDamaged, SealError."""
        return embeddings.stream(connection, self.seal, collection_key)

    def check_model(self) -> None:
        """Raises GalleryModelMismatch if any face was enrolled with another model."""
        with self.engine.begin() as connection:
            embeddings.check_model(connection, self.model_id)

    def check_keys(self) -> int:
        """How many faces are not sealed with the newest key. Raises SealError if some cannot be opened."""
        with self.engine.begin() as connection:
            return embeddings.check_keys(connection, self.seal)

    # ---- transactions

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the gallery however often it reads."""
        with consistent(self.engine).begin() as connection:
            yield connection

    def forget_erased(self) -> bool:
        """Get what was erased out of the database's files; False if readers were in the way: ask again."""
        return forget_erased(self.engine)

    def _write(self, change: Callable[[sa.Connection], R], then: Then[R] | None) -> R:
        with self._writing, writing(self.engine).begin() as connection:
            result = change(connection)
            if then is not None:
                then(connection, result)
            notify(connection)
        return result

    def _subject(self, connection: sa.Connection, collection_id: str, subject_id: str) -> Subject:
        key = collections.collection_key(connection, collection_id)
        return subjects.find_subject(connection, key, subject_id)
