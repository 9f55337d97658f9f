"""A gallery at rest: its database while nobody serves it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from service.data_folder import held
from service.gallery.database import open_engine
from service.gallery.errors import GalleryUnusable
from service.gallery.snapshots import SnapshotFolder
from service.security.sealing import Sealer
from service.settings import Settings


class InUse(GalleryUnusable):
    """Somebody else has the database open."""


@contextmanager
def at_rest(settings: Settings) -> Iterator[sa.Engine]:
    """The migrated database, with nobody else using it or its data folder.

    Raises GalleryUnusable, also when it is being served.
    """
    with held(settings.data_dir):
        path = database_file(settings)
        if path is not None and path.exists():
            _check_file_alone(path)
        engine = open_engine(settings.gallery_url)
        try:
            if engine.dialect.name != "sqlite":
                _check_server_alone(engine)
            yield engine
        finally:
            engine.dispose()


@contextmanager
def opened(settings: Settings) -> Iterator[sa.Engine]:
    """The migrated database, whoever else uses it. Raises GalleryUnusable."""
    require_gallery(settings)
    engine = open_engine(settings.gallery_url)
    try:
        yield engine
    finally:
        engine.dispose()


def require_gallery(settings: Settings) -> None:
    """Raises GalleryUnusable where there is none: nobody looks after one that is only made now."""
    path = database_file(settings)
    if path is not None and not path.is_file():
        raise GalleryUnusable(f"there is no gallery at {path}; name its folder with --data-dir")


def drop_snapshots(folder: Path) -> None:
    """Overwrite and unlink every snapshot, whole or not: the next start builds the indexes anew. Raises OSError."""
    snapshots = SnapshotFolder(folder, "", Sealer.none()).open()
    for key in snapshots.keys():  # noqa: SIM118 - not a dict
        snapshots.drop(key)


def database_file(settings: Settings) -> Path | None:
    """Where a SQLite gallery lies; None for one on a database server. Raises GalleryUnusable."""
    try:
        address = sa.make_url(settings.gallery_url)
    except sa.exc.ArgumentError as error:
        raise GalleryUnusable(f"the database address cannot be used: {error}") from error
    return Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None


def _check_file_alone(path: Path) -> None:
    """A connection holds a shared lock on a WAL database as long as it is open; an exclusive one then cannot be had."""
    try:
        with closing(sqlite3.connect(path, timeout=0.5)) as connection:
            connection.isolation_level = None
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise GalleryUnusable(f"the database {path} cannot be used: {error}") from error
        raise InUse(f"the database {path} is in use; stop the server that serves it") from error
    except sqlite3.DatabaseError as error:
        raise GalleryUnusable(f"the database {path} cannot be used: {error}; restore it from a backup") from error


def _check_server_alone(engine: sa.Engine) -> None:
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    engine.dispose()  # connections of our own would count
    with engine.begin() as connection:
        found = connection.scalar(others)
    if found:
        raise InUse(f"{found} other connections use this database; stop the servers that serve it")
