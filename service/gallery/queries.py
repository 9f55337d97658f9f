"""Parts of statements that collections, subjects and faces share, and the revision log."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.cursors import encode_cursor
from service.gallery.records import Changes, Page


def new_id() -> str:
    return str(uuid.uuid4())


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


def log_changes(
    connection: sa.Connection, change: str, collection_key: int, subject_key: int, face_keys: NDArray[np.int64]
) -> int:
    """Append one entry a face, in this order: the number of the last, 0 without any."""
    if not len(face_keys):
        return 0
    moment = datetime.now(UTC)
    entry = {"change": change, "collection_key": collection_key, "subject_key": subject_key, "at": moment}
    connection.execute(sa.insert(tables.revisions), [{**entry, "face_key": key} for key in face_keys.tolist()])
    return last_revision(connection)  # writers are serialised, so the last one is ours


def last_revision(connection: sa.Connection) -> int:
    """The number of the last change; 0 before the first."""
    return connection.scalar(sa.select(sa.func.max(tables.revisions.c.revision))) or 0


def moment_of(connection: sa.Connection, revision: int) -> datetime | None:
    """When a change was made; None if there is no such change."""
    query = sa.select(tables.revisions.c.at).where(tables.revisions.c.revision == revision)
    moment: datetime | None = connection.scalar(query)
    return moment


def read_keys(connection: sa.Connection, query: sa.Select[Any]) -> NDArray[np.int64]:
    return np.array(connection.scalars(query).all(), np.int64)


def page(listing: str, rows: list[Any], limit: int) -> Page[Any]:
    """`rows` hold one more than `limit` when another page follows."""
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, encode_cursor(listing, items[-1].key) if more else None)
