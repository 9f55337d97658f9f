"""What search needs: every embedding, those that are new, and whether they can be used at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.errors import FaceNotFound, GalleryModelMismatch, ModelMismatch
from service.gallery.records import Change, News, StoredEmbeddings, Total
from service.gallery.sealed import FaceSeal
from service.gallery.statements.faces import other_model

_SUBJECTS, _FACES, _REVISIONS = tables.subjects.c, tables.faces.c, tables.revisions.c
_STREAMED_ROWS: Final = 4096


def embedding_of(connection: sa.Connection, face_id: str, seal: FaceSeal) -> NDArray[np.float32]:
    """The embedding, float32 (D,), of a face by its id. Raises FaceNotFound, ModelMismatch."""
    columns = (_FACES.embedding, _FACES.sealed_with, _FACES.model_id)
    row = connection.execute(sa.select(*columns).where(_FACES.id == face_id)).first()
    if row is None:
        raise FaceNotFound(f"no face has the id {face_id!r}")
    if row.model_id != seal.model_id:
        raise ModelMismatch(f"the face is of model {row.model_id}, but the recogniser is {seal.model_id}")
    return seal.embedding(face_id, row.embedding, row.sealed_with)


def stream(connection: sa.Connection, seal: FaceSeal, collection_key: int | None = None) -> Iterator[StoredEmbeddings]:
    """Every embedding, of one collection or of all, in blocks, without holding them all.

    Raises GalleryDamaged, SealError.
    """
    query = _select()
    if collection_key is not None:
        query = query.where(_SUBJECTS.collection_key == collection_key)
    # In no order: to sort them the database would write them to a temporary file.
    result = connection.execution_options(yield_per=_STREAMED_ROWS).execute(query)
    for rows in result.partitions():
        yield _block(rows, seal)


def news_after(
    connection: sa.Connection, revision: int, limit: int, seal: FaceSeal, collection_key: int | None = None
) -> News:
    """At most `limit` changes after `revision`, of one collection or of all, in their order.

    Raises GalleryDamaged, SealError, GalleryModelMismatch.
    """
    query = sa.select(tables.revisions).where(_REVISIONS.revision > revision).order_by(_REVISIONS.revision)
    if collection_key is not None:
        query = query.where(_REVISIONS.collection_key == collection_key)
    changes = [
        Change(row.revision, row.change, row.collection_key, row.subject_key, row.face_key)
        for row in connection.execute(query.limit(limit))
    ]
    keys = [change.face_key for change in changes if change.change == "face_added" and change.face_key is not None]
    if not keys:
        return News(changes, _block([], seal))
    # Keys grow with revisions, so those that were added are all but the only ones in their range.
    rows = connection.execute(_select().where(_FACES.key.between(min(keys), max(keys)))).all()
    wanted = set(keys)
    return News(changes, _block([row for row in rows if row.key in wanted], seal))


def totals(connection: sa.Connection) -> dict[int, Total]:
    """By the number of each collection that has a face: what an index of it must come to."""
    query = sa.select(_SUBJECTS.collection_key, sa.func.count(), sa.func.sum(_FACES.key))
    rows = connection.execute(query.join_from(tables.faces, tables.subjects).group_by(_SUBJECTS.collection_key))
    return {row[0]: Total(row[1], int(row[2])) for row in rows}


def check_model(connection: sa.Connection, model_id: str) -> None:
    """Raises GalleryModelMismatch if any face was enrolled with another model."""
    other = other_model(connection, model_id)
    if other is not None:
        count = connection.scalar(sa.select(sa.func.count()).where(_FACES.model_id == other))
        raise GalleryModelMismatch(
            f"the gallery holds {count} faces of model {other}, but the recogniser is {model_id}; "
            "embeddings of different models cannot be compared: serve with the checkpoint of that model "
            "(--recogniser), embed the kept crops anew (`facemargin service reembed`), or start a new gallery "
            "(--data-dir) and enrol again"
        )


def check_keys(connection: sa.Connection, seal: FaceSeal) -> int:
    """How many faces are not sealed with the newest key. Raises SealError if some cannot be opened."""
    stale = 0
    query = sa.select(_FACES.sealed_with, sa.func.count(), sa.func.min(_FACES.key)).group_by(_FACES.sealed_with)
    for sealed_with, count, key in connection.execute(query).all():
        if sealed_with is not None:
            row = connection.execute(sa.select(_FACES.id, _FACES.embedding).where(_FACES.key == key)).one()
            seal.embedding(row.id, row.embedding, sealed_with)
        if sealed_with != seal.sealer.current:
            stale += count
    return stale


def _select() -> sa.Select[Any]:
    columns = (
        _FACES.key,
        _FACES.id,
        _FACES.subject_key,
        _SUBJECTS.collection_key,
        _FACES.embedding,
        _FACES.sealed_with,
        _FACES.model_id,
    )
    return sa.select(*columns).join_from(tables.faces, tables.subjects)


def _block(rows: Sequence[sa.Row[Any]], seal: FaceSeal) -> StoredEmbeddings:
    other = next((row.model_id for row in rows if row.model_id != seal.model_id), None)
    if other is not None:
        raise GalleryModelMismatch(f"the gallery now holds faces of model {other}; serve with that checkpoint")
    vectors = [seal.embedding(row.id, row.embedding, row.sealed_with) for row in rows]
    return StoredEmbeddings(
        np.array([row.key for row in rows], np.int64),
        np.array([row.subject_key for row in rows], np.int64),
        np.array([row.collection_key for row in rows], np.int64),
        np.stack(vectors) if vectors else np.empty((0, seal.embedding_size), np.float32),
    )
