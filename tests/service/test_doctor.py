"""The doctor looks at real galleries, sound and not, and changes none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from models import checkpoint, pretrained
from service.doctor import machine
from service.doctor.finding import Finding
from service.doctor.gallery import gallery
from service.gallery import tables
from service.gallery.database import open_engine
from service.gallery.gallery import Gallery
from service.gallery.records import NewFace
from service.gallery.store import GalleryStore
from service.security.sealing import Sealer, add_key
from service.settings import Settings


@pytest.fixture
def engine(open_database: Callable[[str], sa.Engine], database_url: str) -> sa.Engine:
    """A migrated database of each kind in turn."""
    return open_database(database_url)


@pytest.fixture
def examine(database_url: str, tmp_path: Path) -> Callable[[], dict[str, Finding]]:
    """What the doctor finds, by the name of the check."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, recogniser=pretrained.RECOGNISER)
    return lambda: {finding.name: finding for finding in gallery(settings)}


def test_a_gallery_that_is_not_there_yet_is_in_order(tmp_path: Path) -> None:
    (finding,) = [found for found in gallery(Settings(data_dir=tmp_path)) if found.name == "database"]
    assert finding.ok
    assert not (tmp_path / "facemargin.db").exists(), "to look must not make it"


def test_a_fresh_gallery_is_in_order(engine: sa.Engine, examine: Callable[[], dict[str, Finding]]) -> None:
    found = examine()
    assert all(finding.ok for finding in found.values()), found
    assert {"database", "gallery", "gallery's clock"} <= found.keys()


def test_faces_of_another_model_are_named(engine: sa.Engine, examine: Callable[[], dict[str, Finding]]) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        collection = connection.scalar(sa.select(tables.collections.c.key))
        connection.execute(
            sa.insert(tables.subjects).values(collection_key=collection, id="a", name="", metadata={}, created_at=now)
        )
        connection.execute(
            sa.insert(tables.faces).values(
                id="face",
                subject_key=connection.scalar(sa.select(tables.subjects.c.key)),
                embedding=b"",
                model_id="another@000000000000",
                quality=1.0,
                detection_score=1.0,
                box=[0, 0, 1, 1],
                source_digest="",
                created_at=now,
            )
        )
    finding = examine()["gallery"]
    assert not finding.ok
    assert "1 faces of another@000000000000" in finding.detail
    assert "reembed" in finding.remedy


def test_a_clock_that_was_set_back_is_noticed(engine: sa.Engine, examine: Callable[[], dict[str, Finding]]) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.revisions).values(change="face_added", collection_key=1, at=later))
    assert not examine()["gallery's clock"].ok


def test_sealed_faces_need_their_key_and_snapshots_are_read(tmp_path: Path) -> None:
    def look(**given: object) -> dict[str, Finding]:
        return {found.name: found for found in gallery(Settings(data_dir=tmp_path, **given))}

    keys = tmp_path / "keys"
    key_id = add_key(keys)
    settings = Settings(data_dir=tmp_path, encryption_key_file=keys)
    model_id = checkpoint.read(pretrained.RECOGNISER).model_id
    engine = open_engine(settings.gallery_url)
    store = GalleryStore(engine, model_id, 512, sealer=Sealer.from_settings(settings))
    people = Gallery.open(store, 512, snapshots=settings.index_dir)
    embedding = np.eye(1, 512, dtype=np.float32)[0]
    people.enrol("default", "somebody", [NewFace(embedding, 0.9, 0.9, (0.0, 0.0, 9.0, 9.0), "0" * 64)])
    assert people.save_snapshots() == 1

    found = look(encryption_key_file=keys)
    assert all(finding.ok for finding in found.values()), found
    assert found["encryption key"].detail == key_id
    assert found["snapshots"].detail == "1 whole"
    assert not look()["encryption key"].ok, "without its key the gallery cannot be opened"
    add_key(keys)
    assert "rotate-key" in look(encryption_key_file=keys)["encryption key"].detail
    assert not look(encryption_key_file=tmp_path / "nowhere")["encryption key"].ok

    (snapshot,) = settings.index_dir.iterdir()
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    damaged = look(encryption_key_file=keys)["snapshots"]
    assert not damaged.ok
    assert "from the database" in damaged.remedy
    engine.dispose()


def test_a_database_of_a_newer_version_is_named(engine: sa.Engine, examine: Callable[[], dict[str, Finding]]) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    finding = examine()["database"]
    assert not finding.ok
    assert "9999" in finding.detail


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    address = "postgresql+psycopg://user:pass-word@127.0.0.1:1/gallery"
    (finding,) = [found for found in gallery(Settings(data_dir=tmp_path, database_url=address)) if not found.ok]
    assert finding.name == "database"
    assert "127.0.0.1:1" in finding.detail
    assert "pass-word" not in finding.line


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.disk(tmp_path / "not" / "yet" / "there").ok
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    finding = machine.disk(tmp_path)
    assert not finding.ok
    assert "make room" in finding.remedy


def test_the_clock_of_this_machine_is_right() -> None:
    assert machine.clock().ok
