"""A collection as lines of the portable format, all of one revision."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.queries import last_revision
from service.gallery.statements.collections import find_collection
from service.gallery.store import GalleryStore
from service.transfer.format import ExportedCollection, FaceLine, Header, LineBox, encode_embedding, render

_SUBJECTS, _FACES = tables.subjects.c, tables.faces.c
_ROWS: Final = 500


def export_faces(store: GalleryStore, collection_id: str) -> Iterator[bytes]:
    """The header, then blocks of lines: every face, and every subject without one.

    Raises CollectionNotFound before the first, GalleryDamaged, SealError.
    """
    with store.reading() as connection:
        found = find_collection(connection, collection_id)
        yield render(
            Header(
                model=store.model_id,
                embedding_size=store.embedding_size,
                collection=ExportedCollection(id=found.id, name=found.name, metadata=dict(found.metadata)),
                gallery_revision=last_revision(connection),
                subjects=found.subjects,
                faces=found.faces,
                created_at=datetime.now(UTC),
            )
        )
        rows = connection.execution_options(yield_per=_ROWS).execute(_select(found.key))
        for part in rows.partitions():
            yield b"".join(render(_line(store, row)) for row in part)


def _select(collection_key: int) -> sa.Select[Any]:
    columns = [column for column in _FACES if column.name not in ("key", "id", "subject_key", "created_at")]
    # In the order of indexes: to sort otherwise, the database would write embeddings to a temporary file.
    return (
        sa.select(
            _SUBJECTS.id.label("subject_id"),
            _SUBJECTS.name,
            _SUBJECTS.metadata.label("subject_metadata"),
            _FACES.id.label("face_id"),
            _FACES.created_at.label("face_created_at"),
            *columns,
        )
        .select_from(tables.subjects.outerjoin(tables.faces))
        .where(_SUBJECTS.collection_key == collection_key)
        .order_by(_SUBJECTS.id, _FACES.key)
    )


def _line(store: GalleryStore, row: sa.Row[Any]) -> FaceLine:
    whose: dict[str, Any] = {"subject_id": row.subject_id, "name": row.name, "metadata": row.subject_metadata}
    if row.face_id is None:
        return FaceLine(**whose)
    x, y, width, height = row.box
    crop = None if row.crop is None else store.seal.crop(row.face_id, row.crop, row.sealed_with)
    return FaceLine(
        **whose,
        face_id=row.face_id,
        model=row.model_id,
        embedding=encode_embedding(store.seal.embedding(row.face_id, row.embedding, row.sealed_with)),
        quality=row.quality,
        detection_score=row.detection_score,
        box=LineBox(x=x, y=y, width=width, height=height),
        source_digest=row.source_digest,
        created_at=row.face_created_at,
        crop=None if crop is None else base64.b64encode(crop).decode(),
    )
