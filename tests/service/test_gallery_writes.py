"""Writes of the gallery on real databases: riders, merging, searching by name, bulk imports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, found, unit

from service.gallery import tables
from service.gallery.bulk import BulkFace
from service.gallery.database import writing
from service.gallery.errors import SameSubject, SubjectNotFound
from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.store import GalleryStore

Reopen = Callable[..., Gallery]


@pytest.fixture
def reopen(database_url: str, open_database: Callable[[str], sa.Engine]) -> Reopen:
    def reopened(**options: Any) -> Gallery:
        return Gallery.open(GalleryStore(open_database(database_url), MODEL, SIZE, **options), SIZE)

    return reopened


@pytest.fixture
def gallery(reopen: Reopen) -> Gallery:
    return reopen()


WRITES: dict[str, Callable[[Gallery, Any], Any]] = {
    "create_collection": lambda gallery, then: gallery.store.create_collection("new", Changes(), then=then),
    "change_collection": lambda gallery, then: gallery.store.change_collection("staff", Changes("Staff"), then=then),
    "erase_collection": lambda gallery, then: gallery.erase_collection("staff", then=then),
    "create_subject": lambda gallery, then: gallery.store.create_subject("staff", "new", Changes(), then=then),
    "change_subject": lambda gallery, then: gallery.store.change_subject("staff", "ada", Changes("Ada"), then=then),
    "erase_subject": lambda gallery, then: gallery.erase_subject("staff", "ada", then=then),
    "merge_subjects": lambda gallery, then: gallery.merge_subjects("staff", "ada", "bob", then=then),
    "enrol": lambda gallery, then: gallery.enrol("staff", "ada", [face(3)], then=then),
    "erase_face": lambda gallery, then: gallery.erase_face("staff", "ada", some_face(gallery), then=then),
    "import_faces": lambda gallery, then: gallery.import_faces("staff", [bulk(4)], then=then),
}


def some_face(gallery: Gallery) -> str:
    return gallery.store.list_faces("staff", "ada", None, 1).items[0].id


def bulk(seed: int, subject: str = "eve", **fields: Any) -> BulkFace:
    return BulkFace(subject, subject.title(), {}, f"face-{seed}", unit(seed), 0.5, 0.6, **fields)


def contents(gallery: Gallery) -> list[Any]:
    """Every row that a write may touch."""
    with gallery.store.engine.begin() as connection:
        return [connection.execute(sa.select(table)).all() for table in tables.metadata.sorted_tables]


def test_what_rides_along_is_durable_with_the_change_or_undoes_it(gallery: Gallery, reopen: Reopen) -> None:
    gallery.store.create_collection("staff", Changes())
    gallery.enrol("staff", "ada", [face(1)])
    gallery.enrol("staff", "bob", [face(2)])
    for name, write in WRITES.items():
        results: list[Any] = []

        def note(connection: sa.Connection, result: Any, name: str = name, seen: list[Any] = results) -> None:
            seen.append(result)
            row = {"key_id": "k", "token": name, "fingerprint": "", "status": 200, "answer": b"", "at": now()}
            connection.execute(sa.insert(tables.idempotency).values(row))

        def refuse(connection: sa.Connection, result: Any, note: Any = note) -> None:
            note(connection, result)
            raise RuntimeError("no")

        before = contents(gallery)
        with pytest.raises(RuntimeError, match="no"):
            write(gallery, refuse)
        assert contents(gallery) == before, f"{name} left something behind"
        if name.startswith("erase") or name == "merge_subjects":
            continue  # what it destroys the others need; below
        assert write(gallery, note) == results[-1]
    assert found(gallery, 1, "staff") == "ada"
    for opened in (gallery, reopen()):
        with opened.store.engine.begin() as connection:
            kept = set(connection.scalars(sa.select(tables.idempotency.c.token)))
        assert kept == {name for name in WRITES if not name.startswith(("erase", "merge"))}
        assert {found(opened, seed, "staff") for seed in (3, 4)} == {"ada", "eve"}


def now() -> datetime:
    return datetime.now(UTC)


def test_merged_subjects_are_one(gallery: Gallery, reopen: Reopen) -> None:
    gallery.enrol("default", "ada", [face(1), face(2)])
    gallery.enrol("default", "ada lovelace", [face(3)])
    before = gallery.store.revision()
    merged = gallery.merge_subjects("default", "ada", "ada lovelace")
    assert (merged.subject.id, merged.subject.faces, merged.faces_moved) == ("ada lovelace", 3, 2)
    assert merged.revision == gallery.store.revision() == before + 3
    for opened in (gallery, reopen()):
        assert [found(opened, seed) for seed in (1, 2, 3)] == 3 * ["ada lovelace"]
        assert opened.searchable_subjects("default") == 1
        with pytest.raises(SubjectNotFound):
            opened.store.subject("default", "ada")
    erased = gallery.erase_subject("default", "ada lovelace")
    assert len(erased.keys) == 3
    assert found(gallery, 1) is None


def test_what_cannot_be_merged_stays(gallery: Gallery) -> None:
    gallery.enrol("default", "ada", [face(1)])
    for source, into, error in (
        ("ada", "ada", SameSubject),
        ("ada", "nobody", SubjectNotFound),
        ("nobody", "ada", SubjectNotFound),
    ):
        with pytest.raises(error):
            gallery.merge_subjects("default", source, into)
    assert found(gallery, 1) == "ada"


def test_subjects_are_searched_in_any_case_and_literally(gallery: Gallery) -> None:
    people = {"s1": "Éva Nagy", "s2": "eva k.", "S3": "100 % Bob_", "s4": "Bob"}
    for subject, name in people.items():
        gallery.store.create_subject("default", subject, Changes(name))

    def names(search: str, limit: int = 10) -> list[str]:
        return [subject.name for subject in gallery.store.list_subjects("default", None, limit, search=search).items]

    assert names("éVA") == ["Éva Nagy"]
    assert names("BOB") == ["100 % Bob_", "Bob"]
    assert names("%") == names("b_") == names("s3") == ["100 % Bob_"]
    assert names("nobody") == []
    page = gallery.store.list_subjects("default", None, 1, search="bob")
    following = gallery.store.list_subjects("default", page.next_cursor, 1, search="bob")
    assert ([page.items[0].name, following.items[0].name], following.next_cursor) == (["100 % Bob_", "Bob"], None)


def test_lists_show_only_what_is_asked_for(gallery: Gallery) -> None:
    for name in ("a", "b", "c"):
        gallery.store.create_collection(name, Changes())

    def listed(only: list[str] | None) -> list[str]:
        return [collection.id for collection in gallery.store.list_collections(None, 10, only=only).items]

    assert listed(None) == ["default", "a", "b", "c"]
    assert listed(["c", "a", "elsewhere"]) == ["a", "c"]
    assert listed([]) == []


def test_answers_that_spoke_of_the_erased_go_with_them(gallery: Gallery) -> None:
    gallery.store.create_collection("staff", Changes())
    keys = {name: gallery.enrol(where, name, [face(seed)]) for name, where, seed in PEOPLE}
    with writing(gallery.store.engine).begin() as connection:
        for name, enrolled in keys.items():
            row = {"key_id": "k", "token": name, "fingerprint": "", "status": 201, "answer": b"", "at": now()}
            numbers = {"collection_key": enrolled.collection_key, "subject_key": enrolled.subject_key}
            connection.execute(sa.insert(tables.idempotency).values(**row, **numbers))

    def kept() -> set[str]:
        with gallery.store.engine.begin() as connection:
            return set(connection.scalars(sa.select(tables.idempotency.c.token)))

    gallery.erase_subject("default", "ada")
    assert kept() == {"bob", "cy", "dan", "eve"}
    gallery.merge_subjects("default", "bob", "cy")
    assert kept() == {"cy", "dan", "eve"}
    gallery.erase_collection("staff")
    assert kept() == {"cy"}


PEOPLE = [
    ("ada", "default", 1),
    ("bob", "default", 2),
    ("cy", "default", 3),
    ("dan", "staff", 4),
    ("eve", "staff", 5),
]


def test_an_import_is_searchable_and_passes_over_what_is_there(gallery: Gallery, reopen: Reopen) -> None:
    gallery.store.create_collection("other", Changes())
    gallery.import_faces("other", [bulk(7)])
    nobody = BulkFace("nobody yet", "Nobody", {})
    first = gallery.import_faces("default", [nobody, *(bulk(seed, f"s{seed % 3}") for seed in range(6))])
    assert (len(first.keys), first.subjects_created, first.skipped, first.elsewhere) == (6, 4, 0, ())
    again = gallery.import_faces("default", [bulk(seed, f"s{seed % 3}") for seed in range(8)])
    assert (len(again.keys), again.subjects_created, again.skipped, again.elsewhere) == (1, 0, 6, ("face-7",))
    assert again.revision == gallery.store.revision()
    for opened in (gallery, reopen()):
        assert [found(opened, seed) for seed in range(7)] == [f"s{seed % 3}" for seed in range(7)]
        assert found(opened, 7) is None
        assert opened.store.collection("default").subjects == 4


def test_a_photo_that_is_enrolled_is_known_by_its_digest(gallery: Gallery) -> None:
    face_id = gallery.enrol("default", "ada", [face(1)]).face_ids[0]
    assert gallery.store.is_enrolled("default", "ada", f"{1:064x}")
    assert not gallery.store.is_enrolled("default", "ada", f"{2:064x}")
    assert not gallery.store.is_enrolled("default", "bob", f"{1:064x}")
    assert gallery.store.collection_of(face_id) == "default"


def test_crops_are_kept_only_if_they_are_to_be(reopen: Reopen) -> None:
    keeping, other = reopen(keep_crops=True), reopen()
    kept = keeping.enrol("default", "ada", [face(1, b"a crop")]).face_ids[0]
    dropped = other.enrol("default", "ada", [face(2, b"a crop")]).face_ids[0]
    for store in (keeping.store, other.store):
        assert store.crop("default", "ada", kept) == b"a crop"
        assert store.crop("default", "ada", dropped) is None
        assert [stored.crop for stored in store.list_faces("default", "ada", None, 9).items] == [True, False]
