"""Batches of P identities with K images each, for losses on pairs (DeepID2, arXiv:1406.4773) and triplets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.samples import DataError


class Balanced:
    """P = batch_size / K different identities a batch, K images of each, one group after the other.

    Identities come in random rounds: all once before one comes again, so that within an epoch none is seen
    more than one group oftener than another. A round takes the next K of an identity's images (in an order
    that is random by epoch); after the last comes the first again, so that an identity of fewer than K shows
    an image twice. Identities of a single image, and images of unknown identity, take no part: they form no pair.
    An epoch has as many batches as hold the remaining images once.
    """

    def __init__(self, seed: int, images_per_identity: int) -> None:
        self.seed, self.images = seed, images_per_identity

    def steps(self, labels: NDArray[np.int64], batch_size: int, world_size: int) -> int:
        """Full batches a rank sees in one epoch. Raises DataError when there can be none."""
        rows, _, _ = _members(labels)
        self._check(labels, batch_size)
        return len(rows) // (batch_size * world_size)

    def rows(
        self, labels: NDArray[np.int64], batch_size: int, epoch: int, rank: int, world_size: int
    ) -> NDArray[np.int64]:
        """The rank's rows: of the global sequence of batches it takes every world_size-th, from `rank` on."""
        people = self._check(labels, batch_size)
        random = np.random.default_rng((self.seed, epoch))
        shuffled = random.permutation(len(labels))
        rows, starts, counts = _members(labels[shuffled])
        rows = shuffled[rows]
        blocks = len(rows) // (batch_size * world_size) * world_size
        drawn, rounds = _rounds(random, len(starts), people, blocks)
        mine = slice(rank, None, world_size)
        drawn, rounds = drawn.reshape(blocks, people)[mine, :, None], rounds.reshape(blocks, people)[mine, :, None]
        turn = (rounds * self.images + np.arange(self.images)) % counts[drawn]
        chosen: NDArray[np.int64] = rows[starts[drawn] + turn].reshape(-1)
        return chosen

    def _check(self, labels: NDArray[np.int64], batch_size: int) -> int:
        """P. Raises DataError when the batch is no multiple of K, or too few identities have two images."""
        people, rest = divmod(batch_size, self.images)
        if rest or not people:
            raise DataError(f"a batch of {batch_size} cannot hold groups of {self.images} images; choose a multiple")
        identities = len(_members(labels)[1])
        if identities < people:
            raise DataError(
                f"{identities} identities have two images or more, a batch needs {people}; "
                "choose smaller batches, or more images per identity"
            )
        return people


def _members(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the identities with two images or more, grouped; where each group starts; how many it has."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    enough = (counts >= 2) & (labels[order[starts]] >= 0)
    rows = order[np.repeat(enough, counts)]
    counts = counts[enough]
    return rows, np.cumsum(counts) - counts, counts


def _rounds(
    random: np.random.Generator, identities: int, people: int, blocks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`blocks` x `people` identities drawn in rounds, all different within a block, and each one's round."""
    needed = blocks * people
    drawn: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    parts = [drawn]
    for start in range(0, needed, identities):
        fresh = random.permutation(identities)
        # The block that the last round left open must not meet its own again: those come later in this round.
        open_block = parts[-1][len(parts[-1]) - start % people :] if start % people else drawn
        clash = np.isin(fresh, open_block)
        missing = people - len(open_block)
        if len(open_block) and clash[:missing].any():
            free = np.flatnonzero(~clash)
            head = fresh[free[:missing]]
            fresh = np.concatenate([head, random.permutation(np.setdiff1d(fresh, head))])
        parts.append(fresh)
    return np.concatenate(parts)[:needed], np.arange(needed) // max(identities, 1)
