"""Vectors in lists around trained centres (IVF), at half precision; a search looks into the nearest lists.

Only removals change it: what is removed gets a tombstone and its numbers are overwritten. What is added lies elsewhere
until all is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from service.gallery.clustering import Clusters

_WIDER: Final = 4


@dataclass(frozen=True)
class List:
    """What lives in a list: keys int64 (N,), codes float16 (N, D)."""

    number: int
    keys: NDArray[np.int64]
    codes: NDArray[np.float16]


class TrainedVectors:
    """Unit vectors under integer keys. Not safe to change while others read.

    A vector's id in FAISS is its position among the keys in ascending order: a bit each says which live.
    """

    def __init__(self, clusters: Clusters, keys: NDArray[np.int64]) -> None:
        """keys: (N,) ascending, of all that will be filled in by `fill` and `fill_list`."""
        lists, dimension = len(clusters.centres), int(clusters.centres.shape[1])
        self.clusters = clusters
        self._keys = keys
        self._list_of = np.zeros(len(keys), np.int32)
        self._alive = np.full((len(keys) + 7) // 8, 0xFF, np.uint8)
        self._dead = 0
        self._nearest = faiss.IndexFlatIP(dimension)
        self._nearest.add(clusters.centres)
        self._index = faiss.IndexIVFScalarQuantizer(
            self._nearest, dimension, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        self._index.is_trained = True  # half precision has nothing to learn, and the centres are there
        self._dimension = dimension

    def __len__(self) -> int:
        """How many live."""
        return len(self._keys) - self._dead

    @property
    def dead(self) -> int:
        """How many tombstones it has."""
        return self._dead

    @property
    def bytes(self) -> int:
        """What its arrays take, FAISS's included."""
        own: int = self._keys.nbytes + self._list_of.nbytes + self._alive.nbytes + 2 * self.clusters.centres.nbytes
        return own + len(self._keys) * (2 * self._dimension + 8)

    def fill(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Put (N, D) vectors into the lists they belong to."""
        positions = np.searchsorted(self._keys, keys)
        lists = self._nearest.search(vectors, 1)[1][:, 0]
        self._list_of[positions] = lists
        self._index.add_core(
            len(keys), faiss.swig_ptr(np.ascontiguousarray(vectors)), faiss.swig_ptr(positions), faiss.swig_ptr(lists)
        )

    def fill_list(self, number: int, keys: NDArray[np.int64], codes: NDArray[np.float16]) -> None:
        """Put float16 (N, D) into a list as they are."""
        if len(keys) == 0:
            return
        positions, codes = np.searchsorted(self._keys, keys), np.ascontiguousarray(codes)
        self._list_of[positions] = number
        self._index.invlists.add_entries(
            number, len(keys), faiss.swig_ptr(positions), faiss.swig_ptr(codes.view(np.uint8))
        )
        self._index.ntotal += len(keys)

    def holds_any(self, keys: NDArray[np.int64]) -> bool:
        """Whether any of these keys lives."""
        return len(self._living(keys)) > 0

    def remove(self, keys: NDArray[np.int64]) -> list[int]:
        """Overwrite these, present or not, and never find them again; returns those that were."""
        positions = self._living(keys)
        nothing = faiss.swig_ptr(np.zeros(2 * self._dimension, np.uint8))
        for position in positions.tolist():
            number = int(self._list_of[position])
            offset = int(np.flatnonzero(self._positions(number) == position)[0])
            self._index.invlists.update_entry(number, offset, position, nothing)
            self._alive[position >> 3] &= 0xFF ^ (1 << (position & 7))
        self._dead += len(positions)
        found: list[int] = self._keys[positions].tolist()
        return found

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest `count`, at most len(self), for (Q, D) queries: inner products descending, and keys."""
        if count == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        living = faiss.IDSelectorBitmap(self._alive) if self._dead else None
        probes = self.clusters.probes
        while True:
            options = faiss.SearchParametersIVF(sel=living, nprobe=probes)
            similarities, positions = self._index.search(queries, count, params=options)
            # FAISS says -1 where the lists it looked into hold too few.
            if probes >= len(self.clusters.centres) or not np.any(positions < 0):
                return similarities, self._keys[positions]
            probes = min(probes * _WIDER, len(self.clusters.centres))

    def frozen(self) -> FrozenLists:
        """What lives now, to be read while others search and remove."""
        return FrozenLists(self.clusters, self._index, self._keys, self._alive.copy(), len(self))

    def _living(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of those of these keys that live, each once."""
        wanted = np.unique(keys)
        positions = np.searchsorted(self._keys, wanted)
        inside = positions < len(self._keys)
        wanted, positions = wanted[inside], positions[inside]
        positions = positions[self._keys[positions] == wanted]
        living: NDArray[np.int64] = positions[_bits(self._alive, positions)]
        return living

    def _positions(self, number: int) -> NDArray[np.int64]:
        return _entries(self._index, number)[0]


@dataclass(frozen=True)
class FrozenLists:
    """Trained vectors as they were. One removed since may be read as zeros."""

    clusters: Clusters
    _index: faiss.IndexIVFScalarQuantizer
    _keys: NDArray[np.int64]
    _alive: NDArray[np.uint8]
    _living: int

    def __len__(self) -> int:
        return self._living

    def keys(self) -> NDArray[np.int64]:
        """(N,), ascending."""
        return self._keys[_bits(self._alive, np.arange(len(self._keys)))]

    def sizes(self) -> NDArray[np.int64]:
        """(L,): how many live in each list."""
        return np.array([len(each.keys) for each in self.lists()], np.int64)

    def lists(self) -> Iterator[List]:
        """Every list, in their order."""
        for number in range(len(self.clusters.centres)):
            positions, codes = _entries(self._index, number)
            living = _bits(self._alive, positions)
            yield List(number, self._keys[positions[living]], codes[living])


def _bits(bits: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    found: NDArray[np.uint8] = (bits[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1
    return found.astype(np.bool_)


def _entries(index: faiss.IndexIVFScalarQuantizer, number: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """A list as it lies in FAISS: ids (N,) and codes (N, D). Views."""
    size, dimension = index.invlists.list_size(number), index.d
    if size == 0:
        return np.empty(0, np.int64), np.empty((0, dimension), np.float16)
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(number), size)
    codes = faiss.rev_swig_ptr(index.invlists.get_codes(number), size * 2 * dimension)
    return ids, codes.view(np.float16).reshape(size, dimension)
