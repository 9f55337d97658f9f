"""Collections: find, list, put, change, erase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.cursors import decode_cursor
from service.gallery.errors import CollectionNotFound
from service.gallery.queries import described, insert_row, log_change, new_id, page, read_keys
from service.gallery.records import Changes, Collection, Erased, Page
from service.gallery.statements.reports import forget_reports_of

_COLLECTIONS, _SUBJECTS, _FACES = tables.collections.c, tables.subjects.c, tables.faces.c


def find_collection(connection: sa.Connection, identifier: str) -> Collection:
    """Raises CollectionNotFound."""
    row = connection.execute(_select().where(_COLLECTIONS.id == identifier)).mappings().first()
    if row is None:
        raise _missing(identifier)
    return Collection(**row)


def collection_key(connection: sa.Connection, identifier: str) -> int:
    """The key alone, without counting what is in it. Raises CollectionNotFound."""
    key: int | None = connection.scalar(sa.select(_COLLECTIONS.key).where(_COLLECTIONS.id == identifier))
    if key is None:
        raise _missing(identifier)
    return key


def list_collections(
    connection: sa.Connection, cursor: str | None, limit: int, only: Sequence[str] | None
) -> Page[Collection]:
    """In the order of creation; of those named in `only`, unless it is None. Raises InvalidCursor."""
    query = _select().where(_COLLECTIONS.key > decode_cursor("collections", cursor)).limit(limit + 1)
    if only is not None:
        query = query.where(_COLLECTIONS.id.in_(only))
    return page("collections", [Collection(**row) for row in connection.execute(query).mappings()], limit)


def put_collection(connection: sa.Connection, identifier: str | None, changes: Changes) -> tuple[Collection, bool]:
    """Create it, or set what is given on the one that exists; True if it is new."""
    identifier = identifier or new_id()
    existing = connection.scalar(sa.select(_COLLECTIONS.key).where(_COLLECTIONS.id == identifier))
    if existing is not None:
        return change_collection(connection, identifier, changes), False
    key = insert_row(connection, tables.collections, described(identifier, changes))
    log_change(connection, "collection_created", key)
    return find_collection(connection, identifier), True


def change_collection(connection: sa.Connection, identifier: str, changes: Changes) -> Collection:
    """Rename, or replace the metadata. Raises CollectionNotFound."""
    key = collection_key(connection, identifier)
    if columns := changes.columns():
        connection.execute(sa.update(tables.collections).where(_COLLECTIONS.key == key).values(columns))
        log_change(connection, "collection_changed", key)
    return find_collection(connection, identifier)


def erase_collection(connection: sa.Connection, identifier: str) -> Erased:
    """Erase it with everything in it, and what answers and reports told of it. Raises CollectionNotFound."""
    collection = find_collection(connection, identifier)
    faces = sa.select(_FACES.key).join_from(tables.faces, tables.subjects)
    gone = read_keys(connection, faces.where(_SUBJECTS.collection_key == collection.key))
    forget_reports_of(connection, collection.key, None)
    connection.execute(sa.delete(tables.collections).where(_COLLECTIONS.key == collection.key))
    connection.execute(sa.delete(tables.idempotency).where(tables.idempotency.c.collection_key == collection.key))
    revision, moment = log_change(connection, "collection_erased", collection.key)
    return Erased(collection.key, None, collection.subjects, gone, revision, moment)


def _missing(identifier: str) -> CollectionNotFound:
    return CollectionNotFound(f"no collection has the id {identifier!r}")


def _select() -> sa.Select[Any]:
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
