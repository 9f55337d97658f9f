"""Several processes over one gallery: each soon knows of what the others changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, found

from service.gallery.follower import Follower
from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.store import GalleryStore

SOON = 30.0  # seconds; a busy machine may take longer than the one that is promised


@pytest.fixture
def here(database_url: str, open_database: Callable[[str], sa.Engine]) -> Gallery:
    """The gallery as another process has it open; nothing follows it."""
    return Gallery.open(GalleryStore(open_database(database_url), MODEL, SIZE), SIZE)


@pytest.fixture
def there(here: Gallery, database_url: str, open_database: Callable[[str], sa.Engine]) -> Iterator[Gallery]:
    """The same gallery in a replica that follows."""
    gallery = Gallery.open(GalleryStore(open_database(database_url), MODEL, SIZE), SIZE)
    follower = Follower(gallery)
    yield gallery
    follower.close()


def until(true: Callable[[], bool]) -> float:
    """Seconds until it is."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < SOON, "still not"
        time.sleep(0.005)
    return time.monotonic() - began


def test_every_kind_of_change_arrives(here: Gallery, there: Gallery) -> None:
    first = here.enrol("default", "ada", [face(1), face(2)]).face_ids[0]
    until(lambda: found(there, 1) == "ada")
    here.enrol("default", "bob", [face(3)])
    here.merge_subjects("default", "bob", "ada")
    until(lambda: found(there, 3) == "ada" and there.searchable_subjects("default") == 1)
    here.erase_face("default", "ada", first)
    until(lambda: there.revision == here.revision)
    assert (found(there, 1), found(there, 2)) == (None, "ada")
    here.store.create_collection("staff", Changes())
    here.enrol("staff", "cy", [face(4)])
    until(lambda: found(there, 4, "staff") == "cy")
    here.erase_collection("staff")
    here.erase_subject("default", "ada")
    until(lambda: there.revision == here.revision)
    assert there.searchable_subjects("default") == 0
    assert there.lag().revisions == 0
    assert there.lag().seconds == 0.0


def test_an_erased_face_is_not_told_of_even_before_the_news_arrives(here: Gallery, database_url: str) -> None:
    here.enrol("default", "ada", [face(1)])
    late = Gallery.open(GalleryStore(here.store.engine, MODEL, SIZE), SIZE)
    here.erase_subject("default", "ada")
    assert late.lag().revisions > 0
    assert found(late, 1) is None


def test_lag_is_how_far_it_is_behind(here: Gallery) -> None:
    late = Gallery.open(GalleryStore(here.store.engine, MODEL, SIZE), SIZE)
    here.enrol("default", "ada", [face(1), face(2)])
    time.sleep(0.02)
    lag = late.lag()
    assert lag.revisions == 3  # the subject and two faces
    assert 0.02 <= lag.seconds < SOON
    late.catch_up()
    assert (late.lag().revisions, late.lag().seconds) == (0, 0.0)


def test_writers_on_both_sides_end_up_with_the_same(here: Gallery, there: Gallery) -> None:
    def enrol_and_erase(number: int) -> None:
        gallery = (here, there)[number % 2]
        gallery.enrol("default", f"s{number}", [face(number)])
        assert found(gallery, number) == f"s{number}"
        if number % 3 == 0:
            gallery.erase_subject("default", f"s{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enrol_and_erase, range(30)))
    here.catch_up()
    until(lambda: there.revision == here.revision)
    expected = [None if number % 3 == 0 else f"s{number}" for number in range(30)]
    assert [found(here, number) for number in range(30)] == expected
    assert [found(there, number) for number in range(30)] == expected


def test_searches_go_on_during_a_long_write(here: Gallery) -> None:
    here.enrol("default", "ada", [face(1)])
    writing, enough = threading.Event(), threading.Event()

    def hold(connection: sa.Connection, _: object) -> None:
        writing.set()
        assert enough.wait(30)

    with ThreadPoolExecutor(1) as pool:
        enrolment = pool.submit(lambda: here.enrol("default", "bob", [face(2)], then=hold))
        assert writing.wait(30)
        assert [found(here, 1), found(here, 2)] == ["ada", None]
        assert here.store.list_subjects("default", None, 9).items[0].id == "ada"
        enough.set()
        enrolment.result()
    assert found(here, 2) == "bob"
