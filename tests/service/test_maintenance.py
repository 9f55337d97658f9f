"""Backups between databases, what a check finds, and embedding and sealing anew, killed half-way or not."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from galleries import MODEL, SIZE, face, found, unit
from numpy.typing import NDArray

from service.data_folder import held
from service.gallery import tables
from service.gallery.database import open_engine
from service.gallery.errors import GalleryModelMismatch, GalleryUnusable
from service.gallery.gallery import Gallery
from service.gallery.records import Changes
from service.gallery.snapshots import SnapshotFolder
from service.gallery.store import GalleryStore
from service.maintenance.backup import TargetExists, back_up
from service.maintenance.copying import read_sequences
from service.maintenance.fsck import Examined, examine
from service.maintenance.index_check import snapshot_findings
from service.maintenance.reembedding import CannotReembed, reembed
from service.maintenance.rest import InUse, at_rest
from service.maintenance.restore import BadBackup, restore
from service.maintenance.rotation import NoKey, rotate
from service.recognition.crops import encode_crop
from service.security.audit import Actor, AuditLog, Event
from service.security.keys import KeyStore
from service.security.roles import Role
from service.security.sealing import Sealer
from service.settings import Settings

KEYS = [bytes([number]) * 32 for number in (61, 62)]
OTHER = "other@0123456789ab"


def unnoted(*_: object) -> None:
    """What a restored gallery is told of its restoration: nothing, so that it equals the other."""


def crop(seed: int) -> bytes:
    return encode_crop(np.full((112, 112, 3), seed, np.uint8))


def fill(engine: sa.Engine, sealer: Sealer | None = None, *, crops: bool = True) -> Gallery:
    """Two collections, keys and an audit log; some faces are erased again, the last one too."""
    store = GalleryStore(engine, MODEL, SIZE, sealer or Sealer.none(), keep_crops=crops)
    gallery = Gallery.open(store, SIZE)
    store.create_collection("staff", Changes("The staff", {"floor": 3}))
    for seed in range(6):
        gallery.enrol("staff" if seed % 2 else "default", f"s{seed}", [face(seed, crop(seed))])
    gallery.erase_subject("staff", "s5")
    keys = KeyStore(engine)
    keys.create("everybody", Role.ADMIN)
    keys.create("some", Role.READ, ["staff"], datetime(2030, 1, 1, tzinfo=UTC))
    log = AuditLog(engine)
    for number in range(3):
        log.record(Actor("a key", "somebody", f"r{number}"), Event("verify", details={"faces": number}), 200)
    return gallery


def rows(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """Everything that a database holds."""
    with engine.begin() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=str)
            for table in tables.metadata.sorted_tables
        }


def settings_for(url: str, folder: Path) -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(data_dir=folder, database_url=url)


Database = Callable[[str], sa.Engine]


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_backup_comes_back_whole_into_either_database(
    database_url: str, target: str, open_database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = open_database(database_url)
    fill(engine, Sealer(KEYS[:1]))
    manifest = back_up(engine, tmp_path / "backup")
    assert (manifest.models, manifest.faces, manifest.subjects, manifest.collections) == ([MODEL], 5, 5, 2)
    assert manifest.sealed_with == [Sealer(KEYS[:1]).current]
    assert KEYS[0] not in (tmp_path / "backup").read_bytes()
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []

    if target == "postgresql":
        url = sa.make_url(request.getfixturevalue("postgres_url")).render_as_string(hide_password=False)
        maintenance = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE IF EXISTS restored WITH (FORCE)")
            connection.exec_driver_sql("CREATE DATABASE restored TEMPLATE template0 LOCALE 'C.UTF-8'")
        maintenance.dispose()
        url = str(sa.make_url(url).set(database="restored").render_as_string(hide_password=False))
    else:
        url = f"sqlite:///{tmp_path / 'restored.db'}"
    settings = settings_for(url, tmp_path / "restored")
    restore(tmp_path / "backup", settings, settings.index_dir, unnoted)
    restored = open_database(url)
    assert rows(restored) == rows(engine)
    assert AuditLog(restored).verify() is None
    with engine.begin() as one, restored.begin() as other:
        assert read_sequences(other)["faces"] == read_sequences(one)["faces"] == 6
    gallery = Gallery.open(GalleryStore(restored, MODEL, SIZE, Sealer(KEYS[:1])), SIZE)
    assert [found(gallery, seed, "staff") for seed in (1, 3, 5)] == ["s1", "s3", None]
    keys = gallery.enrol("default", "late", [face(99)]).keys
    assert keys.tolist() == [7], "the number of an erased face must not come again"
    AuditLog(restored).record(Actor(None, "somebody", "late"), Event("verify"), 200)
    with pytest.raises(TargetExists):
        restore(tmp_path / "backup", settings, settings.index_dir, unnoted)


@pytest.fixture
def engine(tmp_path: Path, open_database: Database) -> sa.Engine:
    return open_database(f"sqlite:///{tmp_path / 'facemargin.db'}")


def test_backups_never_overwrite_and_damaged_ones_are_refused(engine: sa.Engine, tmp_path: Path) -> None:
    fill(engine)
    file = tmp_path / "backup"
    back_up(engine, file)
    with pytest.raises(TargetExists):
        back_up(engine, file)
    whole = file.read_bytes()
    settings = Settings(data_dir=tmp_path / "restored")
    middle = whole.index(b"SQLite format 3") + 20_000
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        whole.replace(b'"version": 1', b'"version": 2'),
    ):
        file.write_bytes(damaged)
        with pytest.raises(BadBackup):
            restore(file, settings, settings.index_dir, unnoted)
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "manifest.json")
    with pytest.raises(BadBackup):
        restore(file, settings, settings.index_dir, unnoted)
    assert [path.name for path in settings.data_dir.iterdir()] == [".lock"], "nothing may be half restored"


def test_a_gallery_that_is_used_is_left_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with at_rest(settings) as engine:
        fill(engine)
    with held(settings.data_dir), pytest.raises(GalleryUnusable, match="already serves"), at_rest(settings):
        pass
    elsewhere = Settings(data_dir=tmp_path / "another", database_url=settings.gallery_url)
    using = open_engine(settings.gallery_url)
    with using.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(InUse, match="stop the server"), at_rest(elsewhere):
            pass
    using.dispose()
    with at_rest(elsewhere):
        pass


def test_a_postgresql_gallery_that_is_used_is_left_alone(postgres: str, tmp_path: Path) -> None:
    settings = settings_for(postgres, tmp_path / "data")
    using = open_engine(postgres)
    with using.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(InUse, match="other connections"), at_rest(settings):
            pass
    using.dispose()
    with at_rest(settings) as engine:
        assert open_engine(postgres).dialect.name == engine.dialect.name


def check(engine: sa.Engine, folder: Path, sealer: Sealer | None = None, model: str = MODEL) -> Examined:
    sealer = sealer or Sealer.none()
    settings = Settings(data_dir=folder)
    store = GalleryStore(engine, model, SIZE, sealer)
    return examine(engine, sealer, model, SIZE, lambda checked: snapshot_findings(settings, store, sealer, checked))


def faults(examined: Examined) -> set[str]:
    return {finding.check for finding in examined.findings}


def snapshot(gallery: Gallery, folder: Path, sealer: Sealer | None = None) -> None:
    index_dir = Settings(data_dir=folder).index_dir
    opened = Gallery.open(gallery.store, SIZE, snapshots=index_dir)
    assert opened.save_snapshots() == 2


def test_a_whole_gallery_has_no_findings(engine: sa.Engine, tmp_path: Path) -> None:
    gallery = fill(engine, Sealer(KEYS[:1]))
    snapshot(gallery, tmp_path)
    gallery.erase_subject("default", "s0")  # the snapshot is of before, and that is in order
    gallery.merge_subjects("default", "s2", "s4")
    examined = check(engine, tmp_path, Sealer(KEYS[:1]))
    assert examined.document()["intact"] is True, examined.findings
    assert examined.checked["faces"] == 4
    assert examined.checked["index snapshots"] == 2
    assert examined.checked["audit entries"] == 3


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE faces SET embedding = zeroblob(128) WHERE key = 1", "embedding"),
        ("UPDATE faces SET embedding = zeroblob(12) WHERE key = 1", "embedding"),
        ("UPDATE faces SET crop = x'00' WHERE key = 1", "crop"),
        ("UPDATE faces SET model_id = 'another@1' WHERE key = 1", "model"),
        ("DELETE FROM revisions WHERE face_key = 1", "revision log"),
        ("PRAGMA foreign_keys=OFF; DELETE FROM subjects WHERE key = 1", "database"),
        ("DELETE FROM faces WHERE key = 1", "index snapshot"),
        ("UPDATE faces SET subject_key = 3 WHERE key = 1", "index snapshot"),
        ("DROP TRIGGER audit_no_UPDATE; UPDATE audit SET outcome = 401 WHERE number = 2", "audit log"),
        ("DROP TRIGGER audit_no_DELETE; DELETE FROM audit WHERE number = 3", "audit log"),
    ],
)
def test_what_was_changed_from_outside_is_found(engine: sa.Engine, tmp_path: Path, statement: str, fault: str) -> None:
    snapshot(fill(engine), tmp_path)
    with sqlite3.connect(tmp_path / "facemargin.db") as connection:
        connection.executescript(statement)
    assert fault in faults(check(engine, tmp_path))


def test_a_swapped_seal_and_a_damaged_snapshot_are_found(engine: sa.Engine, tmp_path: Path) -> None:
    sealer = Sealer(KEYS[:1])
    snapshot(fill(engine, sealer), tmp_path)
    with sqlite3.connect(tmp_path / "facemargin.db") as connection:
        connection.execute("UPDATE faces SET embedding = (SELECT embedding FROM faces WHERE key = 2) WHERE key = 1")
    (file, *_) = Settings(data_dir=tmp_path).index_dir.glob("*.index")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert faults(check(engine, tmp_path, sealer)) == {"seal", "index snapshot"}
    assert "seal" in faults(check(engine, tmp_path, Sealer(KEYS[1:2])))


def nothing(done: int, total: int) -> None:
    """Nobody watches."""


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is run."""


def killed_at_first(done: int, total: int) -> None:
    raise Killed


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("service.maintenance.rotation._BATCH", 2)
    monkeypatch.setattr("service.maintenance.reembedding._BATCH", 2)
    return None


@pytest.mark.usefixtures("small_batches")
def test_keys_are_rotated_however_often_it_is_interrupted(engine: sa.Engine, tmp_path: Path) -> None:
    fill(engine)
    plain = unit(3).astype("<f4").tobytes()
    with pytest.raises(NoKey, match="new-key"):
        rotate(engine, Sealer.none(), nothing)
    both = Sealer(KEYS[:1])
    with pytest.raises(Killed):
        rotate(engine, both, killed_at_first)
    assert found(Gallery.open(GalleryStore(engine, MODEL, SIZE, both), SIZE), 3, "staff") == "s3"
    assert rotate(engine, both, nothing) == 3
    engine.dispose()
    assert not any(plain in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    newest = Sealer([KEYS[1], KEYS[0]])
    assert rotate(engine, newest, nothing) == 5
    alone = Sealer(KEYS[1:2])
    gallery = Gallery.open(GalleryStore(engine, MODEL, SIZE, alone, keep_crops=True), SIZE)
    assert found(gallery, 3, "staff") == "s3"
    assert check(engine, tmp_path, alone).document()["intact"] is True


def embed_anew(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stands for another network: the direction of 1000 and the crop's grey."""
    return np.stack([unit(1000 + int(one[0, 0, 0])) for one in crops])


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("sealer", [Sealer.none(), Sealer(KEYS[:1])], ids=["plain", "sealed"])
def test_embeddings_are_made_anew_all_at_once(engine: sa.Engine, tmp_path: Path, sealer: Sealer) -> None:
    fill(engine, sealer)
    staging = tmp_path / "reembed.db"
    counted: list[int] = []

    def counting(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        counted.append(len(crops))
        return embed_anew(crops)

    with pytest.raises(Killed):
        reembed(engine, sealer, OTHER, counting, staging, killed_at_first)
    before = Gallery.open(GalleryStore(engine, MODEL, SIZE, sealer), SIZE)
    assert found(before, 3, "staff") == "s3", "until all are there the old ones serve"
    if sealer.current is not None:
        assert unit(1000).tobytes() not in staging.read_bytes()
    assert reembed(engine, sealer, OTHER, counting, staging, nothing) == 5
    assert sum(counted) == 5, "what was embedded before the kill is not embedded again"
    assert not list(tmp_path.glob("reembed.db*"))
    after = Gallery.open(GalleryStore(engine, OTHER, SIZE, sealer), SIZE)
    assert found(after, 1003, "staff") == "s3"
    with pytest.raises(GalleryModelMismatch):
        Gallery.open(GalleryStore(engine, MODEL, SIZE, sealer), SIZE)
    assert check(engine, tmp_path, sealer, OTHER).document()["intact"] is True
    assert reembed(engine, sealer, OTHER, counting, staging, nothing) == 0


def test_without_crops_nothing_is_embedded_anew(engine: sa.Engine, tmp_path: Path) -> None:
    gallery = fill(engine, crops=False)
    with pytest.raises(CannotReembed, match=r"5 of 5 faces have no kept crop"):
        reembed(engine, Sealer.none(), OTHER, embed_anew, tmp_path / "reembed.db", nothing)
    keeping = GalleryStore(engine, MODEL, SIZE, keep_crops=True)
    keeping.enrol("default", "with", [face(50, crop(50))], create_subject=True)
    with pytest.raises(CannotReembed, match=r"5 of 6 faces"):
        reembed(engine, Sealer.none(), OTHER, embed_anew, tmp_path / "reembed.db", nothing)
    for collection, seeds in (("default", (0, 2, 4)), ("staff", (1, 3))):
        for seed in seeds:
            gallery.erase_subject(collection, f"s{seed}")
    with pytest.raises(CannotReembed, match="rotate-key"):
        reembed(engine, Sealer(KEYS[:1]), OTHER, embed_anew, tmp_path / "reembed.db", nothing)
    assert SnapshotFolder(tmp_path / "index", MODEL, Sealer.none()).keys() == []
