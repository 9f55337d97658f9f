"""Backup of a gallery while it is served: one file, consistent at one revision, that any database can take back.

A tar of `manifest.json` and `facemargin.db`, which is a SQLite database whatever the gallery's own is.
The encryption key is never part of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict

from service.gallery import tables
from service.gallery.database import consistent, open_engine, writing
from service.maintenance.copying import copy_rows, read_sequences, stored, write_sequences

DATABASE: Final = "facemargin.db"
MANIFEST: Final = "manifest.json"
_BLOCK: Final = 2**20


class Manifest(BaseModel):
    """What a backup holds. sealed_with: the ids of the encryption keys without which it cannot be used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["facemargin-backup"] = "facemargin-backup"
    version: Literal[1] = 1
    created_at: AwareDatetime
    models: list[str]
    gallery_revision: int
    collections: int
    subjects: int
    faces: int
    sealed_with: list[str]
    bytes: int
    sha256: str


class TargetExists(Exception):
    """The message names what is in the way."""


def back_up(engine: sa.Engine, target: Path) -> Manifest:
    """Write a backup to `target`, which must not exist. Raises TargetExists, OSError."""
    if target.exists():
        raise TargetExists(f"{target} exists already; choose another name")
    with scratch_beside(target) as scratch:
        copy = scratch / DATABASE
        if engine.dialect.name == "sqlite":
            _copy_file(engine, copy)
        else:
            _copy_server(engine, copy)
        manifest = _describe(copy)
        part = scratch / "backup.tar"
        _pack(part, manifest, copy)
        os.link(part, target)  # unlike a rename it never overwrites
        sync_folder(target.parent)
    return manifest


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder of ours on the file system of `target`; what a killed run left in it is removed first."""
    scratch = target.absolute().parent / f".{target.name}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive the loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def single_file(path: Path) -> None:
    """Fold a SQLite database's write-ahead log into its one file."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


def _copy_file(engine: sa.Engine, copy: Path) -> None:
    """SQLite's own online copy: pages as they are, writers go on meanwhile."""
    with engine.connect() as connection, closing(sqlite3.connect(copy)) as target:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        source.backup(target)
    single_file(copy)


def _copy_server(engine: sa.Engine, copy: Path) -> None:
    """Every row in one repeatable-read transaction."""
    into = open_engine(f"sqlite:///{copy}")
    try:
        with consistent(engine).begin() as source, writing(into).begin() as target:
            target.execute(sa.delete(tables.collections))  # a new gallery begins with `default`
            copy_rows(source, target)
            write_sequences(target, read_sequences(source))
    finally:
        into.dispose()
    single_file(copy)


def _describe(copy: Path) -> Manifest:
    engine = sa.create_engine(f"sqlite:///{copy}")
    try:
        with engine.begin() as connection:
            figures = stored(connection)
    finally:
        engine.dispose()
    return Manifest(created_at=datetime.now(UTC), bytes=copy.stat().st_size, sha256=digest_of(copy), **figures)


def _pack(part: Path, manifest: Manifest, copy: Path) -> None:
    document = manifest.model_dump_json(indent=2).encode()
    with part.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            entry = tarfile.TarInfo(MANIFEST)
            entry.size, entry.mode = len(document), 0o600
            tar.addfile(entry, BytesIO(document))
            tar.add(copy, DATABASE)
        file.flush()
        os.fsync(file.fileno())
