"""Faces: find, list, enrol, erase, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from service.gallery import tables
from service.gallery.cursors import decode_cursor
from service.gallery.errors import FaceNotFound, ModelMismatch
from service.gallery.queries import insert_row, log_change, log_changes, new_id, page
from service.gallery.records import Enrolled, Erased, NewFace, Owner, Page, StoredFace, Subject
from service.gallery.sealed import FaceSeal

_COLLECTIONS, _SUBJECTS, _FACES = tables.collections.c, tables.subjects.c, tables.faces.c
_LOOKED_UP_ROWS: Final = 500  # SQLite takes a limited number of parameters in one statement


def find_face(connection: sa.Connection, subject: Subject, face_id: str) -> StoredFace:
    """Raises FaceNotFound."""
    query = _select().where(_FACES.subject_key == subject.key, _FACES.id == face_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise FaceNotFound(f"the subject {subject.id!r} has no face {face_id!r}")
    return _stored(row)


def list_faces(connection: sa.Connection, subject_key: int, cursor: str | None, limit: int) -> Page[StoredFace]:
    """In the order of enrolment. Raises InvalidCursor."""
    query = _select().where(_FACES.subject_key == subject_key, _FACES.key > decode_cursor("faces", cursor))
    rows = connection.execute(query.limit(limit + 1)).mappings()
    return page("faces", [_stored(row) for row in rows], limit)


def add_faces(
    connection: sa.Connection, collection_key: int, subject_key: int, faces: Sequence[NewFace], seal: FaceSeal
) -> Enrolled:
    """Insert at least one face of a subject, sealed. Raises ModelMismatch."""
    refuse_other_model(connection, seal.model_id)
    face_ids = [new_id() for _ in faces]
    rows = [face_row(subject_key, face_id, face, seal) for face_id, face in zip(face_ids, faces, strict=True)]
    keys = np.array([insert_row(connection, tables.faces, row) for row in rows], np.int64)
    revision = log_changes(connection, "face_added", collection_key, subject_key, keys)
    return Enrolled(collection_key, subject_key, face_ids, keys, revision)


def crop_of(connection: sa.Connection, face: StoredFace, seal: FaceSeal) -> bytes | None:
    """The aligned crop, lossless WebP; None if it was not kept. Raises SealError."""
    row = connection.execute(sa.select(_FACES.crop, _FACES.sealed_with).where(_FACES.key == face.key)).first()
    return None if row is None or row.crop is None else seal.crop(face.id, row.crop, row.sealed_with)


def erase_face(connection: sa.Connection, subject: Subject, face_id: str) -> Erased:
    """Erase one face; its subject stays. Raises FaceNotFound."""
    face = find_face(connection, subject, face_id)
    connection.execute(sa.delete(tables.faces).where(_FACES.key == face.key))
    revision, moment = log_change(connection, "face_erased", subject.collection_key, subject.key, face.key)
    return Erased(subject.collection_key, subject.key, 0, np.array([face.key], np.int64), revision, moment)


def owners(connection: sa.Connection, face_keys: Sequence[int]) -> dict[int, Owner]:
    """Whose these faces are; those that are gone are missing."""
    columns = (_FACES.key, _SUBJECTS.id.label("subject_id"), _SUBJECTS.name, _FACES.id.label("face_id"))
    query = sa.select(*columns).join_from(tables.faces, tables.subjects)
    found: dict[int, Owner] = {}
    for start in range(0, len(face_keys), _LOOKED_UP_ROWS):
        some = face_keys[start : start + _LOOKED_UP_ROWS]
        for row in connection.execute(query.where(_FACES.key.in_(some))):
            found[row.key] = Owner(row.subject_id, row.name, row.face_id)
    return found


def collection_of(connection: sa.Connection, face_id: str) -> str:
    """The id of the collection that a face is in. Raises FaceNotFound."""
    joined = tables.faces.join(tables.subjects).join(tables.collections)
    found: str | None = connection.scalar(sa.select(_COLLECTIONS.id).select_from(joined).where(_FACES.id == face_id))
    if found is None:
        raise FaceNotFound(f"no face has the id {face_id!r}")
    return found


def is_enrolled(connection: sa.Connection, collection_key: int, subject_id: str, source_digest: str) -> bool:
    """Whether a subject has a face of the photo with this SHA-256."""
    query = sa.select(_FACES.key).join_from(tables.faces, tables.subjects)
    chosen = (
        _SUBJECTS.collection_key == collection_key,
        _SUBJECTS.id == subject_id,
        _FACES.source_digest == source_digest,
    )
    return connection.scalar(query.where(*chosen).limit(1)) is not None


def other_model(connection: sa.Connection, model_id: str) -> str | None:
    """A model of some face that is not `model_id`."""
    # The index has the least and the greatest at hand; SQLite only if they are asked for apart.
    ends = (sa.select(end(_FACES.model_id)).scalar_subquery() for end in (sa.func.min, sa.func.max))
    found = connection.execute(sa.select(*ends)).one()
    return next((model for model in found if model is not None and model != model_id), None)


def refuse_other_model(connection: sa.Connection, model_id: str) -> None:
    """Raises ModelMismatch if a face is of another model: servers of two models may share a database by mistake."""
    other = other_model(connection, model_id)
    if other is not None:
        raise ModelMismatch(f"the gallery is of model {other}, but this server's recogniser is {model_id}")


def face_row(
    subject_key: int, face_id: str, face: NewFace, seal: FaceSeal, created_at: datetime | None = None
) -> dict[str, Any]:
    """The row of a new face; created now unless told otherwise."""
    return {
        "id": face_id,
        "subject_key": subject_key,
        "quality": float(face.quality),
        "detection_score": float(face.detection_score),
        "box": [float(value) for value in face.box],
        "source_digest": face.source_digest,
        "created_at": created_at or datetime.now(UTC),
        **seal.columns(face_id, face.embedding, face.crop),
    }


def _select() -> sa.Select[Any]:
    hidden = ("embedding", "subject_key", "crop", "sealed_with")
    columns = [column for column in _FACES if column.name not in hidden]
    return sa.select(*columns, _FACES.crop.is_not(None).label("crop")).order_by(_FACES.key)


def _stored(row: sa.RowMapping) -> StoredFace:
    return StoredFace(**{**row, "box": tuple(row["box"])})
