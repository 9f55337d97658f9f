"""The statements of the gallery's store."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.cursors import encode_cursor
from service.gallery.errors import FaceNotFound, SubjectNotFound
from service.gallery.records import Changes, Page, StoredFace, Subject

_COLLECTIONS, _SUBJECTS, _FACES = tables.collections.c, tables.subjects.c, tables.faces.c


def new_id() -> str:
    return str(uuid.uuid4())


def no_subject(identifier: str) -> SubjectNotFound:
    return SubjectNotFound(f"the collection has no subject {identifier!r}")


def described(identifier: str, changes: Changes) -> dict[str, Any]:
    row = {"id": identifier, "name": identifier, "metadata": {}, "created_at": datetime.now(UTC)}
    return row | changes.columns()


def insert_row(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> int:
    inserted = connection.execute(sa.insert(table).values(row)).inserted_primary_key
    assert inserted is not None  # a single-row insert always reports it
    return int(inserted[0])


def log_change(
    connection: sa.Connection,
    change: str,
    collection_key: int,
    subject_key: int | None = None,
    face_key: int | None = None,
) -> tuple[int, datetime]:
    """Append to the revision log: the change's number and moment."""
    moment = datetime.now(UTC)
    row = {
        "change": change,
        "collection_key": collection_key,
        "subject_key": subject_key,
        "face_key": face_key,
        "at": moment,
    }
    return insert_row(connection, tables.revisions, row), moment


def add_subject(connection: sa.Connection, collection_key: int, identifier: str, changes: Changes) -> int:
    row = described(identifier, changes) | {"collection_key": collection_key}
    key = insert_row(connection, tables.subjects, row)
    log_change(connection, "subject_created", collection_key, key)
    return key


def find_subject_key(connection: sa.Connection, collection_key: int, identifier: str) -> int | None:
    query = sa.select(_SUBJECTS.key).where(_SUBJECTS.collection_key == collection_key, _SUBJECTS.id == identifier)
    key: int | None = connection.scalar(query)
    return key


def select_faces_in(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_FACES.key).join_from(tables.faces, tables.subjects).where(condition)


def read_keys(connection: sa.Connection, query: sa.Select[Any]) -> NDArray[np.int64]:
    return np.array(connection.scalars(query).all(), np.int64)


def select_collections() -> sa.Select[Any]:
    subjects = sa.select(sa.func.count()).where(_SUBJECTS.collection_key == _COLLECTIONS.key)
    faces = (
        sa.select(sa.func.count())
        .select_from(tables.faces.join(tables.subjects))
        .where(_SUBJECTS.collection_key == _COLLECTIONS.key)
    )
    return sa.select(
        tables.collections,
        subjects.correlate(tables.collections).scalar_subquery().label("subjects"),
        faces.correlate(tables.collections).scalar_subquery().label("faces"),
    ).order_by(_COLLECTIONS.key)


def select_subjects() -> sa.Select[Any]:
    faces = sa.select(sa.func.count()).where(_FACES.subject_key == _SUBJECTS.key)
    return sa.select(
        _SUBJECTS.key,
        _SUBJECTS.id,
        _SUBJECTS.name,
        _SUBJECTS.metadata,
        _SUBJECTS.created_at,
        faces.correlate(tables.subjects).scalar_subquery().label("faces"),
    ).order_by(_SUBJECTS.key)


def select_faces() -> sa.Select[Any]:
    columns = [column for column in _FACES if column.name not in ("embedding", "subject_key", "crop", "sealed_with")]
    return sa.select(*columns).order_by(_FACES.key)


def stored_face(row: sa.RowMapping) -> StoredFace:
    return StoredFace(**{**row, "box": tuple(row["box"])})


def face_of(connection: sa.Connection, subject: Subject, face_id: str) -> StoredFace:
    query = select_faces().where(_FACES.subject_key == subject.key, _FACES.id == face_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise FaceNotFound(f"the subject {subject.id!r} has no face {face_id!r}")
    return stored_face(row)


def page(listing: str, rows: list[Any], limit: int) -> Page[Any]:
    """`rows` hold one more than `limit` when another page follows."""
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, encode_cursor(listing, items[-1].key) if more else None)
