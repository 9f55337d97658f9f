"""The index by size: exact while that is quick; then trained lists, an exact delta, and tombstones."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from service.gallery.clustering import Clusters
from service.gallery.compaction import compacted
from service.gallery.exact import ExactVectors
from service.gallery.heap import give_back
from service.gallery.index import unit_vectors
from service.gallery.ivf import TrainedVectors
from service.gallery.locks import ReadWriteLock
from service.gallery.vector_state import VectorParts, VectorState

logger = logging.getLogger(__name__)

# Up to here exactness is cheap: a search of 512 numbers a face takes 8 ms of one core, less than finding and embedding
# a face does. Lists are quicker at every size, 1.3 to 2.2 times, with half the memory, and find 0.998 to 1.0 of the
# nearest. Measured with `python bench/index.py --json index.json --size 20000 --size 50000 --size 100000`.
SWITCH_SIZE: Final = 50_000
_DELTA_SHARE: Final = 0.1
_DEAD_SHARE: Final = 0.1
_PATIENCE_SECONDS: Final = 60.0


class TieredIndex:
    """Unit vectors under integer keys, exact up to `switch_size`; safe to use from many threads.

    Beyond, a search looks into the lists near the query and at everything that came since they were trained. When
    that or the tombstones have grown, all is compacted in a thread of its own; searches and changes go on meanwhile.
    """

    def __init__(self, dimension: int, switch_size: int = SWITCH_SIZE) -> None:
        self._dimension = dimension
        self._switch_size = switch_size
        self._exact = ExactVectors(dimension)
        self._trained: TrainedVectors | None = None
        self._lock = ReadWriteLock()
        # Keys removed since the running compaction began; None while none runs.
        self._removed_since: set[int] | None = None
        self._compaction: threading.Thread | None = None
        self._not_before = 0.0

    @classmethod
    def restored(cls, parts: VectorParts, switch_size: int = SWITCH_SIZE) -> TieredIndex:
        """An index of what a snapshot holds."""
        index = cls(parts.dimension, switch_size)
        index._exact, index._trained = parts.exact, parts.trained
        return index

    @property
    def kind(self) -> str:
        """What it is now."""
        return "flat" if self._trained is None else "ivf"

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        return self._exact.bytes + (0 if self._trained is None else self._trained.bytes)

    @property
    def clusters(self) -> Clusters | None:
        """What its lists lie around; None while it is exact."""
        return None if self._trained is None else self._trained.clusters

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._exact) + (0 if self._trained is None else len(self._trained))

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add (N, D) unit vectors under N keys. Raises InvalidEmbedding; ValueError for a key in use."""
        vectors = unit_vectors(vectors, self._dimension)
        keys = np.ascontiguousarray(keys, np.int64)
        if len(keys) != len(vectors):
            raise ValueError(f"{len(keys)} keys for {len(vectors)} vectors")
        with self._lock.writing():
            in_use = self._exact.holds_any(keys) or (self._trained is not None and self._trained.holds_any(keys))
            if in_use or len(np.unique(keys)) != len(keys):
                raise ValueError("a key is given twice, or is in use")
            self._exact.add(keys, vectors)
            self._compact_if_due()

    def remove(self, keys: NDArray[np.int64]) -> int:
        """Drop these keys, present or not, and overwrite their vectors; returns how many were present."""
        keys = np.ascontiguousarray(keys, np.int64)
        with self._lock.writing():
            removed = self._exact.remove(keys)
            if self._trained is not None:
                removed += self._trained.remove(keys)
            if self._removed_since is not None:
                self._removed_since.update(removed)
            self._compact_if_due()
        return len(removed)

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(Q, K) cosines in [-1, 1], best first, and their keys; K = min(count, len(self)).

        Of what is in lists, it compares at least PROMISED_RECALL of what is near (clustering.py); all, if K is all.
        """
        queries = unit_vectors(queries, self._dimension)
        with self._lock.reading():
            found = [self._exact.search(queries, min(count, len(self._exact)))]
            if self._trained is not None:
                found.append(self._trained.search(queries, min(count, len(self._trained))))
        similarities = np.concatenate([each[0] for each in found], axis=1)
        keys = np.concatenate([each[1] for each in found], axis=1)
        if len(found) > 1:
            best = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
            similarities, keys = np.take_along_axis(similarities, best, 1), np.take_along_axis(keys, best, 1)
        return np.clip(similarities, -1.0, 1.0), keys

    def state(self) -> VectorState:
        """What it holds now, to be written while others search and change it."""
        with self._lock.reading():
            return self._state()

    def settle(self) -> None:
        """Wait until no compaction runs."""
        while (running := self._compaction) is not None:
            running.join()

    def compact_now(self) -> None:
        """File everything into lists, and wait for it, whether or not it is due."""
        self.settle()
        with self._lock.writing():
            if self._compaction is None:
                self._start_compaction()
        self.settle()

    def _state(self) -> VectorState:
        trained = None if self._trained is None else self._trained.frozen()
        return VectorState(self._exact.keys.copy(), self._exact.vectors.copy(), trained)

    def _compact_if_due(self) -> None:
        """Start a compaction if there is reason to, and none runs. The caller holds the lock."""
        if self._compaction is None and self._due() and time.monotonic() >= self._not_before:
            self._start_compaction()

    def _start_compaction(self) -> None:
        thread = threading.Thread(target=self._compact, name="index compaction", daemon=True)
        # It waits for the lock, which the caller holds; whoever waits for it finds it started.
        thread.start()
        self._compaction = thread

    def _due(self) -> bool:
        if self._trained is None:
            return len(self._exact) > self._switch_size
        filed = len(self._trained) + self._trained.dead
        grown = len(self._exact) > max(_DELTA_SHARE * filed, self._switch_size / 4)
        return grown or self._trained.dead > _DEAD_SHARE * filed

    def _compact(self) -> None:
        faiss.omp_set_num_threads(1)  # of this thread alone: searches keep the other cores
        began, self._not_before = time.perf_counter(), time.monotonic() + _PATIENCE_SECONDS
        try:
            self._file_all()
            self._not_before = 0.0
            logger.info("%d faces filed into lists in %.1f s", len(self), time.perf_counter() - began)
        except (MemoryError, RuntimeError) as error:
            logger.error("the index of %d faces could not be compacted: %s", len(self), " ".join(str(error).split()))
        finally:
            with self._lock.writing():
                self._removed_since, self._compaction = None, None
                self._compact_if_due()
            give_back()

    def _file_all(self) -> None:
        """Make new lists of everything, and put them in the place of the old. Raises MemoryError, RuntimeError."""
        with self._lock.writing():
            self._removed_since = set()
        with self._lock.reading():
            # What is removed in between is in the set and not in the state, which does no harm.
            state = self._state()
        self._put_in_place(state, compacted(state))

    def _put_in_place(self, state: VectorState, trained: TrainedVectors | None) -> None:
        """Search what was made of a state from now on, without what was removed since."""
        with self._lock.writing():
            removed = np.fromiter(self._removed_since or (), np.int64)
            if trained is not None:
                trained.remove(removed)
            # A key removed and added again since then stands for another vector, which has not been filed.
            filed = np.isin(self._exact.keys, np.setdiff1d(state.keys, removed))
            self._exact, self._trained = self._exact.only(~filed), trained
