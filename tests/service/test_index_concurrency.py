"""Searches while others write and while everything is filed anew: consistent, and never held up for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.gallery.index import FlatIndex, VectorIndex
from service.gallery.snapshots import SnapshotFolder
from service.gallery.subjects import SubjectIndex
from service.gallery.tiered import TieredIndex
from service.security.sealing import Sealer

SIZE = 32
BATCH = 20


def units(count: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@contextmanager
def running(*works: Callable[[], None]) -> Iterator[threading.Event]:
    """Each in a thread of its own, over and over, until the end; what one raises is raised here."""
    stop = threading.Event()

    def repeat(work: Callable[[], None]) -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        futures: list[Future[None]] = [pool.submit(repeat, work) for work in works]
        try:
            yield stop
        finally:
            stop.set()
    for future in futures:
        future.result()


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, at most half a minute."""
    end = time.monotonic() + 30
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)


class Told:
    """What a writer has finished, for searches to be held to. settled: keys that stay; gone: keys that are away."""

    def __init__(self) -> None:
        self.settled: set[int] = set()
        self.gone: set[int] = set()


@pytest.mark.parametrize("index", [TieredIndex(SIZE, 150), FlatIndex(SIZE)], ids=["tiered", "flat"])
def test_what_was_written_before_a_search_is_seen_by_it(index: VectorIndex) -> None:
    vectors, told = units(3000, 0), Told()
    kinds: set[str] = set()

    def look() -> None:
        settled, gone = list(told.settled.copy()), told.gone.copy()
        if not settled:
            return
        wanted = np.random.default_rng().choice(settled, 3)
        similarities, keys = index.search(vectors[wanted], 10)
        assert keys[:, 0].tolist() == wanted.tolist()
        np.testing.assert_allclose(similarities[:, 0], 1, atol=2e-3)
        everything = index.search(vectors[wanted[:1]], 10_000)[1][0]
        found = set(everything.tolist())
        assert len(found) == len(everything)
        assert not gone & found
        assert not set(settled) - found
        kinds.add(index.kind)

    with running(look, look):
        for start in range(0, 3000, BATCH):
            keys = np.arange(start, start + BATCH)
            index.add(keys, vectors[keys])
            told.settled |= set(keys[5:].tolist())
            index.remove(keys[:5])
            told.gone |= set(keys[:5].tolist())
            # A search of each kind, at least: else all is written before anybody has looked.
            until(lambda: index.kind in kinds)
            if isinstance(index, TieredIndex) and start >= 1500:
                index.settle()
    assert len(index) == 3000 // BATCH * (BATCH - 5)
    assert kinds == ({"flat", "ivf"} if isinstance(index, TieredIndex) else {"flat"})


def test_writers_from_many_threads_lose_nothing() -> None:
    index, vectors = TieredIndex(SIZE, 100), units(4000, 0)

    def write(own: int) -> None:
        for start in range(own * 1000, own * 1000 + 1000, 50):
            keys = np.arange(start, start + 50)
            index.add(keys, vectors[keys])
            assert index.remove(keys[::10]) == 5

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    index.settle()
    kept = [key for key in range(4000) if key % 10]
    assert len(index) == len(kept)
    assert index.search(vectors[kept], 1)[1][:, 0].tolist() == kept
    assert sorted(index.search(vectors[:1], 5000)[1][0].tolist()) == kept


def test_no_search_waits_for_a_compaction() -> None:
    """Were they to run one after the other, some search would take about as long as the compaction, each time."""

    def longest_search() -> float:
        """Of those that began during a compaction, as a share of it."""
        index = TieredIndex(SIZE, switch_size=100_000)
        index.add(np.arange(60_000), units(60_000, 0))
        queries, durations = units(1, 1), []
        compaction = threading.Thread(target=index.compact_now)
        began = time.perf_counter()
        compaction.start()
        while compaction.is_alive():
            start = time.perf_counter()
            index.search(queries, 10)
            durations.append(time.perf_counter() - start)
            time.sleep(0.001)
        assert index.kind == "ivf"
        return max(durations) / (time.perf_counter() - began)

    assert min(longest_search() for _ in range(5)) < 0.5


def test_a_snapshot_of_an_index_in_use_is_that_of_its_moment(tmp_path: Path) -> None:
    """Compacted, added to and removed from while it is written."""

    vectors, tiered = units(9000, 0), TieredIndex(SIZE, 500)
    index = SubjectIndex(tiered)
    index.add(np.arange(4000), np.arange(4000) // 2, vectors[:4000])
    tiered.settle()
    folder = SnapshotFolder(tmp_path, "model", Sealer.none()).open()
    changing = threading.Lock()
    fresh = iter(range(4000, 9000))

    def change() -> None:
        key = next(fresh, None)
        if key is None:
            time.sleep(0.01)
            return
        with changing:
            index.add(np.array([key]), np.array([key // 2]), vectors[key][None])

    with running(change, tiered.compact_now):
        for revision in range(8):
            with changing:
                total, state = index.total(), folder.state_of(index)
            folder.save(1, revision, datetime.now(UTC), state)
            loaded = folder.load(1)
            assert loaded is not None
            assert loaded.index.total() == total
            assert [hits[0].face_key for hits in loaded.index.search(vectors[:100], 1)] == list(range(100))
