"""What only PostgreSQL has: servers that may not be trusted, replicas, a bell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, found

from service.gallery.database import open_engine, writing
from service.gallery.errors import GalleryUnusable
from service.gallery.follower import Follower
from service.gallery.gallery import Gallery
from service.gallery.postgresql import listening
from service.gallery.store import GalleryStore
from service.gallery.tables import revisions

Open = Callable[[str], sa.Engine]


@pytest.fixture
def administer(postgres_url: str) -> Callable[[str], None]:
    """Run a statement on the server, outside of any transaction."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def run(statement: str) -> None:
        with server.connect() as connection:
            connection.exec_driver_sql(statement)

    return run


def test_addresses_as_people_write_them(postgres: str) -> None:
    _, rest = postgres.split("://")
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        open_engine(f"{scheme}://{rest}").dispose()
    with pytest.raises(GalleryUnusable, match="postgresql://"):
        open_engine(f"mysql://{rest}")


def test_replicas_that_start_at_once_on_an_empty_database_all_do(postgres: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        for engine in pool.map(lambda _: open_engine(postgres), range(6)):
            assert GalleryStore(engine, MODEL, SIZE).collection("default").subjects == 0
            engine.dispose()


def test_a_server_that_is_not_there_says_so_in_one_line(postgres: str) -> None:
    address = sa.make_url(postgres).set(port=1, password="secret").render_as_string(hide_password=False)
    with pytest.raises(GalleryUnusable, match="FACEMARGIN_DATABASE_URL") as caught:
        open_engine(address)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_does_not_exist_says_so(postgres: str) -> None:
    with pytest.raises(GalleryUnusable, match="does not exist"):
        open_engine(postgres.rsplit("/", 1)[0] + "/elsewhere")


def test_a_database_that_cannot_hold_every_name_is_refused(postgres: str, administer: Callable[[str], None]) -> None:
    administer("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with pytest.raises(GalleryUnusable, match="UTF8"):
            open_engine(postgres.rsplit("/", 1)[0] + "/bytes")
    finally:
        administer("DROP DATABASE bytes WITH (FORCE)")


def test_a_server_that_may_lose_acknowledged_faces_is_refused(postgres: str, administer: Callable[[str], None]) -> None:
    administer("ALTER SYSTEM SET fsync = off")
    administer("SELECT pg_reload_conf()")
    try:
        wait_for_setting(postgres, "fsync", "off")
        with pytest.raises(GalleryUnusable, match="fsync"):
            open_engine(postgres)
    finally:
        administer("ALTER SYSTEM RESET fsync")
        administer("SELECT pg_reload_conf()")


def wait_for_setting(url: str, name: str, value: str) -> None:
    """A reload reaches connections after a moment."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == value:
                return
    pytest.fail(f"{name} is still not {value}")


def test_commits_are_durable_whatever_the_servers_default(postgres: str, administer: Callable[[str], None]) -> None:
    administer(f"ALTER DATABASE {sa.make_url(postgres).database} SET synchronous_commit = off")
    engine = open_engine(postgres)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    engine.dispose()


def test_a_change_rings_at_once(postgres: str, open_database: Open) -> None:
    store = GalleryStore(open_database(postgres), MODEL, SIZE)
    rung = threading.Event()
    with listening(open_database(postgres)) as bell, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (bell.wait(30), rung.set()))
        assert not rung.wait(0.2)
        store.enrol("default", "ada", [face(1)], create_subject=True)
        assert rung.wait(25)
        waiting.result()


def test_a_follower_outlives_its_connections(
    postgres: str, open_database: Open, administer: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    here, there = (Gallery.open(GalleryStore(open_database(postgres), MODEL, SIZE), SIZE) for _ in range(2))
    follower = Follower(there)
    try:
        name = sa.make_url(postgres).database
        administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        here.enrol("default", "ada", [face(1)])
        deadline = time.monotonic() + 60
        while found(there, 1) != "ada":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        follower.close()
    assert "cannot be followed" in caplog.text


def test_revisions_commit_in_the_order_of_their_numbers(postgres: str, open_database: Open) -> None:
    """Whoever follows the log by its last number must never miss one that commits later with a smaller number."""
    stores = [GalleryStore(open_database(postgres), MODEL, SIZE) for _ in range(3)]
    done = threading.Event()

    def watch() -> None:
        seen: list[int] = []
        while not done.is_set():
            now = read_revisions(stores[0].engine)
            assert now[: len(seen)] == seen, "a revision appeared among those that were known"
            seen = now

    def enrol(number: int) -> None:
        stores[number % 3].enrol("default", f"s{number % 5}", [face(number)], create_subject=True)

    with ThreadPoolExecutor(7) as pool:
        watching = pool.submit(watch)
        list(pool.map(enrol, range(45)))
        done.set()
        watching.result()


def read_revisions(engine: sa.Engine) -> list[int]:
    with engine.begin() as connection:
        return list(connection.scalars(sa.select(revisions.c.revision).order_by(revisions.c.revision)))


def test_a_writer_that_stops_answering_is_let_go_by_the_server(postgres: str, open_database: Open) -> None:
    with writing(open_database(postgres)).begin() as connection:
        timeout = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    assert timeout == "1min"
