"""Snapshots on a real disk: whole or none, whoever is killed; nobody erased is in them; nothing wrong is believed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from numpy.typing import NDArray

from service.gallery import snapshot_file
from service.gallery.index import FlatIndex
from service.gallery.snapshots import SnapshotFolder
from service.gallery.subjects import SubjectIndex
from service.gallery.tiered import TieredIndex
from service.security.sealing import Sealer

SIZE = 32
MODEL = "test@0123456789ab"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KEY = bytes(range(32))


def units(count: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def people(vectors: TieredIndex | FlatIndex, count: int) -> SubjectIndex:
    """Faces 10, 11, ... of subjects 0, 0, 0, 1, 1, 1, ..."""
    index = SubjectIndex(vectors)
    index.add(np.arange(count) + 10, np.arange(count) // 3, units(count))
    return index


def in_lists(count: int = 900) -> tuple[SubjectIndex, TieredIndex]:
    """Most of them in lists, some in the delta, some dead."""
    vectors = TieredIndex(SIZE, switch_size=400)
    index = people(vectors, count)
    vectors.settle()
    index.add(np.arange(50) + 10_000, np.full(50, 7), units(50, 1))
    index.remove(np.array([10, 20, 10_003]))
    assert vectors.kind == "ivf"
    return index, vectors


@pytest.fixture(params=["plain", "sealed"])
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return Sealer.none() if request.param == "plain" else Sealer([KEY])


@pytest.fixture
def folder(tmp_path: Path, sealer: Sealer) -> SnapshotFolder:
    return SnapshotFolder(tmp_path / "index", MODEL, sealer).open()


def save(folder: SnapshotFolder, index: SubjectIndex, revision: int = 5, collection: int = 1) -> Path:
    folder.save(collection, revision, MOMENT, folder.state_of(index))
    return folder._path / f"collection-{collection}.index"


@pytest.mark.parametrize(
    "index",
    [people(FlatIndex(SIZE), 60), people(TieredIndex(SIZE), 60), people(TieredIndex(SIZE), 0), in_lists()[0]],
    ids=["flat", "tiered", "empty", "lists"],
)
def test_what_is_loaded_finds_the_same(folder: SnapshotFolder, index: SubjectIndex) -> None:
    save(folder, index)
    loaded = folder.load(1)
    assert loaded is not None
    assert (loaded.revision, loaded.moment) == (5, MOMENT)
    assert (loaded.index.total(), loaded.index.subjects) == (index.total(), index.subjects)
    assert loaded.index.search(units(5, 3), 9) == index.search(units(5, 3), 9)
    loaded.index.add(np.array([99_999]), np.array([500]), units(1, 4))
    loaded.index.remove(np.array([11]))
    ((hit,),) = loaded.index.search(units(1, 4), 1)
    assert (hit.subject_key, hit.face_key) == (500, 99_999)


def test_the_stamp_says_what_it_is(folder: SnapshotFolder, sealer: Sealer) -> None:
    data = save(folder, people(TieredIndex(SIZE), 6)).read_bytes()
    stamp = json.loads(data[12 : 12 + int.from_bytes(data[8:12], "little")])
    assert {name: stamp[name] for name in ("format", "model", "collection", "revision", "sealed_with")} == {
        "format": 1,
        "model": MODEL,
        "collection": 1,
        "revision": 5,
        "sealed_with": sealer.current,
    }


def test_only_its_owner_may_read_it(folder: SnapshotFolder) -> None:
    assert save(folder, people(TieredIndex(SIZE), 6)).stat().st_mode & 0o777 == 0o600
    assert folder._path.stat().st_mode & 0o777 == 0o700


def test_collections_are_apart(folder: SnapshotFolder) -> None:
    save(folder, people(TieredIndex(SIZE), 6), collection=12)
    save(folder, people(TieredIndex(SIZE), 9), collection=3)
    assert folder.keys() == [3, 12]
    folder.drop(3)
    folder.drop(4)
    assert folder.keys() == [12]
    assert folder.load(12) is not None


# ---- doubt


@contextmanager
def refused(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture, collection: int = 1) -> Iterator[None]:
    """What is done inside makes the snapshot one that is not used, as one line of the log says."""
    yield
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert folder.load(collection) is None
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"the snapshot of the index of collection {collection} is not used: ")
    assert "\n" not in line
    assert str(folder._path) not in line


def test_none_is_nothing_to_speak_of(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture) -> None:
    assert folder.load(1) is None
    assert not caplog.records


def test_any_altered_bit_is_noticed(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture) -> None:
    file = save(folder, people(TieredIndex(SIZE), 8))
    whole = file.read_bytes()
    chance = random.Random(0)
    for position in [*range(0, 400, 7), *chance.choices(range(len(whole)), k=60), *range(len(whole) - 40, len(whole))]:
        with refused(folder, caplog):
            altered = bytearray(whole)
            altered[position] ^= 1 << chance.randrange(8)
            file.write_bytes(altered)
    file.write_bytes(whole)
    assert folder.load(1) is not None


def test_any_other_length_is_noticed(folder: SnapshotFolder, caplog: pytest.LogCaptureFixture) -> None:
    file = save(folder, people(TieredIndex(SIZE), 8))
    whole = file.read_bytes()
    for length in [0, 1, 8, 11, 12, 40, *range(100, len(whole), 97), len(whole) - 1]:
        with refused(folder, caplog):
            file.write_bytes(whole[:length])
    with refused(folder, caplog):
        file.write_bytes(whole + b"\0")
    with refused(folder, caplog):
        file.write_bytes(bytes(len(whole)))
    with refused(folder, caplog):
        file.unlink()
        file.mkdir()


def test_of_another_model_collection_or_format(
    folder: SnapshotFolder, sealer: Sealer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = people(TieredIndex(SIZE), 8)
    with refused(folder, caplog):
        save(SnapshotFolder(folder._path, "other@0123456789ab", sealer), index)
    with refused(folder, caplog):
        save(folder, index, collection=2).rename(folder._path / "collection-1.index")
    with refused(folder, caplog), monkeypatch.context() as patch:
        patch.setattr("service.gallery.snapshots.FORMAT", 2)
        save(folder, index)


def test_sealed_with_another_key_or_not_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sealers = [Sealer.none(), Sealer([KEY]), Sealer([bytes(32), KEY])]
    folders = [SnapshotFolder(tmp_path, MODEL, sealer).open() for sealer in sealers]
    for writing in folders:
        for reading in folders:
            if writing is not reading:
                with refused(reading, caplog):
                    save(writing, people(TieredIndex(SIZE), 8))


def test_a_forger_without_the_key_gets_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The digest is no secret, so anyone can make it right; the seal covers the stamp."""
    folder = SnapshotFolder(tmp_path, MODEL, Sealer([KEY])).open()
    file = save(folder, people(TieredIndex(SIZE), 8))
    with refused(folder, caplog):
        forged = file.read_bytes()[:-32].replace(b'"revision": 5', b'"revision": 6')
        file.write_bytes(forged + hashlib.sha256(forged).digest())


def test_replaced_while_it_is_read(folder: SnapshotFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a server, while `fsck` looks."""
    save(folder, people(TieredIndex(SIZE), 600))
    check, times = snapshot_file._check_digest, []

    def replaced_before(file: IO[bytes]) -> None:
        if not times:
            times.append(save(folder, people(TieredIndex(SIZE), 900), revision=6))
        check(file)

    monkeypatch.setattr(snapshot_file, "_check_digest", replaced_before)
    assert folder.read(1).revision == 6


# ---- erasure


def bytes_of(vector: NDArray[np.float32]) -> list[bytes]:
    """How a vector may lie in a file: at both precisions. A part of it, for it may lie across two blocks."""
    return [
        part for whole in (vector, vector.astype(np.float16)) for part in (whole[:9].tobytes(), whole[-9:].tobytes())
    ]


def test_who_was_erased_is_in_no_snapshot(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path, MODEL, Sealer.none()).open()
    index, _ = in_lists()
    data = save(folder, index).read_bytes()
    gone = [units(900)[0], units(900)[10], units(50, 1)[3]]
    assert not any(part in data for vector in gone for part in bytes_of(vector))
    for kept in (units(900)[1], units(50, 1)[4]):
        assert any(part in data for part in bytes_of(kept))


def test_a_sealed_snapshot_shows_no_vector(tmp_path: Path) -> None:
    index, _ = in_lists()
    data = save(SnapshotFolder(tmp_path, MODEL, Sealer([KEY])).open(), index).read_bytes()
    for vector in (*units(900)[:100], *units(50, 1)):
        assert not any(part in data for part in bytes_of(vector))


def test_what_goes_is_overwritten(folder: SnapshotFolder) -> None:
    index = people(TieredIndex(SIZE), 30)
    for goes in (lambda: save(folder, index), lambda: folder.drop(1)):
        with save(folder, index).open("rb") as before:
            size = os.fstat(before.fileno()).st_size
            goes()
            assert before.read() == bytes(size)
    assert list(folder._path.iterdir()) == []


def test_what_a_killed_writer_left_is_wiped(folder: SnapshotFolder, sealer: Sealer) -> None:
    file = save(folder, people(TieredIndex(SIZE), 30))
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(file.read_bytes()[:500])
    with unfinished.open("rb") as left:
        SnapshotFolder(folder._path, MODEL, sealer).open()
        assert left.read() == bytes(500)
    assert list(folder._path.iterdir()) == [file]


def test_a_full_disk_leaves_the_one_before(folder: SnapshotFolder) -> None:
    save(folder, people(TieredIndex(SIZE), 6))
    state = folder.state_of(people(TieredIndex(SIZE), 5000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            folder.save(1, 6, MOMENT, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    loaded = folder.load(1)
    assert loaded is not None
    assert (loaded.revision, loaded.index.faces) == (5, 6)
    assert len(list(folder._path.iterdir())) == 1


def test_it_is_on_the_disk_before_it_has_its_name(folder: SnapshotFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill does not show this, a power cut would."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name} {target.name}")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", noted_fsync)
        patch.setattr(Path, "replace", noted_replace)
        save(folder, people(TieredIndex(SIZE), 6))
    assert done == [
        "fsync collection-1.unfinished",
        "rename collection-1.unfinished collection-1.index",
        "fsync index",
    ]


# ---- kill -9

SIZES = (40, 3000, 12000)
KILLS = 25
WRITER = """
import os, sys
from pathlib import Path
import test_snapshots as tests
states = [tests.people(tests.TieredIndex(tests.SIZE), size).state() for size in tests.SIZES]

def save_on_and_on(first):
    folder = tests.SnapshotFolder(Path(sys.argv[1]), tests.MODEL, tests.Sealer([tests.KEY])).open()
    for revision in range(first, first + 100_000):
        folder.save(1, revision, tests.MOMENT, states[revision % 3])
        os.write(1, b"%d\\n" % revision)  # at once: a line cut short by the kill would run into the next
        if revision % 11 == 10:
            folder.drop(1)

for first in sys.stdin:
    writer = os.fork()
    if writer == 0:
        save_on_and_on(int(first))
    os.write(1, b"writer %d\\n" % writer)
    os.waitpid(writer, 0)
    os.write(1, b"killed\\n")
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that, told a revision, lets a child save it and those that follow."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def killed_at_random(writers: subprocess.Popen[str], first: int, chance: random.Random) -> list[int]:
    """Let a writer save from `first` on, and kill it with -9; the revisions that it said were saved."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write(f"{first}\n")
    writers.stdin.flush()
    said: list[str] = []
    while not said or not said[-1].startswith("writer"):
        said.append(writers.stdout.readline())
    time.sleep(chance.uniform(0, 0.15))
    os.kill(int(said[-1].split()[1]), signal.SIGKILL)
    while said[-1] != "killed\n":
        said.append(writers.stdout.readline())
    return [int(line) for line in said if line.strip().isdigit()]


def test_a_writer_killed_at_random_leaves_a_whole_one(tmp_path: Path, writers: subprocess.Popen[str]) -> None:
    folder = SnapshotFolder(tmp_path, MODEL, Sealer([KEY]))
    chance, last, found = random.Random(), 0, 0
    for _ in range(KILLS):
        last = max([last, *killed_at_random(writers, last + 1, chance)])
        loaded = folder.load(1)
        if loaded is None:
            # Killed in or right after a drop, or before the first.
            assert last % 11 == 10 or (last == 0 and not folder.keys())
        else:
            found += 1
            assert loaded.revision >= last, "one that was acknowledged is lost"
            assert loaded.index.faces == SIZES[loaded.revision % 3]
            assert loaded.index.search(units(2), 1)[0][0].similarity == pytest.approx(1)
            last = loaded.revision
        folder.open()
        assert not list(tmp_path.glob("*.unfinished"))
    assert found > KILLS // 2, "hardly ever killed while there was one"
