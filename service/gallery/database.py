"""Opening the database: one engine, durable transactions, the schema brought up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from service.gallery.errors import GalleryUnusable

MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(url: str) -> sa.Engine:
    """Open the database at `url` and migrate it to the newest schema.

    Raises GalleryUnusable when the address cannot be read, or the database cannot be reached or written.
    """
    try:
        address = sa.make_url(url)
        engine = sa.create_engine(address, **_pool(address))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise GalleryUnusable(f"the database address cannot be used: {error}") from error
    if engine.dialect.name == "sqlite":
        _make_durable(engine)
    try:
        migrate(engine)
    except sa.exc.DBAPIError as error:
        engine.dispose()
        where = address.render_as_string(hide_password=True)
        raise GalleryUnusable(f"the database {where} cannot be used: {error.orig}") from error
    except CommandError as error:
        engine.dispose()
        raise GalleryUnusable(
            f"the database was written by a newer Facemargin ({error}); install that version"
        ) from error
    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writing(engine).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def writing(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that will write: SQLite then takes its one write lock at once.

    A transaction that reads first and asks for the lock later fails when another one wrote between.
    """
    return engine.execution_options(writes=True)


def _pool(address: sa.URL) -> dict[str, int]:
    # The server's thread pool has 40 threads, and each may hold a connection.
    return {} if address.get_backend_name() == "sqlite" and not address.database else {"max_overflow": 40}


def _make_durable(engine: sa.Engine) -> None:
    """WAL so that readers go on during a write; FULL so that a commit survives the loss of power."""

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling starts none before DDL and none for reads; ours does.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
