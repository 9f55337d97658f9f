"""Checks of the gallery: its database, its model, its keys, its times, its snapshots. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from models import checkpoint
from models.checkpoint import CheckpointError
from service.doctor.finding import Finding
from service.gallery.database import MIGRATIONS
from service.gallery.errors import GalleryDamaged
from service.gallery.snapshot_file import SnapshotUnusable
from service.gallery.snapshots import SnapshotFolder
from service.gallery.store import GalleryStore
from service.gallery.tables import faces, revisions
from service.security.sealing import Sealer, SealError
from service.settings import Settings

_CLOCKS_MAY_DIFFER: Final = timedelta(minutes=1)


def gallery(settings: Settings) -> Iterator[Finding]:
    """The database, the keys, and, where there is a gallery already, what it holds."""
    try:
        sealer = Sealer.from_settings(settings)
    except SealError as error:
        yield Finding("encryption key", False, str(error), "the gallery's key must be readable by this user")
        return
    address = sa.make_url(settings.gallery_url)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        yield Finding("database", True, "none yet: the first start makes it")
        yield _configured(sealer)
        return
    engine = sa.create_engine(address, hide_parameters=True)
    try:
        with engine.connect() as connection:
            yield _schema(connection, address)
            if sa.inspect(connection).has_table(faces.name):
                yield _model(connection, settings)
                yield _keys(engine, settings, sealer)
                yield _times(connection)
            else:
                yield _configured(sealer)
            yield _snapshots(settings, sealer)
    except (sa.exc.DBAPIError, ModuleNotFoundError) as error:
        reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        where = address.render_as_string(hide_password=True)
        yield Finding("database", False, f"{where}: {reason}", "check FACEMARGIN_DATABASE_URL and that it runs")
    finally:
        engine.dispose()


def _schema(connection: sa.Connection, address: sa.URL) -> Finding:
    where = address.render_as_string(hide_password=True)
    if not sa.inspect(connection).has_table("alembic_version"):
        return Finding("database", True, f"{where} answers and is empty: the first start fills it")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    found = str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))
    known = {script.revision for script in scripts.walk_revisions()}
    if found not in known:
        remedy = "install the version of Facemargin that wrote it, or a later one"
        return Finding("database", False, f"{where} has schema {found}, unknown here", remedy)
    newest = scripts.get_current_head()
    ahead = "" if found == newest else f"; the next start brings it to {newest}: back it up first"
    return Finding("database", True, f"{where} answers, schema {found}{ahead}")


def _model(connection: sa.Connection, settings: Settings) -> Finding:
    query = sa.select(faces.c.model_id, sa.func.count()).group_by(faces.c.model_id)
    held = {str(row[0]): int(row[1]) for row in connection.execute(query)}
    try:
        model_id = checkpoint.read(settings.recogniser).model_id
    except CheckpointError:
        return Finding("gallery", False, "cannot be compared with the recogniser", "see the recogniser above")
    others = {name: count for name, count in held.items() if name != model_id}
    if others:
        listed = ", ".join(f"{count} faces of {name}" for name, count in others.items())
        remedy = "serve with that checkpoint (--recogniser), or see `facemargin service reembed --help`"
        return Finding("gallery", False, f"{listed}, but the recogniser is {model_id}", remedy)
    return Finding("gallery", True, f"{sum(held.values())} faces, all of the recogniser's model")


def _times(connection: sa.Connection) -> Finding:
    """A clock behind the gallery's last change was set back, or is wrong."""
    last = connection.scalar(sa.select(sa.func.max(revisions.c.at)))
    now = datetime.now(UTC)
    detail = "no change yet" if last is None else f"last change {last.isoformat(timespec='seconds')}"
    right = last is None or last <= now + _CLOCKS_MAY_DIFFER
    return Finding("gallery's clock", right, detail, f"it is in the future; the clock says {now:%Y-%m-%d %H:%M}")


def _configured(sealer: Sealer) -> Finding:
    name = "encryption key"
    return Finding(name, True, "none: embeddings will not be encrypted" if sealer.current is None else sealer.current)


def _keys(engine: sa.Engine, settings: Settings, sealer: Sealer) -> Finding:
    """Whether what is sealed can be opened: one face of each key that was ever used is."""
    name = "encryption key"
    try:
        metadata = checkpoint.read(settings.recogniser).metadata
        store = GalleryStore(engine, checkpoint.model_id(metadata), metadata.embedding_size or 0, sealer=sealer)
        stale = store.check_keys()
    except CheckpointError:
        return Finding(name, False, "cannot be tried without the recogniser", "see the recogniser above")
    except (SealError, GalleryDamaged) as error:
        return Finding(name, False, str(error), "give the key that the gallery was sealed with")
    if stale:
        return Finding(name, True, f"opens every face; {stale} are not sealed with the newest: `service rotate-key`")
    return _configured(sealer)


def _snapshots(settings: Settings, sealer: Sealer) -> Finding:
    """A snapshot that cannot be used costs a slower start, no more: the index is then built from the database."""
    try:
        folder = SnapshotFolder(settings.index_dir, checkpoint.read(settings.recogniser).model_id, sealer)
    except CheckpointError:
        return Finding("snapshots", False, "cannot be read without the recogniser", "see the recogniser above")
    bad = []
    for key in folder.keys():  # noqa: SIM118 - not a dict
        try:
            folder.read(key)
        except (SnapshotUnusable, SealError) as error:
            bad.append(f"that of collection {key}: {error}")
    detail = f"{len(bad)} cannot be used, {bad[0]}" if bad else f"{len(folder.keys())} whole"
    return Finding("snapshots", not bad, detail, f"remove {settings.index_dir}: they are made again from the database")
