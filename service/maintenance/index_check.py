"""Whether the snapshots of the indexes are what the database would make of them."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.snapshot_file import SnapshotUnusable
from service.gallery.snapshots import Snapshot, SnapshotFolder
from service.gallery.store import GalleryStore
from service.maintenance.fsck import Finding
from service.security.sealing import Sealer, SealError
from service.settings import Settings

_SUBJECTS, _FACES, _REVISIONS = tables.subjects.c, tables.faces.c, tables.revisions.c
_REMEDY = "start the service: it builds the index anew from the database"


def snapshot_findings(
    settings: Settings, store: GalleryStore, sealer: Sealer, checked: dict[str, int]
) -> Iterator[Finding]:
    """What is wrong with the snapshots in the data folder. They are only a cache: nobody is lost with them."""
    folder = SnapshotFolder(settings.index_dir, store.model_id, sealer)
    checked["index snapshots"] = 0
    for key in folder.keys():  # noqa: SIM118 - not a dict
        checked["index snapshots"] += 1
        try:
            fault = _fault(store, key, folder.read(key))
        except (SnapshotUnusable, SealError) as error:
            fault = str(error)
        if fault is not None:
            yield Finding("index snapshot", f"of collection {key}: {fault}", _REMEDY)


def _fault(store: GalleryStore, collection_key: int, snapshot: Snapshot) -> str | None:
    """How it differs from the database at its revision, if it does.

    Faces that have been erased or moved since are left to the revision log, which brings an index forward.
    """
    saved = snapshot.index.state()
    held = dict(zip(saved.faces.tolist(), saved.subjects.tolist(), strict=True))
    with store.reading() as connection:
        if snapshot.revision > (connection.scalar(sa.select(sa.func.max(_REVISIONS.revision))) or 0):
            return "it is of a revision that is still to come"
        expected = _faces(connection, collection_key, snapshot.revision)
        moved, erased = (_since(connection, kind, collection_key, snapshot.revision) for kind in ("moved", "erased"))
        gone = connection.scalar(sa.select(tables.collections.c.id).where(tables.collections.c.key == collection_key))
    if gone is None:
        return "its collection is erased"
    missing = len(expected.keys() - held.keys())
    surplus = len(held.keys() - expected.keys() - erased)
    wrong = sum(held[face] != expected[face] for face in held.keys() & expected.keys() - moved)
    if missing or surplus or wrong:
        return f"{missing} faces are missing, {surplus} too many, {wrong} another subject's"
    return None


def _faces(connection: sa.Connection, collection_key: int, revision: int) -> dict[int, int]:
    """The subject of every face of the collection that was there at that revision and still is."""
    added = sa.select(_REVISIONS.face_key).where(
        _REVISIONS.collection_key == collection_key, _REVISIONS.change == "face_added", _REVISIONS.revision <= revision
    )
    rows = connection.execute(
        sa.select(_FACES.key, _FACES.subject_key)
        .join_from(tables.faces, tables.subjects)
        .where(_SUBJECTS.collection_key == collection_key, _FACES.key.in_(added))
    )
    return {row.key: row.subject_key for row in rows}


def _since(connection: sa.Connection, kind: str, collection_key: int, revision: int) -> set[int]:
    query = sa.select(_REVISIONS.face_key).where(
        _REVISIONS.collection_key == collection_key,
        _REVISIONS.change == f"face_{kind}",
        _REVISIONS.revision > revision,
    )
    return set(connection.scalars(query))
