"""The vector index: finds the stored embeddings nearest to a query. A cache; the store is the truth."""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from service.gallery.errors import InvalidEmbedding
from service.gallery.locks import ReadWriteLock


class VectorIndex(Protocol):
    """Unit vectors under integer keys. Safe to use from many threads. kind: what it is, in a word."""

    kind: str

    def __len__(self) -> int:
        """How many vectors it holds."""

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add (N, D) unit vectors under N keys that are not in use."""

    def remove(self, keys: NDArray[np.int64]) -> int:
        """Drop these keys, present or not; returns how many were present."""

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Every key (N,), and its vector (N, D) as it was added."""

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest `count` (fewer if fewer are held) for (Q, D) queries: cosines descending, and keys."""


class FlatIndex:
    """Exact inner product over every vector, by FAISS. Readers run together, writers alone."""

    kind = "flat"

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._lock = ReadWriteLock()

    def __len__(self) -> int:
        """How many vectors it holds."""
        return int(self._index.ntotal)

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add (N, D) unit vectors. Raises InvalidEmbedding for anything that is not one."""
        vectors = self._checked(vectors)
        if len(keys) != len(vectors):
            raise ValueError(f"{len(keys)} keys for {len(vectors)} vectors")
        with self._lock.writing():
            self._index.add_with_ids(vectors, np.ascontiguousarray(keys, np.int64))

    def remove(self, keys: NDArray[np.int64]) -> int:
        """Drop these keys, present or not; returns how many were present."""
        with self._lock.writing():
            return int(self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(keys, np.int64))))

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Every key (N,), and its vector (N, D)."""
        with self._lock.reading():
            keys = faiss.vector_to_array(self._index.id_map)
            held = faiss.downcast_index(self._index.index)
            return keys, held.reconstruct_n(0, len(keys))

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(Q, K) cosines in [-1, 1], best first, and their keys; K = min(count, len(self))."""
        queries = self._checked(queries)
        with self._lock.reading():
            # FAISS fills what it cannot find with key -1, so never ask for more than there is.
            count = min(count, len(self))
            if count == 0:
                return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
            similarities, keys = self._index.search(queries, count)
        return np.clip(similarities, -1.0, 1.0), keys

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refuse what FAISS would swallow: it answers a NaN with key -1 and no error."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            raise InvalidEmbedding(f"expected vectors of {self._dimension} numbers, got shape {vectors.shape}")
        if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1.0) < 1e-3):
            raise InvalidEmbedding("an embedding is not of unit length")
        return vectors
