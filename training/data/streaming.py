"""Shards streamed from front to end: split exactly over ranks and readers, shuffled in a buffer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.collection import FaceData
from training.data.loader import Loaded, assemble, loaded
from training.data.samples import BrokenImage, DataError, Item
from training.data.shards import Encoded, ShardSource


@dataclass(frozen=True)
class Piece:
    """Images `first` to `last` (exclusive) of one shard of one source."""

    source: int
    shard: int
    first: int
    last: int


class StreamBatches:
    """WebDataset shards, each epoch in another order, without doubles, the same number of batches on every rank.

    The shards in the epoch's order make one long row of images; each reader (rank x worker) takes a stretch of
    its own of it, as long as its batches need, so a shard on a border is opened by two readers. Within its
    stretch a reader shuffles through a buffer of `shuffle` encoded images. The batches are a function of
    (seed, epoch, rank, world_size, workers), so that a resumed epoch goes on exactly.
    The first whole image of a batch takes the place of a broken one; each rank counts those that it meets.
    """

    def __init__(self, data: FaceData, batch_size: int, seed: int, workers: int, shuffle: int = 2000) -> None:
        for source in data.sources:
            if not isinstance(source, ShardSource):
                raise DataError(f"{source.name}: only shards can be streamed; set `memory: true`, or pack it")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.workers, self.shuffle = workers, shuffle

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return len(self.data) // (self.batch_size * world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch from batch `first` on; the images before are read but not decoded."""
        steps = self.steps(world_size)
        readers = max(self.workers, 1)
        # Reader w makes the batches w, w + readers, w + 2 readers … of the rank, and the loader asks them in turn.
        counts = [len(range(reader, steps, readers)) * self.batch_size for reader in range(readers)]
        stretches = []
        start = rank * steps * self.batch_size
        for count in counts:
            stretches.append((start, start + count))
            start += count
        dataset = _Stream(self, epoch, rank, stretches, first)
        yield from itertools.islice(loaded(self.data, dataset, self.workers), max(steps - first, 0))

    def pieces(self, epoch: int, start: int, stop: int) -> list[Piece]:
        """Where the images `start` to `stop` of the epoch's row lie."""
        shards = [
            (number, shard, len(keys))
            for number, source in enumerate(self.data.sources)
            if isinstance(source, ShardSource)
            for shard, keys in enumerate(source.members)
        ]
        found, position = [], 0
        for choice in np.random.default_rng((self.seed, epoch)).permutation(len(shards)):
            number, shard, length = shards[choice]
            first, last = max(start - position, 0), min(stop - position, length)
            if first < last:
                found.append(Piece(number, shard, first, last))
            position += length
        return found


class _Stream(torch.utils.data.IterableDataset[Any]):
    """The batches of one reader process."""

    def __init__(
        self, batches: StreamBatches, epoch: int, rank: int, stretches: list[tuple[int, int]], first: int
    ) -> None:
        self.batches, self.epoch, self.rank = batches, epoch, rank
        self.stretches, self.first = stretches, first

    def __iter__(self) -> Iterator[Loaded | DataError]:
        worker = torch.utils.data.get_worker_info()
        readers = len(self.stretches)
        # The loader begins with worker 0, whose turn is batch `first`.
        reader = ((worker.id if worker else 0) + self.first) % readers
        skipped = len(range(reader, self.first, readers))
        try:
            yield from self._batches(reader, skipped)
        except DataError as error:
            yield error

    def _batches(self, reader: int, skipped: int) -> Iterator[Loaded]:
        batches = self.batches
        random = np.random.default_rng((batches.seed, self.epoch, self.rank, reader))
        entries = _shuffled(self._entries(*self.stretches[reader]), batches.shuffle, random)
        for number in itertools.count():
            chosen = list(itertools.islice(entries, batches.batch_size))
            if not chosen:
                return
            if number >= skipped:
                yield assemble(batches.data, [self._decoded(*entry) for entry in chosen])

    def _entries(self, start: int, stop: int) -> Iterator[tuple[ShardSource, int, Encoded]]:
        """The reader's images with their source and their position in the data, in the epoch's order of shards."""
        data = self.batches.data
        for piece in self.batches.pieces(self.epoch, start, stop):
            source: ShardSource = data.sources[piece.source]  # type: ignore[assignment] # others were refused
            for entry in source.encoded(piece.shard, piece.first, piece.last):
                yield source, data.starts[piece.source] + entry.position, entry

    def _decoded(
        self, source: ShardSource, position: int, entry: Encoded
    ) -> tuple[int, NDArray[np.uint8] | BrokenImage]:
        try:
            image = source.decoded(entry)
        except BrokenImage as error:
            return position, error
        self.batches.data.check_size(position, image)
        return position, image


def _shuffled(entries: Iterator[Item], size: int, random: np.random.Generator) -> Iterator[Item]:
    """Keep `size` entries waiting; each that comes takes the place of one drawn at random."""
    waiting = list(itertools.islice(entries, size))
    for entry in entries:
        place = int(random.integers(size))
        waiting[place], entry = entry, waiting[place]
        yield entry
    for place in random.permutation(len(waiting)):
        yield waiting[place]
