"""PostgreSQL as the gallery's database: one writer at a time, and a bell for those who follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from service.gallery.errors import GalleryUnusable

CHANNEL = "facemargin_gallery"
"""What is notified of every change."""
REMEDY = "check FACEMARGIN_DATABASE_URL, and that the server runs and lets this user create tables"
_WRITERS = 0x666D_0001  # the advisory lock of whoever writes: `fm`, 1
_OLDEST = 130000


def engine_options(_: sa.URL) -> dict[str, Any]:
    """How to make the engine."""
    return {
        "max_overflow": 20,
        "pool_pre_ping": True,  # the server may have been restarted since
        "isolation_level": "READ COMMITTED",  # who waited for the writers' lock must see what they wrote
        "connect_args": {
            "connect_timeout": 10,
            "application_name": "facemargin",
            "client_encoding": "utf8",
            # A prepared statement keeps the plan it got while the tables were empty: to read them from end to end.
            "prepare_threshold": None,
            # An acknowledged face is on the disk, whatever the server's default.
            "options": "-c synchronous_commit=on",
        },
    }


def prepare(engine: sa.Engine) -> None:
    """Let writers pass one after the other: revisions and audit entries then commit in the order of their numbers."""

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            # A replica that stops answering must not hold the lock for ever.
            connection.exec_driver_sql(
                "SELECT set_config('idle_in_transaction_session_timeout', '60s', true), "
                f"pg_advisory_xact_lock({_WRITERS})"
            )


def check(engine: sa.Engine, where: str) -> None:
    """Raises GalleryUnusable for a server that cannot keep the gallery's promises."""
    with engine.connect() as connection:
        version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        fsync = connection.exec_driver_sql("SHOW fsync").scalar_one()
        standby = connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
    faults = (
        (version < _OLDEST, f"is PostgreSQL {version // 10000}; take 13 or later"),
        (encoding != "UTF8", f"is encoded as {encoding}; create one with ENCODING 'UTF8'"),
        (fsync != "on", "would lose acknowledged faces with the power (fsync is off); set fsync = on"),
        (standby, "is a standby, which cannot be written; name its primary"),
    )
    for wrong, what in faults:
        if wrong:
            raise GalleryUnusable(f"the database {where} {what}")


class Bell:
    """Rings when somebody has changed the gallery. Used by one thread."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection: Any = connection.connection.dbapi_connection

    def wait(self, seconds: float) -> None:
        """Return at the next change, or after `seconds`. Raises ConnectionError when the connection is lost."""
        from psycopg import Error  # only who uses PostgreSQL needs its driver

        try:
            list(self._connection.notifies(timeout=seconds, stop_after=1))
        except Error as error:
            raise ConnectionError(str(error)) from error


@contextmanager
def listening(engine: sa.Engine) -> Iterator[Bell]:
    """A connection of its own that hears of every change."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.detach()  # never to be used for anything else
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        yield Bell(connection)
