"""A gallery of this machine without a server in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointError
from service.gallery.store import GalleryStore
from service.maintenance.rest import at_rest
from service.security.sealing import Sealer
from service.settings import Settings
from service.startup import Services
from service.telemetry.telemetry import Telemetry


@contextmanager
def services_at_rest(settings: Settings) -> Iterator[Services]:
    """Models and gallery, while nobody serves the data folder. Takes seconds. Raises one of OPERATOR_ERRORS."""
    with at_rest(settings) as engine:
        services = Services.open(settings, engine, Telemetry())
        try:
            yield services
        finally:
            services.close()


def open_store(settings: Settings, engine: sa.Engine) -> GalleryStore:
    """The store for the checkpoint that the settings name, without loading its network. Raises OPERATOR_ERRORS."""
    loaded = recogniser_of(settings)
    return GalleryStore(
        engine,
        loaded.model_id,
        loaded.metadata.embedding_size or 0,
        sealer=Sealer.from_settings(settings),
        keep_crops=settings.keep_crops,
    )


def recogniser_of(settings: Settings) -> Checkpoint:
    """The checkpoint that the settings name. Raises CheckpointError."""
    loaded = checkpoint.read(settings.recogniser)
    if loaded.metadata.embedding_size is None:
        raise CheckpointError(f"{settings.recogniser.name} is no recogniser; name one with --recogniser")
    return loaded
