"""Vectors in one block of memory, compared one by one. What is removed is overwritten."""

from __future__ import annotations

from typing import Final, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

_FEWEST_ROWS: Final = 64
T = TypeVar("T", np.int64, np.float32)


class ExactVectors:
    """Unit vectors (N, D) under integer keys. Not safe to change while others read."""

    def __init__(self, dimension: int) -> None:
        self._rows: dict[int, int] = {}
        self._keys: NDArray[np.int64] = np.empty(_FEWEST_ROWS, np.int64)
        self._vectors: NDArray[np.float32] = np.empty((_FEWEST_ROWS, dimension), np.float32)

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._rows)

    @property
    def keys(self) -> NDArray[np.int64]:
        """(N,), in no order; a view, as `vectors`, which has the same order."""
        return self._keys[: len(self)]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, D)."""
        return self._vectors[: len(self)]

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        return self._keys.nbytes + self._vectors.nbytes

    def holds_any(self, keys: NDArray[np.int64]) -> bool:
        """Whether any of these keys is in use."""
        return any(key in self._rows for key in keys.tolist())

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add (N, D) vectors under N keys that are not in use."""
        first, last = len(self), len(self) + len(keys)
        if last > len(self._keys):
            room = max(last, len(self._keys) * 3 // 2)
            self._keys = _grown(self._keys[:first], room)
            self._vectors = _grown(self._vectors[:first], room)
        self._keys[first:last] = keys
        self._vectors[first:last] = vectors
        self._rows.update(zip(keys.tolist(), range(first, last), strict=True))

    def remove(self, keys: NDArray[np.int64]) -> list[int]:
        """Overwrite these, present or not; returns those that were."""
        removed = []
        for key in keys.tolist():
            row = self._rows.pop(key, None)
            if row is None:
                continue
            removed.append(key)
            last = len(self._rows)
            if row != last:
                self._keys[row], self._vectors[row] = self._keys[last], self._vectors[last]
                self._rows[int(self._keys[row])] = row
            self._vectors[last] = 0.0
        return removed

    def only(self, which: NDArray[np.bool_]) -> ExactVectors:
        """A copy with these rows alone."""
        chosen = ExactVectors(self._vectors.shape[1])
        chosen.add(self.keys[which], self.vectors[which])
        return chosen

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest `count`, at most N, for (Q, D) queries: inner products descending, and keys."""
        if count == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        similarities, rows = faiss.knn(queries, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        return similarities, self._keys[rows]


def _grown(array: NDArray[T], room: int) -> NDArray[T]:
    larger = np.empty((room, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
