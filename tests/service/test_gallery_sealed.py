"""Embeddings and crops under encryption: unreadable at rest, bound to their face, refused without the key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from galleries import MODEL, SIZE, face, found, unit

from service.gallery import tables
from service.gallery.database import writing
from service.gallery.gallery import Gallery
from service.gallery.store import GalleryStore
from service.security.sealing import Sealer, SealError

CROP = b"a crop that nobody may read" * 10
Open = Callable[[Sealer], Gallery]


@pytest.fixture
def open_sealed(database_url: str, open_database: Callable[[str], sa.Engine]) -> Open:
    def opened(sealer: Sealer) -> Gallery:
        return Gallery.open(GalleryStore(open_database(database_url), MODEL, SIZE, sealer, keep_crops=True), SIZE)

    return opened


@pytest.fixture
def keys() -> list[bytes]:
    return [AESGCM.generate_key(256) for _ in range(2)]


def faces(gallery: Gallery) -> list[sa.Row[tuple[object, ...]]]:
    with gallery.store.engine.begin() as connection:
        return list(connection.execute(sa.select(tables.faces).order_by(tables.faces.c.key)))


def test_what_is_stored_is_sealed_and_read_back(open_sealed: Open, keys: list[bytes], tmp_path: Path) -> None:
    sealer = Sealer(keys[:1])
    gallery = open_sealed(sealer)
    (face_id,) = gallery.enrol("default", "ada", [face(1, CROP)]).face_ids
    (row,) = faces(gallery)
    assert row.sealed_with == sealer.current
    assert unit(1).tobytes()[:16] not in row.embedding
    assert CROP[:16] not in row.crop
    for file in tmp_path.iterdir():
        assert unit(1).tobytes()[:16] not in file.read_bytes()
    for opened in (gallery, open_sealed(sealer)):
        assert found(opened, 1) == "ada"
        assert (opened.store.embedding(face_id) == unit(1)).all()
        assert opened.store.crop("default", "ada", face_id) == CROP


def test_without_the_key_it_does_not_open(open_sealed: Open, keys: list[bytes]) -> None:
    open_sealed(Sealer(keys[:1])).enrol("default", "ada", [face(1)])
    for wrong in (Sealer.none(), Sealer(keys[1:])):
        with pytest.raises(SealError):
            open_sealed(wrong)


def test_older_keys_still_open_and_the_newest_seals(
    open_sealed: Open, keys: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    open_sealed(Sealer.none()).enrol("default", "ada", [face(1)])
    open_sealed(Sealer(keys[:1])).enrol("default", "bob", [face(2)])
    newest_first = Sealer([keys[1], keys[0]])
    with caplog.at_level(logging.WARNING):
        gallery = open_sealed(newest_first)
    assert "2 faces are not sealed with the newest key" in caplog.text
    gallery.enrol("default", "cy", [face(3)])
    assert [found(gallery, seed) for seed in (1, 2, 3)] == ["ada", "bob", "cy"]
    assert [row.sealed_with for row in faces(gallery)] == [None, Sealer(keys[:1]).current, newest_first.current]


def test_a_sealed_embedding_is_of_its_face_alone(open_sealed: Open, keys: list[bytes]) -> None:
    """Whoever may write the database must not be able to pass one person off as another."""
    sealer = Sealer(keys[:1])
    gallery = open_sealed(sealer)
    gallery.enrol("default", "ada", [face(1)])
    gallery.enrol("default", "bob", [face(2)])
    ada, bob = faces(gallery)
    with writing(gallery.store.engine).begin() as connection:
        swapped = sa.update(tables.faces).where(tables.faces.c.key == bob.key).values(embedding=ada.embedding)
        connection.execute(swapped)
    with pytest.raises(SealError):
        open_sealed(sealer)
