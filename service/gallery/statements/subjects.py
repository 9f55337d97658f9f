"""Subjects: find, list, put, change, merge, erase."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.cursors import decode_cursor
from service.gallery.errors import SameSubject, SubjectNotFound
from service.gallery.queries import described, insert_row, log_change, log_changes, new_id, page, read_keys
from service.gallery.records import Changes, Erased, Merged, Page, Subject
from service.gallery.statements.reports import forget_reports_of

_SUBJECTS, _FACES = tables.subjects.c, tables.faces.c


def no_subject(identifier: str) -> SubjectNotFound:
    """The error that says so."""
    return SubjectNotFound(f"the collection has no subject {identifier!r}")


def find_subject(connection: sa.Connection, collection_key: int, identifier: str) -> Subject:
    """Raises SubjectNotFound."""
    query = _select().where(_SUBJECTS.collection_key == collection_key, _SUBJECTS.id == identifier)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise no_subject(identifier)
    return Subject(**row)


def find_subject_key(connection: sa.Connection, collection_key: int, identifier: str) -> int | None:
    """The key alone, None without such a subject."""
    query = sa.select(_SUBJECTS.key).where(_SUBJECTS.collection_key == collection_key, _SUBJECTS.id == identifier)
    key: int | None = connection.scalar(query)
    return key


def subject_key(connection: sa.Connection, collection_key: int, identifier: str) -> int:
    """The key alone. Raises SubjectNotFound."""
    key = find_subject_key(connection, collection_key, identifier)
    if key is None:
        raise no_subject(identifier)
    return key


def list_subjects(
    connection: sa.Connection, collection_key: int, cursor: str | None, limit: int, search: str | None
) -> Page[Subject]:
    """In the order of creation; those with `search` somewhere in id or name, in any case. Raises InvalidCursor."""
    query = _select().where(
        _SUBJECTS.collection_key == collection_key, _SUBJECTS.key > decode_cursor("subjects", cursor)
    )
    if search is not None:
        wanted = search.lower()
        in_id = sa.func.lower(_SUBJECTS.id).contains(wanted, autoescape=True)
        query = query.where(in_id | sa.func.lower(_SUBJECTS.name).contains(wanted, autoescape=True))
    rows = connection.execute(query.limit(limit + 1)).mappings()
    return page("subjects", [Subject(**row) for row in rows], limit)


def add_subject(connection: sa.Connection, collection_key: int, identifier: str, changes: Changes) -> int:
    """Insert one that is not there; its key."""
    row = described(identifier, changes) | {"collection_key": collection_key}
    key = insert_row(connection, tables.subjects, row)
    log_change(connection, "subject_created", collection_key, key)
    return key


def put_subject(
    connection: sa.Connection, collection_key: int, identifier: str | None, changes: Changes
) -> tuple[Subject, bool]:
    """Create it, or set what is given on the one that exists; True if it is new."""
    identifier = identifier or new_id()
    if find_subject_key(connection, collection_key, identifier) is not None:
        return change_subject(connection, collection_key, identifier, changes), False
    add_subject(connection, collection_key, identifier, changes)
    return find_subject(connection, collection_key, identifier), True


def change_subject(connection: sa.Connection, collection_key: int, identifier: str, changes: Changes) -> Subject:
    """Rename, or replace the metadata. Raises SubjectNotFound."""
    key = subject_key(connection, collection_key, identifier)
    if columns := changes.columns():
        connection.execute(sa.update(tables.subjects).where(_SUBJECTS.key == key).values(columns))
        log_change(connection, "subject_changed", collection_key, key)
    return find_subject(connection, collection_key, identifier)


def merge_subject(connection: sa.Connection, collection_key: int, source: str, into: str) -> Merged:
    """Move all faces of `source` to `into`, and erase `source`. Raises SubjectNotFound, SameSubject."""
    if source == into:
        raise SameSubject(f"{source!r} cannot be merged into itself")
    source_key = subject_key(connection, collection_key, source)
    into_key = subject_key(connection, collection_key, into)
    moved = read_keys(connection, sa.select(_FACES.key).where(_FACES.subject_key == source_key).order_by(_FACES.key))
    connection.execute(sa.update(tables.faces).where(_FACES.subject_key == source_key).values(subject_key=into_key))
    log_changes(connection, "face_moved", collection_key, into_key, moved)
    revision = _erase(connection, collection_key, source_key)[0]
    return Merged(find_subject(connection, collection_key, into), source_key, moved, revision)


def erase_subject(connection: sa.Connection, collection_key: int, identifier: str) -> Erased:
    """Erase it with all its faces, and what answers and reports told of it. Raises SubjectNotFound."""
    key = subject_key(connection, collection_key, identifier)
    gone = read_keys(connection, sa.select(_FACES.key).where(_FACES.subject_key == key).order_by(_FACES.key))
    # One entry a face: whoever follows the log needs no other knowledge of whose each was.
    log_changes(connection, "face_erased", collection_key, key, gone)
    forget_reports_of(connection, collection_key, identifier)
    revision, moment = _erase(connection, collection_key, key)
    return Erased(collection_key, key, 1, gone, revision, moment)


def _erase(connection: sa.Connection, collection_key: int, key: int) -> tuple[int, Any]:
    connection.execute(sa.delete(tables.subjects).where(_SUBJECTS.key == key))
    connection.execute(sa.delete(tables.idempotency).where(tables.idempotency.c.subject_key == key))
    return log_change(connection, "subject_erased", collection_key, key)


def _select() -> sa.Select[Any]:
    faces = sa.select(sa.func.count()).where(_FACES.subject_key == _SUBJECTS.key)
    return sa.select(tables.subjects, faces.correlate(tables.subjects).scalar_subquery().label("faces")).order_by(
        _SUBJECTS.key
    )
