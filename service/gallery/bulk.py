"""Many faces in one transaction: the statements behind an import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.records import Box, NewFace
from service.gallery.sealed import FaceSeal
from service.gallery.statements.faces import face_row, refuse_other_model

_SUBJECTS, _FACES, _REVISIONS = tables.subjects.c, tables.faces.c, tables.revisions.c
_LOOKED_UP_ROWS: Final = 500  # SQLite takes a limited number of parameters in one statement


@dataclass(frozen=True)
class BulkFace:
    """A face with its subject, which is created if it is missing; without an embedding only the subject.

    embedding: float32 (D,) of unit length; crop: WebP.
    """

    subject_id: str
    name: str
    metadata: Mapping[str, Any]
    face_id: str = ""
    embedding: NDArray[np.float32] | None = None
    quality: float = 0.0
    detection_score: float = 0.0
    box: Box = (0.0, 0.0, 0.0, 0.0)
    source_digest: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    crop: bytes | None = None


@dataclass(frozen=True)
class BulkInserted:
    """What an import made durable. keys, subject_keys: int64 (N,); vectors: float32 (N, D) under these keys.

    skipped: faces that the collection had already; elsewhere: ids that another collection uses.
    """

    collection_key: int
    keys: NDArray[np.int64]
    subject_keys: NDArray[np.int64]
    vectors: NDArray[np.float32]
    subjects_created: int
    skipped: int
    elsewhere: tuple[str, ...]
    revision: int


def insert_bulk(
    connection: sa.Connection, collection_key: int, faces: Sequence[BulkFace], seal: FaceSeal
) -> BulkInserted:
    """Insert what is new of `faces`, whose ids differ, sealed. Raises ModelMismatch."""
    refuse_other_model(connection, seal.model_id)
    before = _last(connection, _REVISIONS.revision)
    owners = _owners(connection, [face.face_id for face in faces if face.face_id])
    subject_keys, created = _subjects(connection, collection_key, faces)
    new = [face for face in faces if face.embedding is not None and face.face_id not in owners]
    keys = _insert_faces(connection, [_row(subject_keys[face.subject_id], face, seal) for face in new])
    of_subject = np.array([subject_keys[face.subject_id] for face in new], np.int64)
    _log(
        connection,
        [
            {"change": "face_added", "collection_key": collection_key, "subject_key": subject, "face_key": key}
            for key, subject in zip(keys.tolist(), of_subject.tolist(), strict=True)
        ],
    )
    elsewhere = tuple(face_id for face_id, owner in owners.items() if owner != collection_key)
    vectors = [face.embedding for face in new if face.embedding is not None]
    return BulkInserted(
        collection_key,
        keys,
        of_subject,
        np.stack(vectors) if vectors else np.empty((0, seal.embedding_size), np.float32),
        created,
        len(owners) - len(elsewhere),
        elsewhere,
        max(before, _last(connection, _REVISIONS.revision)),
    )


def _row(subject_key: int, face: BulkFace, seal: FaceSeal) -> dict[str, Any]:
    assert face.embedding is not None  # who has none is a subject without faces
    new = NewFace(face.embedding, face.quality, face.detection_score, face.box, face.source_digest, face.crop)
    return face_row(subject_key, face.face_id, new, seal, face.created_at)


def _owners(connection: sa.Connection, face_ids: Sequence[str]) -> dict[str, int]:
    """The collection's key of each of these faces that exists."""
    query = sa.select(_FACES.id, _SUBJECTS.collection_key).join_from(tables.faces, tables.subjects)
    found: dict[str, int] = {}
    for some in _parts(face_ids):
        found.update({row.id: row.collection_key for row in connection.execute(query.where(_FACES.id.in_(some)))})
    return found


def _subjects(connection: sa.Connection, collection_key: int, faces: Sequence[BulkFace]) -> tuple[dict[str, int], int]:
    """The key of every subject that is named, and how many had to be created."""
    described = {face.subject_id: face for face in reversed(faces)}
    found = _subject_keys(connection, collection_key, list(described))
    missing = [face for subject_id, face in reversed(described.items()) if subject_id not in found]
    if missing:
        now = datetime.now(UTC)
        rows = [
            {
                "collection_key": collection_key,
                "id": face.subject_id,
                "name": face.name,
                "metadata": dict(face.metadata),
                "created_at": now,
            }
            for face in missing
        ]
        connection.execute(sa.insert(tables.subjects), rows)
        created = _subject_keys(connection, collection_key, [face.subject_id for face in missing])
        _log(
            connection,
            [
                {"change": "subject_created", "collection_key": collection_key, "subject_key": key, "face_key": None}
                for key in sorted(created.values())
            ],
        )
        found |= created
    return found, len(missing)


def _subject_keys(connection: sa.Connection, collection_key: int, subject_ids: Sequence[str]) -> dict[str, int]:
    query = sa.select(_SUBJECTS.id, _SUBJECTS.key).where(_SUBJECTS.collection_key == collection_key)
    found: dict[str, int] = {}
    for some in _parts(subject_ids):
        found.update({row.id: row.key for row in connection.execute(query.where(_SUBJECTS.id.in_(some)))})
    return found


def _insert_faces(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> NDArray[np.int64]:
    """int64 (N,): the keys of the rows. Writers are serialised, so every key above the last one is ours."""
    if not rows:
        return np.empty(0, np.int64)
    before = _last(connection, _FACES.key)
    connection.execute(sa.insert(tables.faces), rows)
    keys = {row.id: row.key for row in connection.execute(sa.select(_FACES.id, _FACES.key).where(_FACES.key > before))}
    return np.array([keys[row["id"]] for row in rows], np.int64)


def _log(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        now = datetime.now(UTC)
        connection.execute(sa.insert(tables.revisions), [{**row, "at": now} for row in rows])


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _LOOKED_UP_ROWS] for start in range(0, len(values), _LOOKED_UP_ROWS))


def _last(connection: sa.Connection, column: sa.Column[int]) -> int:
    return connection.scalar(sa.select(sa.func.max(column))) or 0
