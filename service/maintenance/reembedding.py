"""Embedding every face anew, from the kept crops, with the checkpoint that is now configured.

The new embeddings gather in a file of their own beside the data, sealed as they will be; only when none is missing
they take the place of the old ones, in one transaction. A run that was killed goes on where it stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from service.gallery import tables
from service.gallery.database import forget_erased, writing
from service.gallery.queries import log_change
from service.gallery.sealed import crop_context, embedding_context
from service.recognition.crops import decode_crop
from service.security.sealing import Sealer

_FACES, _SUBJECTS = tables.faces.c, tables.subjects.c
_BATCH: Final = 64

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(N, 112, 112, 3) crops -> (N, D) unit embeddings, as a caller of the new model gives them."""


class CannotReembed(Exception):
    """Crops are missing, or sealed with an old key; the message says how many and what to do."""


def reembed(
    engine: sa.Engine,
    sealer: Sealer,
    model_id: str,
    embed: Embed,
    staging: Path,
    progressed: Callable[[int, int], None],
) -> int:
    """Replace the embeddings of every other model than `model_id`; how many faces that were.

    staging: a file that keeps the new embeddings meanwhile. Raises CannotReembed before anything is changed, SealError.
    """
    stale = _FACES.model_id != model_id
    with engine.begin() as connection:
        total = _count(connection, stale)
        _check_crops(connection, stale, total, sealer)
    if total == 0:
        return 0
    with closing(_open_staging(staging, f"{model_id} {sealer.current}")) as staged:
        _stage(engine, sealer, embed, staged, stale, total, progressed)
        _switch(engine, staged, stale, model_id, total)
    for file in (staging, staging.with_name(staging.name + "-wal"), staging.with_name(staging.name + "-shm")):
        file.unlink(missing_ok=True)
    forget_erased(engine)
    return total


def _check_crops(connection: sa.Connection, stale: sa.ColumnElement[bool], total: int, sealer: Sealer) -> None:
    without = _count(connection, sa.and_(stale, _FACES.crop.is_(None)))
    if without:
        raise CannotReembed(
            f"{without} of {total} faces have no kept crop (FACEMARGIN_KEEP_CROPS was off when they were enrolled), so "
            "they cannot be embedded again: keep the old checkpoint, or erase them and enrol their photos again"
        )
    # A row names one key for its embedding and its crop, so both must be sealed with the one that seals now.
    other_key = _count(connection, sa.and_(stale, _FACES.sealed_with.is_distinct_from(sealer.current)))
    if other_key:
        raise CannotReembed(
            f"{other_key} of {total} faces are not sealed with the newest encryption key; "
            "run `facemargin service rotate-key` first"
        )


def _stage(
    engine: sa.Engine,
    sealer: Sealer,
    embed: Embed,
    staged: sqlite3.Connection,
    stale: sa.ColumnElement[bool],
    total: int,
    progressed: Callable[[int, int], None],
) -> None:
    """Fill the staging file."""
    have = {row[0] for row in staged.execute("SELECT face_id FROM staged")}
    with engine.begin() as connection:
        query = sa.select(_FACES.id, _FACES.crop, _FACES.sealed_with).where(stale).order_by(_FACES.key)
        result = connection.execution_options(yield_per=_BATCH).execute(query)
        for rows in result.partitions():
            todo = [row for row in rows if row.id not in have]
            if todo:
                crops = np.stack([decode_crop(_opened(row, sealer)) for row in todo])
                entries = [_sealed(row.id, vector, sealer) for row, vector in zip(todo, embed(crops), strict=True)]
                with staged:
                    staged.executemany("INSERT INTO staged VALUES (?, ?)", entries)
                have.update(row.id for row in todo)
            progressed(len(have), total)


def _opened(row: Any, sealer: Sealer) -> bytes:
    crop: bytes = row.crop
    return crop if row.sealed_with is None else sealer.open(crop, crop_context(row.id), row.sealed_with)


def _sealed(face_id: str, vector: NDArray[np.float32], sealer: Sealer) -> tuple[str, bytes]:
    data = vector.astype("<f4").tobytes()
    return face_id, data if sealer.current is None else sealer.seal(data, embedding_context(face_id))


def _switch(
    engine: sa.Engine, staged: sqlite3.Connection, stale: sa.ColumnElement[bool], model_id: str, total: int
) -> None:
    """All new embeddings in the place of the old ones, in one transaction."""
    changed = 0
    with writing(engine).begin() as connection:
        for face_id, embedding in staged.execute("SELECT face_id, embedding FROM staged"):
            values = {"embedding": embedding, "model_id": model_id}
            which = sa.and_(_FACES.id == face_id, stale)
            changed += connection.execute(sa.update(tables.faces).where(which).values(values)).rowcount
        if changed != total or _count(connection, stale):
            raise CannotReembed("the gallery changed meanwhile; nothing was switched, run it again")
        for key in connection.scalars(sa.select(tables.collections.c.key)).all():
            log_change(connection, "reembedded", key)


def _open_staging(path: Path, stamp: str) -> sqlite3.Connection:
    """The staging file of this model and key; what it holds of another is of no use and goes."""
    staged = sqlite3.connect(path)
    try:
        staged.execute("PRAGMA journal_mode=WAL")
        staged.execute("PRAGMA secure_delete=ON")
        staged.execute("CREATE TABLE IF NOT EXISTS stamp (text TEXT NOT NULL)")
        staged.execute("CREATE TABLE IF NOT EXISTS staged (face_id TEXT PRIMARY KEY, embedding BLOB)")
        found = staged.execute("SELECT text FROM stamp").fetchone()
        if found is None or found[0] != stamp:
            staged.execute("DELETE FROM staged")
            staged.execute("DELETE FROM stamp")
            staged.execute("INSERT INTO stamp VALUES (?)", (stamp,))
        staged.commit()
    except BaseException:
        staged.close()
        raise
    path.chmod(0o600)
    return staged


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(tables.faces).where(condition)) or 0
