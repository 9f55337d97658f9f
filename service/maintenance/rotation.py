"""Sealing everything with the newest encryption key. A run that was killed is simply run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.database import forget_erased, writing
from service.gallery.sealed import crop_context, embedding_context
from service.security.sealing import Sealer

_FACES = tables.faces.c
_BATCH: Final = 500


class NoKey(Exception):
    """There is no encryption key to seal with; the message has the remedy."""


def rotate(engine: sa.Engine, sealer: Sealer, progressed: Callable[[int, int], None]) -> int:
    """Seal every face with the newest key, some hundreds a transaction; how many faces that were.

    Each row names the key that sealed it, so a kill between two transactions loses nothing. `progressed` is told
    how many are done, of how many. Raises NoKey, SealError.
    """
    if sealer.current is None:
        raise NoKey(
            "no encryption key is configured; make one with `facemargin service new-key FILE` and name it with "
            "--encryption-key-file"
        )
    stale = sa.or_(_FACES.sealed_with.is_(None), _FACES.sealed_with != sealer.current)
    with engine.begin() as connection:
        total = connection.scalar(sa.select(sa.func.count()).select_from(tables.faces).where(stale)) or 0
    done = 0
    while True:
        with writing(engine).begin() as connection:
            rows = connection.execute(sa.select(tables.faces).where(stale).limit(_BATCH)).all()
            for row in rows:
                connection.execute(sa.update(tables.faces).where(_FACES.key == row.key).values(_resealed(row, sealer)))
        if not rows:
            break
        done += len(rows)
        progressed(done, total)
    forget_erased(engine)
    return done


def _resealed(row: sa.Row[tuple[object, ...]], sealer: Sealer) -> dict[str, object]:
    def again(data: bytes | None, context: bytes) -> bytes | None:
        if data is None:
            return None
        return sealer.seal(data if row.sealed_with is None else sealer.open(data, context, row.sealed_with), context)

    return {
        "embedding": again(row.embedding, embedding_context(row.id)),
        "crop": again(row.crop, crop_context(row.id)),
        "sealed_with": sealer.current,
    }
