"""Putting a backup back: verified first, into an empty place only, all at once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError

from service.data_folder import held
from service.gallery import tables
from service.gallery.database import open_engine, writing
from service.maintenance.backup import (
    DATABASE,
    MANIFEST,
    Manifest,
    TargetExists,
    digest_of,
    scratch_beside,
    single_file,
    sync_folder,
)
from service.maintenance.copying import copy_rows, read_sequences, write_sequences
from service.maintenance.rest import database_file, drop_snapshots
from service.settings import Settings

_LARGEST_MANIFEST = 2**20


class BadBackup(Exception):
    """The file is no whole backup; the message says why."""


def restore(
    archive: Path, settings: Settings, snapshots: Path, note: Callable[[sa.Engine, Manifest], None]
) -> Manifest:
    """Restore a gallery. `snapshots`: the folder of index snapshots, which are of another history and go.

    note: writes that it was restored into the restored database, before that is put in its place.

    Raises BadBackup, TargetExists when there is a gallery already, GalleryUnusable.
    """
    with held(settings.data_dir):
        file = database_file(settings)
        if file is not None:
            _check_free(file)
        with scratch_beside(file or settings.data_dir / DATABASE) as scratch:
            manifest = unpack(archive, scratch / DATABASE)
            # Older schemas are brought up to date before the copy is put in its place.
            engine = open_engine(f"sqlite:///{scratch / DATABASE}")
            note(engine, manifest)
            engine.dispose()
            single_file(scratch / DATABASE)
            if file is not None:
                _place(scratch / DATABASE, file)
            else:
                _insert(scratch / DATABASE, settings.gallery_url)
        drop_snapshots(snapshots)
    return manifest


def unpack(archive: Path, database: Path) -> Manifest:
    """Take the database out of a backup, and prove it whole. Raises BadBackup."""
    try:
        with tarfile.open(archive, "r:") as tar:
            entry = tar.extractfile(MANIFEST)
            content = tar.extractfile(DATABASE)
            if entry is None or content is None:
                raise BadBackup(f"{archive} is no backup of facemargin")
            manifest = Manifest.model_validate_json(entry.read(_LARGEST_MANIFEST))
            with database.open("xb") as file:
                shutil.copyfileobj(content, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise BadBackup(f"{archive} is no backup of facemargin, or is cut short") from error
    except OSError as error:
        raise BadBackup(f"{archive} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise BadBackup(f"{archive}: its manifest is damaged, or of a newer Facemargin") from error
    if database.stat().st_size != manifest.bytes or digest_of(database) != manifest.sha256:
        raise BadBackup(f"{archive}: the database in it is damaged (its SHA-256 is another); use another backup")
    with closing(sqlite3.connect(database)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise BadBackup(f"{archive}: the database in it is damaged ({verdict}); use another backup")
    return manifest


def _check_free(file: Path) -> None:
    for existing in (file, file.with_name(file.name + "-wal")):
        if existing.exists():
            raise TargetExists(
                f"there is a gallery at {file} already; restore into another --data-dir, or move it away"
            )


def _place(copy: Path, file: Path) -> None:
    copy.chmod(0o600)
    try:
        os.link(copy, file)
    except FileExistsError as error:
        raise TargetExists(f"there is a gallery at {file} already") from error
    sync_folder(file.parent)


def _insert(copy: Path, url: str) -> None:
    """All rows into an empty database of a server, in one transaction."""
    source_engine, target_engine = open_engine(f"sqlite:///{copy}"), open_engine(url)
    try:
        with source_engine.begin() as source, writing(target_engine).begin() as target:
            if any(_holds(target, table) for table in tables.metadata.sorted_tables if table is not tables.collections):
                raise TargetExists("the database holds a gallery already; name an empty one with --database-url")
            target.execute(sa.delete(tables.collections))  # a new gallery begins with `default`
            copy_rows(source, target)
            write_sequences(target, read_sequences(source))
    finally:
        source_engine.dispose()
        target_engine.dispose()


def _holds(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None
