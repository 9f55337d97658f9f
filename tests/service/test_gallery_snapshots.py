"""Indexes that are not built from the rows: saved, loaded, brought forward, and doubted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, found

from service.gallery import tables
from service.gallery.building import Builder
from service.gallery.database import writing
from service.gallery.errors import GalleryUnusable
from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.snapshots import SnapshotFolder
from service.gallery.store import GalleryStore
from service.security.sealing import Sealer

Open = Callable[[], Gallery]


@pytest.fixture
def folder(tmp_path: Path) -> SnapshotFolder:
    return SnapshotFolder(tmp_path / "index", MODEL, Sealer.none())


@pytest.fixture
def reopen(database_url: str, open_database: Callable[[str], sa.Engine], tmp_path: Path) -> Open:
    engine = open_database(database_url)
    return lambda: Gallery.open(GalleryStore(engine, MODEL, SIZE), SIZE, snapshots=tmp_path / "index")


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The keys of the faces that indexes took from the database's rows."""
    read: list[int] = []
    add = Builder.add

    def noted(self: Builder, held: Any, block: Any, revision: int) -> None:
        read.extend(block.faces.tolist())
        add(self, held, block, revision)

    monkeypatch.setattr(Builder, "add", noted)
    return read


def enrol(gallery: Gallery, seeds: Sequence[int], collection: str = "default") -> list[int]:
    return [gallery.enrol(collection, f"s{seed}", [face(seed)]).keys.tolist()[0] for seed in seeds]


def test_only_what_came_later_is_read(reopen: Open, read_rows: list[int]) -> None:
    gallery = reopen()
    enrol(gallery, range(8))
    assert gallery.save_snapshots() == 1
    assert gallery.save_snapshots() == 0, "nothing has changed since"
    later = enrol(gallery, [8, 9])
    gallery.merge_subjects("default", "s0", "s9")
    read_rows.clear()
    opened = reopen()
    assert read_rows == later
    assert [found(opened, seed) for seed in (0, 1, 8, 9)] == ["s9", "s1", "s8", "s9"]
    assert opened.snapshot_revision(1) is not None
    assert opened.revision == opened.store.revision()


def test_each_collection_by_itself(reopen: Open, folder: SnapshotFolder, read_rows: list[int]) -> None:
    gallery = reopen()
    gallery.store.create_collection("staff", Changes())
    enrol(gallery, [1, 2])
    staff = enrol(gallery, [3, 4], "staff")
    assert gallery.save_snapshots() == 2
    assert sorted(folder.keys()) == [1, 2]
    folder.drop(2)
    read_rows.clear()
    opened = reopen()
    assert sorted(read_rows) == staff
    assert (found(opened, 1), found(opened, 3, "staff")) == ("s1", "s3")
    enrol(gallery, [5])
    assert gallery.save_snapshots() == 1


def test_an_erasure_drops_the_snapshot_at_once(reopen: Open, folder: SnapshotFolder) -> None:
    gallery = reopen()
    face_id = gallery.enrol("default", "ada", [face(1), face(2)]).face_ids[0]
    enrol(gallery, [3])
    for erase in (
        lambda: gallery.erase_face("default", "ada", face_id),
        lambda: gallery.erase_subject("default", "ada"),
    ):
        gallery.save_snapshots()
        erase()
        assert folder.keys() == []
        assert gallery.snapshot_revision(1) is None


def test_an_erasure_during_the_saving_wins(
    reopen: Open, folder: SnapshotFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = reopen()
    enrol(gallery, [1, 2])
    save = SnapshotFolder.save

    def erasing(self: SnapshotFolder, *arguments: Any) -> None:
        save(self, *arguments)
        gallery.erase_subject("default", "s1")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotFolder, "save", erasing)
        assert gallery.save_snapshots() == 0
    assert folder.keys() == []
    assert gallery.save_snapshots() == 1


def test_what_others_erased_while_it_was_away_goes_too(reopen: Open, folder: SnapshotFolder) -> None:
    gallery = reopen()
    gallery.store.create_collection("staff", Changes())
    enrol(gallery, [1, 2])
    enrol(gallery, [3], "staff")
    gallery.save_snapshots()
    elsewhere = Gallery.open(GalleryStore(gallery.store.engine, MODEL, SIZE), SIZE)
    elsewhere.erase_subject("default", "s1")
    elsewhere.erase_collection("staff")
    opened = reopen()
    assert folder.keys() == []
    assert (found(opened, 1), found(opened, 2)) == (None, "s2")


def rewritten(folder: SnapshotFolder, later: int = 0, earlier: timedelta = timedelta(0), without: int = 0) -> None:
    saved = folder.load(1)
    assert saved is not None
    saved.index.remove(saved.index.state().faces[:without])
    folder.save(1, saved.revision + later, saved.moment - earlier, folder.state_of(saved.index))


def of_the_future(folder: SnapshotFolder, gallery: Gallery) -> None:
    """The database was put back to an older backup."""
    rewritten(folder, later=1000)


def of_another_history(folder: SnapshotFolder, gallery: Gallery) -> None:
    """It was put back, and went on from there: the same numbers are other changes."""
    rewritten(folder, earlier=timedelta(microseconds=1))


def with_a_face_missing(folder: SnapshotFolder, gallery: Gallery) -> None:
    rewritten(folder, without=1)


def with_an_unknown_change_since(folder: SnapshotFolder, gallery: Gallery) -> None:
    with writing(gallery.store.engine).begin() as connection:
        row = {"change": "reembedded", "collection_key": 1, "at": datetime.now(UTC)}
        connection.execute(sa.insert(tables.revisions).values(row))


def cut_short(folder: SnapshotFolder, gallery: Gallery) -> None:
    (file,) = folder._path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    "spoil",
    [of_the_future, of_another_history, with_a_face_missing, with_an_unknown_change_since, cut_short],
)
def test_on_any_doubt_it_is_built_from_the_rows(
    reopen: Open, folder: SnapshotFolder, read_rows: list[int], spoil: Callable[[SnapshotFolder, Gallery], None]
) -> None:
    gallery = reopen()
    keys = enrol(gallery, range(5))
    gallery.save_snapshots()
    spoil(folder, gallery)
    read_rows.clear()
    opened = reopen()
    assert sorted(read_rows)[-5:] == keys
    assert [found(opened, seed) for seed in range(5)] == [f"s{seed}" for seed in range(5)]
    assert opened.save_snapshots() == 1


def test_a_folder_that_cannot_be_used_says_so(reopen: Open, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file")
    with pytest.raises(GalleryUnusable, match=r"index snapshots.*move it away"):
        reopen()
