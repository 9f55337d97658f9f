"""The vector index: finds the stored embeddings nearest to a query. A cache; the store is the truth.

FlatIndex is the plain, exact one that others are measured against; what serves is TieredIndex (tiered.py).
"""

from __future__ import annotations

from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from service.gallery.errors import InvalidEmbedding
from service.gallery.locks import ReadWriteLock
from service.gallery.vector_state import VectorState


class VectorIndex(Protocol):
    """Unit vectors under integer keys. Safe to use from many threads."""

    @property
    def kind(self) -> str:
        """What it is, in a word."""

    def __len__(self) -> int:
        """How many vectors it holds."""

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add (N, D) unit vectors under N keys that are not in use."""

    def remove(self, keys: NDArray[np.int64]) -> int:
        """Drop these keys, present or not; returns how many were present."""

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest `count` (fewer if fewer are held) for (Q, D) queries: cosines descending, and keys."""

    def state(self) -> VectorState:
        """What it holds now, to be written to a snapshot. Quick."""


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
        vectors = unit_vectors(vectors, self._dimension)
        if len(keys) != len(vectors):
            raise ValueError(f"{len(keys)} keys for {len(vectors)} vectors")
        with self._lock.writing():
            self._index.add_with_ids(vectors, np.ascontiguousarray(keys, np.int64))

    def remove(self, keys: NDArray[np.int64]) -> int:
        """Drop these keys, present or not; returns how many were present."""
        with self._lock.writing():
            return int(self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(keys, np.int64))))

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(Q, K) cosines in [-1, 1], best first, and their keys; K = min(count, len(self))."""
        queries = unit_vectors(queries, self._dimension)
        with self._lock.reading():
            # FAISS fills what it cannot find with key -1, so never ask for more than there is.
            count = min(count, len(self))
            if count == 0:
                return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
            similarities, keys = self._index.search(queries, count)
        return np.clip(similarities, -1.0, 1.0), keys

    def state(self) -> VectorState:
        """Copies of all."""
        with self._lock.reading():
            vectors = faiss.downcast_index(self._index.index).reconstruct_n(0, len(self))
            return VectorState(faiss.vector_to_array(self._index.id_map), vectors, None)


def unit_vectors(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Contiguous float32 (N, dimension); refuses what FAISS would swallow: it answers a NaN with key -1 and no error.

    Raises InvalidEmbedding.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise InvalidEmbedding(f"expected vectors of {dimension} numbers, got shape {vectors.shape}")
    if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1.0) < 1e-3):
        raise InvalidEmbedding("an embedding is not of unit length")
    return vectors
