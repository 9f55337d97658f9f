"""Writes a tiered index anew: its lists without the dead, and with what came since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.gallery.clustering import SAMPLE_PER_LIST, cluster, lists_for
from service.gallery.ivf import TrainedVectors
from service.gallery.vector_state import VectorState

_AT_ONCE: Final = 8192

Block = tuple[NDArray[np.int64], NDArray[np.float32]]


def compacted(state: VectorState) -> TrainedVectors | None:
    """Everything in one set of lists; None if there is nothing. New centres where the size has outgrown the old."""
    before = state.trained
    keys = state.keys if before is None else np.concatenate([state.keys, before.keys()])
    if len(keys) == 0:
        return None
    if before is not None and before.clusters.still_suit(len(keys)):
        filed = TrainedVectors(before.clusters, np.sort(keys))
        for each in before.lists():
            filed.fill_list(each.number, each.keys, each.codes)
        _fill(filed, state.keys, state.vectors)
        return filed
    sample = _sample(state, len(keys))
    if len(sample) == 0:
        return None
    filed = TrainedVectors(cluster(sample, len(keys)), np.sort(keys))
    for block in _blocks(state):
        _fill(filed, *block)
    return filed


def _sample(state: VectorState, size: int) -> NDArray[np.float32]:
    """Enough of all to train on; empty if all was removed meanwhile."""
    wanted = lists_for(size) * SAMPLE_PER_LIST
    draw = np.random.default_rng(size)
    chosen = [vectors[draw.random(len(vectors)) < wanted / size] for _, vectors in _blocks(state)]
    sample = np.concatenate(chosen)
    # One removed while it was read is zeros.
    return sample[np.any(sample != 0, axis=1)]


def _blocks(state: VectorState) -> Iterator[Block]:
    yield state.keys, state.vectors
    for each in state.trained.lists() if state.trained is not None else ():
        yield each.keys, each.codes.astype(np.float32)


def _fill(filed: TrainedVectors, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        filed.fill(keys[start : start + _AT_ONCE], vectors[start : start + _AT_ONCE])
