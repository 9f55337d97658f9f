"""Real databases for tests: SQLite files, and a PostgreSQL server of their own with a database a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from launching.postgres import PostgresMissing, postgres_server

_numbers = count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running server, as the URL of its maintenance database. Without one: skips, but fails where CI is set."""
    try:
        with postgres_server() as url:
            yield url
    except PostgresMissing as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}; CI tests both databases")
        pytest.skip(str(error))


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database."""
    name = f"test_{next(_numbers)}"
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C.UTF-8'")
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gallery.db'}"
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture
def open_database() -> Iterator[Callable[[str], sa.Engine]]:
    """`open_database(url)` opens and migrates one as the service does, and closes it after the test."""
    from service.gallery.database import open_engine

    engines: list[sa.Engine] = []

    def opened(url: str) -> sa.Engine:
        engines.append(open_engine(url))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.dispose()
