"""How the service is doing, for its status, its metrics and the page."""

from __future__ import annotations

import sqlalchemy as sa

from service.gallery.gallery import Gallery
from service.startup import Services
from service.telemetry.state import Following, IndexState, State


def read_state(services: Services) -> State:
    """The state of this moment."""
    gallery, analyser = services.gallery, services.analyser
    return State(
        model=analyser.model_id,
        detector=analyser.detector_id,
        following=_following(gallery),
        index_revision=gallery.revision,
        indexes=tuple(
            IndexState(key, index.faces, index.subjects, index.kind, gallery.snapshot_revision(key))
            for key, index in gallery.indexes.items()
        ),
        queues={"photos": analyser.photos_pending, "faces": analyser.faces_waiting},
        restart_needed=bool(services.model_files.changed()),
    )


def _following(gallery: Gallery) -> Following | None:
    """Metrics matter most when something is broken, so a database that is away is told rather than raised."""
    try:
        revision, lag = gallery.store.revision(), gallery.lag()
    except sa.exc.DBAPIError:
        return None
    return Following(revision, lag.revisions, lag.seconds)
