"""Opening the database: one engine, durable transactions, the schema brought up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

from service.gallery import postgresql, sqlite
from service.gallery.errors import GalleryUnusable

MIGRATIONS = Path(__file__).parent / "migrations"
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")


def open_engine(url: str) -> sa.Engine:
    """Open the SQLite or PostgreSQL database at `url` and migrate it to the newest schema.

    Raises GalleryUnusable when the address cannot be read, or the database cannot be reached, written or trusted.
    """
    address = _address(url)
    where = address.render_as_string(hide_password=True)
    kind = sqlite if address.get_backend_name() == "sqlite" else postgresql
    try:
        # What is bound to statements is personal, so no error may show it.
        engine = sa.create_engine(address, hide_parameters=True, **kind.engine_options(address))
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise GalleryUnusable(f"the database address {where} cannot be used: {error}") from error
    kind.prepare(engine)
    try:
        kind.check(engine, where)
        migrate(engine)
    except sa.exc.DBAPIError as error:
        engine.dispose()
        reason = " ".join(str(error.orig).split())
        raise GalleryUnusable(f"the database {where} cannot be used: {reason}; {kind.REMEDY}") from error
    except CommandError as error:
        engine.dispose()
        raise GalleryUnusable(
            f"the database was written by a newer Facemargin ({error}); install that version"
        ) from error
    except GalleryUnusable:
        engine.dispose()
        raise
    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest revision, in one transaction; of several who do so, one after the other."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writing(engine).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def writing(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that will write: they wait for each other, so that they commit in the order of
    the numbers they give out.
    """
    return engine.execution_options(writes=True)


def consistent(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that read several times and must see one state."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="REPEATABLE READ")


def notify(connection: sa.Connection) -> None:
    """Wake those who follow the revision log, once this transaction is committed. PostgreSQL only."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_notify(postgresql.CHANNEL, "")))


def forget_erased(engine: sa.Engine) -> bool:
    """Get what was erased out of the database's files; False if somebody is in the way.

    PostgreSQL keeps dead rows until it vacuums, and its log until it recycles that: nothing here hastens it.
    """
    return engine.dialect.name != "sqlite" or sqlite.empty_log(engine)


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
        if address.drivername in _POSTGRESQL:
            return address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite":
            return address
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise GalleryUnusable(f"the database address cannot be used: {error}") from error
    raise GalleryUnusable(
        f"a database of kind {address.drivername!r} cannot be used: take sqlite:///FILE or postgresql://USER@HOST/NAME"
    )
