"""The gallery's truth: collections, subjects, faces and the revision log, in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.cursors import decode_cursor
from service.gallery.database import writing
from service.gallery.errors import (
    CollectionNotFound,
    CollectionPermanent,
    FaceNotFound,
    GalleryDamaged,
    GalleryModelMismatch,
)
from service.gallery.queries import (
    add_subject,
    described,
    face_of,
    find_subject_key,
    insert_row,
    log_change,
    new_id,
    no_subject,
    page,
    read_keys,
    select_collections,
    select_faces,
    select_faces_in,
    select_subjects,
    stored_face,
)
from service.gallery.records import (
    Changes,
    Collection,
    Enrolled,
    Erased,
    NewFace,
    Owner,
    Page,
    StoredEmbeddings,
    StoredFace,
    Subject,
)

DEFAULT_COLLECTION = "default"
_COLLECTIONS, _SUBJECTS, _FACES = tables.collections.c, tables.subjects.c, tables.faces.c
_STREAMED_ROWS = 4096
_LOOKED_UP_ROWS = 500  # SQLite takes a limited number of parameters in one statement


class GalleryStore:
    """Reads and writes the gallery's tables for one model's embeddings; each write is one transaction.

    Safe to use from many threads.
    """

    def __init__(self, engine: sa.Engine, model_id: str, embedding_size: int) -> None:
        self._engine = engine
        self._model_id = model_id
        self._embedding_size = embedding_size

    # ---- collections

    def create_collection(self, identifier: str | None, changes: Changes) -> tuple[Collection, bool]:
        """Create a collection, or set what is given on the one that exists; True if it is new."""
        identifier = identifier or new_id()
        with writing(self._engine).begin() as connection:
            existing = connection.scalar(sa.select(_COLLECTIONS.key).where(_COLLECTIONS.id == identifier))
            if existing is not None:
                self._change(connection, tables.collections, existing, changes, collection_key=existing)
                return self._collection(connection, identifier), False
            key = insert_row(connection, tables.collections, described(identifier, changes))
            log_change(connection, "collection_created", key)
            return self._collection(connection, identifier), True

    def list_collections(self, cursor: str | None, limit: int) -> Page[Collection]:
        """Collections in the order of their creation. Raises InvalidCursor."""
        with self._engine.begin() as connection:
            rows = connection.execute(
                select_collections().where(_COLLECTIONS.key > decode_cursor("collections", cursor)).limit(limit + 1)
            )
            return page("collections", [Collection(**row) for row in rows.mappings()], limit)

    def collection(self, collection_id: str) -> Collection:
        """Raises CollectionNotFound."""
        with self._engine.begin() as connection:
            return self._collection(connection, collection_id)

    def change_collection(self, collection_id: str, changes: Changes) -> Collection:
        """Rename, or replace the metadata. Raises CollectionNotFound."""
        with writing(self._engine).begin() as connection:
            key = self._collection(connection, collection_id).key
            self._change(connection, tables.collections, key, changes, collection_key=key)
            return self._collection(connection, collection_id)

    def erase_collection(self, collection_id: str) -> Erased:
        """Erase a collection with everything in it. Raises CollectionNotFound, CollectionPermanent."""
        if collection_id == DEFAULT_COLLECTION:
            raise CollectionPermanent("the collection `default` always exists; erase its subjects instead")
        with writing(self._engine).begin() as connection:
            collection = self._collection(connection, collection_id)
            gone = read_keys(connection, select_faces_in(_SUBJECTS.collection_key == collection.key))
            connection.execute(sa.delete(tables.collections).where(_COLLECTIONS.key == collection.key))
            revision, moment = log_change(connection, "collection_erased", collection.key)
            return Erased(collection.key, collection.subjects, gone, revision, moment)

    # ---- subjects

    def create_subject(self, collection_id: str, identifier: str | None, changes: Changes) -> tuple[Subject, bool]:
        """Create a subject, or set what is given on the one that exists; True if it is new.

        Raises CollectionNotFound.
        """
        identifier = identifier or new_id()
        with writing(self._engine).begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            existing = find_subject_key(connection, collection_key, identifier)
            if existing is None:
                add_subject(connection, collection_key, identifier, changes)
            else:
                self._change(connection, tables.subjects, existing, changes, collection_key=collection_key)
            return self._subject(connection, collection_key, identifier), existing is None

    def list_subjects(self, collection_id: str, cursor: str | None, limit: int) -> Page[Subject]:
        """Subjects in the order of their creation. Raises CollectionNotFound, InvalidCursor."""
        after = decode_cursor("subjects", cursor)
        with self._engine.begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            rows = connection.execute(
                select_subjects()
                .where(_SUBJECTS.collection_key == collection_key, _SUBJECTS.key > after)
                .limit(limit + 1)
            )
            return page("subjects", [Subject(**row) for row in rows.mappings()], limit)

    def subject(self, collection_id: str, subject_id: str) -> Subject:
        """Raises CollectionNotFound, SubjectNotFound."""
        with self._engine.begin() as connection:
            return self._subject(connection, self._collection(connection, collection_id).key, subject_id)

    def change_subject(self, collection_id: str, subject_id: str, changes: Changes) -> Subject:
        """Rename, or replace the metadata. Raises CollectionNotFound, SubjectNotFound."""
        with writing(self._engine).begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            key = self._subject(connection, collection_key, subject_id).key
            self._change(connection, tables.subjects, key, changes, collection_key=collection_key)
            return self._subject(connection, collection_key, subject_id)

    def erase_subject(self, collection_id: str, subject_id: str) -> Erased:
        """Erase a subject with all its faces. Raises CollectionNotFound, SubjectNotFound."""
        with writing(self._engine).begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            subject = self._subject(connection, collection_key, subject_id)
            gone = read_keys(connection, select_faces_in(_SUBJECTS.key == subject.key))
            connection.execute(sa.delete(tables.subjects).where(_SUBJECTS.key == subject.key))
            revision, moment = log_change(connection, "subject_erased", collection_key, subject.key)
            return Erased(collection_key, 1, gone, revision, moment)

    # ---- faces

    def enrol(self, collection_id: str, subject_id: str, faces: Sequence[NewFace], *, create_subject: bool) -> Enrolled:
        """Add faces to a subject, which is created if it is missing and `create_subject`.

        Raises CollectionNotFound, or SubjectNotFound.
        """
        with writing(self._engine).begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            subject_key = find_subject_key(connection, collection_key, subject_id)
            if subject_key is None:
                if not create_subject:
                    raise no_subject(subject_id)
                subject_key = add_subject(connection, collection_key, subject_id, Changes())
            rows = [self._face_row(subject_key, face) for face in faces]
            keys = [insert_row(connection, tables.faces, row) for row in rows]
            revision = 0
            for key in keys:
                revision, _ = log_change(connection, "face_added", collection_key, subject_key, key)
            face_ids = [str(row["id"]) for row in rows]
        return Enrolled(collection_key, subject_key, face_ids, np.array(keys, np.int64), revision)

    def list_faces(self, collection_id: str, subject_id: str, cursor: str | None, limit: int) -> Page[StoredFace]:
        """A subject's faces in the order of enrolment.

        Raises CollectionNotFound, SubjectNotFound, InvalidCursor.
        """
        after = decode_cursor("faces", cursor)
        with self._engine.begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            key = self._subject(connection, collection_key, subject_id).key
            rows = connection.execute(
                select_faces().where(_FACES.subject_key == key, _FACES.key > after).limit(limit + 1)
            )
            return page("faces", [stored_face(row) for row in rows.mappings()], limit)

    def face(self, collection_id: str, subject_id: str, face_id: str) -> StoredFace:
        """Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""
        with self._engine.begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            subject = self._subject(connection, collection_key, subject_id)
            return face_of(connection, subject, face_id)

    def erase_face(self, collection_id: str, subject_id: str, face_id: str) -> Erased:
        """Erase one face; its subject stays. Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""
        with writing(self._engine).begin() as connection:
            collection_key = self._collection(connection, collection_id).key
            subject = self._subject(connection, collection_key, subject_id)
            face = face_of(connection, subject, face_id)
            connection.execute(sa.delete(tables.faces).where(_FACES.key == face.key))
            revision, moment = log_change(connection, "face_erased", collection_key, subject.key, face.key)
            return Erased(collection_key, 0, np.array([face.key], np.int64), revision, moment)

    # ---- what search needs

    def embedding(self, face_id: str) -> NDArray[np.float32]:
        """The embedding, float32 (D,), of a face by its id. Raises FaceNotFound."""
        with self._engine.begin() as connection:
            data = connection.scalar(sa.select(_FACES.embedding).where(_FACES.id == face_id))
        if data is None:
            raise FaceNotFound(f"no face has the id {face_id!r}")
        return self._vector(face_id, data)

    def owners(self, face_keys: Sequence[int]) -> dict[int, Owner]:
        """Whose these faces are; those erased meanwhile are missing."""
        found: dict[int, Owner] = {}
        query = sa.select(
            _FACES.key, _SUBJECTS.id.label("subject_id"), _SUBJECTS.name, _FACES.id.label("face_id")
        ).join_from(tables.faces, tables.subjects)
        with self._engine.begin() as connection:
            for start in range(0, len(face_keys), _LOOKED_UP_ROWS):
                some = face_keys[start : start + _LOOKED_UP_ROWS]
                for row in connection.execute(query.where(_FACES.key.in_(some))):
                    found[row.key] = Owner(row.subject_id, row.name, row.face_id)
        return found

    def revision(self) -> int:
        """The number of the last change; 0 before the first."""
        with self._engine.begin() as connection:
            return connection.scalar(sa.select(sa.func.max(tables.revisions.c.revision))) or 0

    def check_model(self) -> None:
        """Raises GalleryModelMismatch if any face was enrolled with another model."""
        with self._engine.begin() as connection:
            query = sa.select(_FACES.model_id, sa.func.count()).where(_FACES.model_id != self._model_id)
            row = connection.execute(query.group_by(_FACES.model_id).limit(1)).first()
        if row is not None:
            raise GalleryModelMismatch(
                f"the gallery holds {row[1]} faces of model {row[0]}, but the recogniser is "
                f"{self._model_id}; "
                "embeddings of different models cannot be compared: serve with the checkpoint of that model "
                "(--recogniser), or start a new gallery (--data-dir) and enrol again"
            )

    def stream(self) -> Iterator[StoredEmbeddings]:
        """Every embedding, in blocks, without holding them all. Raises GalleryDamaged."""
        query = (
            sa.select(_FACES.key, _FACES.id, _FACES.subject_key, _SUBJECTS.collection_key, _FACES.embedding)
            .join_from(tables.faces, tables.subjects)
            .order_by(_FACES.key)
        )
        with self._engine.begin() as connection:
            result = connection.execution_options(yield_per=_STREAMED_ROWS).execute(query)
            for rows in result.partitions():
                yield StoredEmbeddings(
                    np.array([row.key for row in rows], np.int64),
                    np.array([row.subject_key for row in rows], np.int64),
                    np.array([row.collection_key for row in rows], np.int64),
                    np.stack([self._vector(row.id, row.embedding) for row in rows]),
                )

    # ---- parts

    def _collection(self, connection: sa.Connection, identifier: str) -> Collection:
        row = connection.execute(select_collections().where(_COLLECTIONS.id == identifier)).mappings().first()
        if row is None:
            raise CollectionNotFound(f"no collection has the id {identifier!r}")
        return Collection(**row)

    def _subject(self, connection: sa.Connection, collection_key: int, identifier: str) -> Subject:
        query = select_subjects().where(_SUBJECTS.collection_key == collection_key, _SUBJECTS.id == identifier)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise no_subject(identifier)
        return Subject(**row)

    def _change(
        self, connection: sa.Connection, table: sa.Table, key: int, changes: Changes, *, collection_key: int
    ) -> None:
        columns = changes.columns()
        if not columns:
            return
        connection.execute(sa.update(table).where(table.c.key == key).values(columns))
        kind = table.name.removesuffix("s")
        log_change(connection, f"{kind}_changed", collection_key, key if table is tables.subjects else None)

    def _face_row(self, subject_key: int, face: NewFace) -> dict[str, Any]:
        if face.embedding.shape != (self._embedding_size,):
            raise ValueError(f"an embedding of shape {face.embedding.shape}, not ({self._embedding_size},)")
        return {
            "id": new_id(),
            "subject_key": subject_key,
            "embedding": face.embedding.astype("<f4").tobytes(),
            "model_id": self._model_id,
            "quality": float(face.quality),
            "detection_score": float(face.detection_score),
            "box": [float(value) for value in face.box],
            "source_digest": face.source_digest,
            "created_at": datetime.now(UTC),
        }

    def _vector(self, face_id: str, data: bytes) -> NDArray[np.float32]:
        if len(data) != 4 * self._embedding_size:
            raise GalleryDamaged(
                f"face {face_id} is stored with {len(data)} bytes instead of {4 * self._embedding_size}; "
                "restore the database from a backup"
            )
        return np.frombuffer(data, "<f4").astype(np.float32)
