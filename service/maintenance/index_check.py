"""Whether the snapshots of the indexes are what the database would make of them."""

from __future__ import annotations

from collections.abc import Iterator

from service.gallery.snapshot_file import SnapshotUnusable
from service.gallery.snapshots import SnapshotFolder
from service.gallery.statements import embeddings
from service.gallery.store import GalleryStore
from service.maintenance.fsck import Finding
from service.security.sealing import Sealer, SealError
from service.settings import Settings

_REMEDY = "start the service: it builds the index anew from the database"


def snapshot_findings(settings: Settings, store: GalleryStore, sealer: Sealer) -> Iterator[Finding]:
    """What is wrong with the snapshots in the data folder. They are only a cache: nobody is lost with them."""
    folder = SnapshotFolder(settings.index_dir, store.model_id, sealer)
    with store.reading() as connection:
        held = embeddings.totals(connection)
    for key in folder.keys():  # noqa: SIM118 - not a dict
        try:
            snapshot = folder.read(key)
        except (SnapshotUnusable, SealError) as error:
            yield Finding("index snapshot", f"of collection {key}: {error}", _REMEDY)
            continue
        if key not in held:
            yield Finding("index snapshot", f"of collection {key}, which has no faces", _REMEDY)
        elif snapshot.revision > store.revision():
            yield Finding("index snapshot", f"of collection {key}: of a revision that is still to come", _REMEDY)
