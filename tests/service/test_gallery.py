"""The gallery on a real SQLite file and a real FAISS index."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, best, face, unit

from service.gallery import tables
from service.gallery.database import open_engine, writing
from service.gallery.errors import (
    CollectionNotFound,
    CollectionPermanent,
    FaceNotFound,
    GalleryDamaged,
    GalleryModelMismatch,
    GalleryUnusable,
    ModelMismatch,
    SubjectNotFound,
)
from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.store import GalleryStore

Open = Callable[[str], sa.Engine]


@pytest.fixture
def reopen(database_url: str, open_database: Open) -> Callable[[], Gallery]:
    def reopened() -> Gallery:
        return Gallery.open(GalleryStore(open_database(database_url), MODEL, SIZE), SIZE)

    return reopened


@pytest.fixture
def gallery(reopen: Callable[[], Gallery]) -> Gallery:
    return reopen()


def test_a_collection_named_default_exists(gallery: Gallery) -> None:
    assert gallery.store.collection("default").id == "default"
    with pytest.raises(CollectionPermanent):
        gallery.erase_collection("default")


def test_sqlite_is_durable_and_wipes_what_is_deleted(tmp_path: Path) -> None:
    with open_engine(f"sqlite:///{tmp_path / 'gallery.db'}").connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_an_enrolled_face_is_found_at_once_and_after_reopening(gallery: Gallery, reopen: Callable[[], Gallery]) -> None:
    gallery.enrol("default", "ada", [face(1), face(2)])
    gallery.enrol("default", "bob", [face(3)])
    for opened in (gallery, reopen()):
        assert best(opened, 1) == ("ada", pytest.approx(1, abs=1e-6))
        assert best(opened, 3) == ("bob", pytest.approx(1, abs=1e-6))
        assert opened.searchable_subjects("default") == 2


def test_subjects_are_ranked_each_by_its_best_face(gallery: Gallery) -> None:
    gallery.enrol("default", "many", [face(seed) for seed in range(50)])
    gallery.enrol("default", "one", [face(100)])
    ranked = gallery.search("default", unit(7)[None], 5)[0]
    assert [candidate.subject_id for candidate in ranked] == ["many", "one"]


def test_collections_do_not_see_each_other(gallery: Gallery) -> None:
    gallery.store.create_collection("other", Changes())
    gallery.enrol("other", "ada", [face(1)])
    assert gallery.search("default", unit(1)[None], 5) == [[]]
    assert best(gallery, 1, "other")[0] == "ada"


def test_an_erased_subject_is_gone_for_good(gallery: Gallery, reopen: Callable[[], Gallery]) -> None:
    gallery.enrol("default", "ada", [face(1), face(2)])
    erased = gallery.erase_subject("default", "ada")
    assert len(erased.keys) == 2
    for opened in (gallery, reopen()):
        assert opened.search("default", unit(1)[None], 5) == [[]]
        with pytest.raises(SubjectNotFound):
            opened.store.subject("default", "ada")


def test_erasing_a_face_leaves_the_subject(gallery: Gallery) -> None:
    first, second = gallery.enrol("default", "ada", [face(1), face(2)]).face_ids
    gallery.erase_face("default", "ada", first)
    assert [stored.id for stored in gallery.store.list_faces("default", "ada", None, 9).items] == [second]
    assert best(gallery, 1)[1] < 0.9
    with pytest.raises(FaceNotFound):
        gallery.erase_face("default", "ada", first)


def test_erasing_a_collection_erases_everybody_in_it(gallery: Gallery) -> None:
    gallery.store.create_collection("staff", Changes(name="Staff"))
    face_id = gallery.enrol("staff", "ada", [face(1)]).face_ids[0]
    erased = gallery.erase_collection("staff")
    assert (erased.subjects, len(erased.keys)) == (1, 1)
    with pytest.raises(FaceNotFound):
        gallery.store.embedding(face_id)
    with pytest.raises(CollectionNotFound):
        gallery.search("staff", unit(1)[None], 5)


def test_a_missing_subject_is_created_only_if_asked(gallery: Gallery) -> None:
    with pytest.raises(SubjectNotFound):
        gallery.enrol("default", "ada", [face(1)], create_subject=False)
    with pytest.raises(CollectionNotFound):
        gallery.enrol("nowhere", "ada", [face(1)])
    assert gallery.store.list_subjects("default", None, 10).items == []


def test_every_change_is_a_revision_and_numbers_only_grow(gallery: Gallery) -> None:
    before = gallery.store.revision()
    added = gallery.enrol("default", "ada", [face(1)]).revision
    renamed = gallery.store.change_subject("default", "ada", Changes(name="Ada")) and gallery.store.revision()
    erased = gallery.erase_subject("default", "ada").revision
    assert before < added < renamed < erased == gallery.store.revision()


def test_put_is_repeatable_and_changes_only_what_is_given(gallery: Gallery) -> None:
    first, created = gallery.store.create_subject("default", "ada", Changes("Ada", {"team": 1}))
    again, created_again = gallery.store.create_subject("default", "ada", Changes(metadata={"team": 2}))
    assert (created, created_again) == (True, False)
    assert (first.key, again.name, again.metadata) == (again.key, "Ada", {"team": 2})


def test_pages_hold_every_subject_once(gallery: Gallery) -> None:
    for number in range(7):
        gallery.store.create_subject("default", f"s{number}", Changes())
    seen, cursor = [], None
    while True:
        page = gallery.store.list_subjects("default", cursor, 3)
        seen += [subject.id for subject in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"s{number}" for number in range(7)]


def test_embeddings_of_another_model_refuse_to_open(gallery: Gallery) -> None:
    gallery.enrol("default", "ada", [face(1)])
    with pytest.raises(GalleryModelMismatch, match=r"1 faces of model test@.*other@1.*--recogniser"):
        Gallery.open(GalleryStore(gallery.store.engine, "other@1", SIZE), SIZE)


def test_two_models_never_share_a_gallery(gallery: Gallery, reopen: Callable[[], Gallery]) -> None:
    """Both may open it while it is empty."""
    other = GalleryStore(gallery.store.engine, "other@1", SIZE)
    face_id = gallery.enrol("default", "ada", [face(1)]).face_ids[0]
    with pytest.raises(ModelMismatch, match=r"model test@.*recogniser is other@1"):
        other.enrol("default", "bob", [face(2)], create_subject=True)
    with pytest.raises(ModelMismatch):
        other.embedding(face_id)
    assert other.collection("default").subjects == 1


@pytest.mark.parametrize("damage", [b"short", np.full(SIZE, np.nan, "<f4").tobytes()])
def test_a_damaged_embedding_refuses_to_open(gallery: Gallery, reopen: Callable[[], Gallery], damage: bytes) -> None:
    gallery.enrol("default", "ada", [face(1)])
    with writing(gallery.store.engine).begin() as connection:
        connection.execute(sa.update(tables.faces).values(embedding=damage))
    with pytest.raises(GalleryDamaged):
        reopen()


@pytest.mark.parametrize("address", ["sqlite:////nonexistent/folder/x.db", "nonsense", "no-such-database://host/name"])
def test_an_unusable_database_says_so(address: str) -> None:
    with pytest.raises(GalleryUnusable):
        open_engine(address)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(GalleryUnusable, match="not a database"):
        open_engine(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_folder_that_is_not_there_comes_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(GalleryUnusable, match=r"unable to open database file.*check that its folder exists"):
        open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")


def test_a_newer_databases_schema_is_left_alone(database_url: str, open_database: Open) -> None:
    with writing(open_database(database_url)).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(GalleryUnusable, match="newer Facemargin"):
        open_engine(database_url)


def test_no_photo_and_no_name_outlives_an_erasure(gallery: Gallery) -> None:
    gallery.enrol("default", "erased-person", [face(1)])
    gallery.erase_subject("default", "erased-person")
    with gallery.store.engine.connect() as connection:
        rows = connection.execute(sa.select(tables.revisions)).all()
    assert "erased-person" not in str(rows)


def test_many_threads_enrol_search_and_erase(gallery: Gallery, reopen: Callable[[], Gallery]) -> None:
    searching = threading.Event()

    def search_all_the_time() -> int:
        searches = 0
        while not searching.is_set():
            for candidates in gallery.search("default", unit(searches % 40)[None], 5):
                assert all(-1 <= candidate.similarity <= 1 for candidate in candidates)
            searches += 1
        return searches

    def enrol_and_erase(number: int) -> None:
        gallery.enrol("default", f"s{number}", [face(number), face(1000 + number)])
        assert best(gallery, number)[0] == f"s{number}"
        if number % 2:
            gallery.erase_subject("default", f"s{number}")

    with ThreadPoolExecutor(6) as pool:
        searchers = [pool.submit(search_all_the_time) for _ in range(2)]
        list(pool.map(enrol_and_erase, range(40)))
        searching.set()
        assert all(searcher.result() > 0 for searcher in searchers)
    for opened in (gallery, reopen()):
        assert opened.searchable_subjects("default") == 20
        found = {candidate.subject_id for candidate in opened.search("default", unit(0)[None], 100)[0]}
        assert found == {f"s{number}" for number in range(0, 40, 2)}
