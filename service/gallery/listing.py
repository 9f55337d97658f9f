"""Faces of a whole collection, by page number: for clients that know no cursors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.errors import CollectionNotFound, FaceNotFound
from service.gallery.records import Owner

_COLLECTIONS, _SUBJECTS, _FACES = tables.collections.c, tables.subjects.c, tables.faces.c


@dataclass(frozen=True)
class NumberedPage:
    """Some faces with whose they are, and how many there are in all."""

    items: list[Owner]
    total: int


class FaceListing:
    """Reads whose the faces of a collection are. Safe to use from many threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, collection_id: str, subject_id: str | None, number: int, size: int) -> NumberedPage:
        """Page `number`, from 0, of `size` faces in the order of enrolment; of one subject or of everybody.

        A subject that is not there has no faces. Raises CollectionNotFound.
        """
        with self._engine.begin() as connection:
            chosen = _SUBJECTS.collection_key == _collection_key(connection, collection_id)
            if subject_id is not None:
                chosen &= _SUBJECTS.id == subject_id
            rows = connection.execute(_owners().where(chosen).order_by(_FACES.key).limit(size).offset(number * size))
            items = [Owner(row.subject_id, row.name, row.face_id) for row in rows]
            count = sa.select(sa.func.count()).select_from(tables.faces.join(tables.subjects)).where(chosen)
            return NumberedPage(items, connection.scalar(count) or 0)

    def owner(self, collection_id: str, face_id: str) -> Owner:
        """Whose a face is. Raises CollectionNotFound, FaceNotFound if it is in no or another collection."""
        with self._engine.begin() as connection:
            chosen = _SUBJECTS.collection_key == _collection_key(connection, collection_id)
            row = connection.execute(_owners().where(chosen, _FACES.id == face_id)).first()
        if row is None:
            raise FaceNotFound(f"no face has the id {face_id!r}")
        return Owner(row.subject_id, row.name, row.face_id)

    def subjects(self, collection_id: str) -> list[tuple[str, str]]:
        """Id and name of everybody, in the order of their creation. Raises CollectionNotFound."""
        with self._engine.begin() as connection:
            chosen = _SUBJECTS.collection_key == _collection_key(connection, collection_id)
            rows = connection.execute(sa.select(_SUBJECTS.id, _SUBJECTS.name).where(chosen).order_by(_SUBJECTS.key))
            return [(row.id, row.name) for row in rows]


def _owners() -> sa.Select[Any]:
    columns = (_SUBJECTS.id.label("subject_id"), _SUBJECTS.name, _FACES.id.label("face_id"))
    return sa.select(*columns).join_from(tables.faces, tables.subjects)


def _collection_key(connection: sa.Connection, collection_id: str) -> int:
    key: int | None = connection.scalar(sa.select(_COLLECTIONS.key).where(_COLLECTIONS.id == collection_id))
    if key is None:
        raise CollectionNotFound(f"no collection has the id {collection_id!r}")
    return key
