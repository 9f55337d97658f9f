"""SQLite as the gallery's database: durable, and without traces of what was erased."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from service.gallery.errors import GalleryUnusable

REMEDY = "check that its folder exists and may be written to; if it is damaged, restore it from a backup"
_WAIT_MS = 10_000
_SHORT_WAIT_MS = 200
_TURN_SECONDS = 60.0


def engine_options(address: sa.URL) -> dict[str, Any]:
    """How to make the engine."""
    # The server's thread pool has 40 threads, and each may hold a connection.
    return {"max_overflow": 40} if address.database else {}


def prepare(engine: sa.Engine) -> None:
    """WAL so that readers go on during a write; FULL so that a commit survives the loss of power."""

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling starts none before DDL and none for reads; ours does.
        connection.isolation_level = None
        # SQLite's own folds ASCII only.
        connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_WAIT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    _queue_writers(engine)


def _queue_writers(engine: sa.Engine) -> None:
    """One writer at a time. SQLite's own waiting is a look now and then: under load some never get their turn."""
    turn = threading.Lock()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql("BEGIN")
            return
        if not turn.acquire(timeout=_TURN_SECONDS):
            raise TimeoutError("the database was not free to be written in time")
        connection.info["turn"] = turn
        try:
            # One that reads first and asks for the lock later fails when another process wrote between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            _end(connection)
            raise

    @sa.event.listens_for(engine, "commit")
    @sa.event.listens_for(engine, "rollback")
    def _end(connection: sa.Connection) -> None:
        held = connection.info.pop("turn", None)
        if held is not None:
            held.release()


def check(engine: sa.Engine, where: str) -> None:
    """Raises GalleryUnusable where SQLite cannot keep its promises."""
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    if mode not in ("wal", "memory"):
        raise GalleryUnusable(
            f"the database {where} lies where SQLite cannot keep a write-ahead log (its journal is {mode}); "
            "put the data folder on a local disk"
        )


def empty_log(engine: sa.Engine) -> bool:
    """Empty the write-ahead log, which still holds what was erased; False if somebody is in the way.

    The database file itself is wiped by `secure_delete`.
    """
    with closing(engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
        cursor.execute(f"PRAGMA busy_timeout={_SHORT_WAIT_MS}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
        except sqlite3.OperationalError:  # another checkpoint runs
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout={_WAIT_MS}")
    return row is not None and not row[0]
