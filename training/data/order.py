"""In what order an epoch shows the images: what batches with random access ask for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Order(Protocol):
    """Chooses among M images with known labels (-1: none), as a function of (seed, epoch) alone."""

    def steps(self, labels: NDArray[np.int64], batch_size: int, world_size: int) -> int:
        """Full batches of `batch_size` that each rank sees in one epoch."""
        ...

    def rows(
        self, labels: NDArray[np.int64], batch_size: int, epoch: int, rank: int, world_size: int
    ) -> NDArray[np.int64]:
        """The rank's rows among the M, (steps * batch_size,) int64, batch after batch."""
        ...


class Shuffled:
    """Every image once an epoch (but for the last incomplete batch), in a fresh permutation."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def steps(self, labels: NDArray[np.int64], batch_size: int, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return len(labels) // (batch_size * world_size)

    def rows(
        self, labels: NDArray[np.int64], batch_size: int, epoch: int, rank: int, world_size: int
    ) -> NDArray[np.int64]:
        """Every world_size-th of the permutation, from `rank` on."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(labels))
        return order[rank::world_size][: self.steps(labels, batch_size, world_size) * batch_size]
