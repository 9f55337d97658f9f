"""What was erased is nowhere in SQLite's files, as soon as no reader is in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, unit

from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.store import GalleryStore


@pytest.fixture
def gallery(tmp_path: Path, open_database: Callable[[str], sa.Engine]) -> Gallery:
    engine = open_database(f"sqlite:///{tmp_path / 'gallery.db'}")
    return Gallery.open(GalleryStore(engine, MODEL, SIZE, keep_crops=True), SIZE)


def crop(seed: int) -> bytes:
    """Longer than a page of the database."""
    return f"crop {seed} ".encode() * 1000


def traces(folder: Path, seed: int) -> list[str]:
    """Where something of this person still is."""
    secrets = {
        "embedding": unit(seed).tobytes(),
        "part of it": unit(seed).tobytes()[16:48],
        "crop": f"crop {seed} crop {seed}".encode(),
        "id": f"person-{seed:04d}".encode(),
        "name": f"Name of {seed:04d}".encode(),
        "digest": f"{seed:064x}".encode(),
    }
    return [
        f"{what} in {file.name}"
        for file in sorted(folder.iterdir())
        for what, secret in secrets.items()
        if secret in file.read_bytes()
    ]


def enrol(gallery: Gallery, seed: int) -> None:
    identifier = f"person-{seed:04d}"
    gallery.store.create_subject("default", identifier, Changes(f"Name of {seed:04d}"))
    gallery.enrol("default", identifier, [face(seed, crop(seed))])


def test_an_erased_person_leaves_no_bytes(gallery: Gallery, tmp_path: Path) -> None:
    for seed in range(40, 80):
        enrol(gallery, seed)
    assert len(traces(tmp_path, 50)) >= 6
    for seed in range(45, 55):
        gallery.erase_subject("default", f"person-{seed:04d}")
    assert [traces(tmp_path, seed) for seed in range(45, 55)] == 10 * [[]]
    assert len(traces(tmp_path, 44)) >= 6


def test_a_reader_in_the_way_only_delays_it(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, 1)
    with gallery.store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM faces").scalar_one() == 1
        gallery.erase_subject("default", "person-0001")
        assert traces(tmp_path, 1), "nothing was in the way, so nothing is proved"
    gallery.catch_up()
    assert traces(tmp_path, 1) == []


def test_a_merged_person_leaves_only_the_faces(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, 1)
    enrol(gallery, 2)
    gallery.merge_subjects("default", "person-0001", "person-0002")
    assert {trace.split(" in ")[0] for trace in traces(tmp_path, 1)} == {"embedding", "part of it", "crop", "digest"}
