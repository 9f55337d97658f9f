"""What a vector index holds at a moment, written to a snapshot and read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gallery.clustering import Clusters
from service.gallery.exact import ExactVectors
from service.gallery.ivf import FrozenLists, TrainedVectors
from service.gallery.snapshot_file import SnapshotReader, SnapshotUnusable, SnapshotWriter


@dataclass(frozen=True)
class VectorState:
    """keys int64 (N,) and vectors float32 (N, D) that are kept exactly, and the trained lists, if any."""

    keys: NDArray[np.int64]
    vectors: NDArray[np.float32]
    trained: FrozenLists | None

    def shape(self) -> dict[str, int]:
        """What must be known before the arrays can be read."""
        shape = {"dimension": self.vectors.shape[1], "exact": len(self.keys)}
        if self.trained is not None:
            clusters = self.trained.clusters
            shape |= {
                "trained": len(self.trained),
                "lists": len(clusters.centres),
                "probes": clusters.probes,
                "suits": clusters.size,
            }
        return shape

    def write(self, writer: SnapshotWriter) -> None:
        """Append the arrays. Nothing of what was removed is among them."""
        writer.write(self.keys)
        writer.write(self.vectors)
        if self.trained is not None:
            writer.write(self.trained.clusters.centres)
            writer.write(self.trained.keys())
            writer.write(self.trained.sizes())
            for each in self.trained.lists():
                writer.write(each.keys)
                writer.write(each.codes)


@dataclass(frozen=True)
class VectorParts:
    """What a tiered index is made of."""

    exact: ExactVectors
    trained: TrainedVectors | None
    trained_keys: NDArray[np.int64]

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.exact.vectors.shape[1])

    def keys(self) -> NDArray[np.int64]:
        """(N,): all keys, in no order."""
        return np.concatenate([self.exact.keys, self.trained_keys])


def read_parts(reader: SnapshotReader, shape: Mapping[str, Any]) -> VectorParts:
    """What VectorState wrote. Raises SnapshotUnusable, KeyError, TypeError, ValueError."""
    dimension, count = int(shape["dimension"]), int(shape["exact"])
    exact = ExactVectors(dimension)
    exact.add(reader.read(np.int64, count), reader.read(np.float32, count, dimension))
    if "trained" not in shape:
        return VectorParts(exact, None, np.empty(0, np.int64))
    lists = int(shape["lists"])
    clusters = Clusters(reader.read(np.float32, lists, dimension), int(shape["probes"]), int(shape["suits"]))
    keys, sizes = reader.read(np.int64, int(shape["trained"])), reader.read(np.int64, lists)
    if np.any(np.diff(keys) <= 0) or np.any(sizes < 0) or sizes.sum() != len(keys):
        raise SnapshotUnusable("its lists do not hold its keys")
    trained = TrainedVectors(clusters, keys)
    filled = np.zeros(len(keys), bool)
    for number, size in enumerate(sizes.tolist()):
        members = reader.read(np.int64, size)
        positions = np.minimum(np.searchsorted(keys, members), max(len(keys) - 1, 0))
        if not np.array_equal(keys[positions], members):
            raise SnapshotUnusable("a list holds a key that is not there")
        filled[positions] = True
        trained.fill_list(number, members, reader.read(np.float16, size, dimension))
    if not np.all(filled):
        raise SnapshotUnusable("its lists do not hold its keys")
    return VectorParts(exact, trained, keys)
