"""Batches of face crops: decoded once into memory, or streamed from shards; the same batches either way a rank sees.

A batch is a dict of `images` (B, H, W, 3) uint8, `labels` (B,) int64 with -1 for no known identity, and
`index` (B,) int64, the position of the image's key in `keys`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import webdataset
from torch import Tensor
from tqdm import tqdm

from training.data.sources import DataError, SourceConfig, identity_of, sample_of


class FaceData:
    """What all sources hold together: keys, identities and the class of each."""

    def __init__(self, sources: Sequence[SourceConfig], size: int) -> None:
        self.sources = sources
        self.size = size
        self.keys = [key for source in sources for key in source.keys()]  # noqa: SIM118 - not a dict
        self.identities = sorted({name for key in self.keys if (name := identity_of(key)) is not None})
        classes = {name: number for number, name in enumerate(self.identities)}
        self.labels = np.array([classes.get(identity_of(key) or "", -1) for key in self.keys], dtype=np.int64)
        self.positions = {key: number for number, key in enumerate(self.keys)}
        if len(self.positions) != len(self.keys):
            raise DataError("two sources hold the same key IDENTITY/NAME; rename one's identities")

    def __len__(self) -> int:
        return len(self.keys)


class MemoryBatches:
    """All images decoded once and kept as uint8; every epoch is a fresh permutation, split over the ranks."""

    def __init__(self, data: FaceData, batch_size: int, seed: int) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.images = torch.empty(len(data), data.size, data.size, 3, dtype=torch.uint8)
        self.labels = torch.from_numpy(data.labels)
        progress = tqdm(total=len(data), desc="decoding", unit="image")
        for source in data.sources:
            for sample in source.samples():
                if sample.image.shape[:2] != (data.size, data.size):
                    raise DataError(f"{sample.key}: {sample.image.shape[:2]} where {data.size} pixels are expected")
                self.images[data.positions[sample.key]] = torch.from_numpy(sample.image.copy())
                progress.update()
        progress.close()

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return len(self.data) // (self.batch_size * world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches of one epoch from batch `first` on; a function of (seed, epoch, rank) alone."""
        order = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(len(self.data)))
        mine = order[rank::world_size]
        for step in range(first, self.steps(world_size)):
            index = mine[step * self.batch_size : (step + 1) * self.batch_size]
            yield {"images": self.images[index], "labels": self.labels[index], "index": index}


class StreamBatches:
    """Shards streamed through WebDataset, shards split over ranks and workers, shuffled in a buffer."""

    def __init__(self, data: FaceData, batch_size: int, seed: int, workers: int, shuffle: int = 2000) -> None:
        if any(source.shards is None for source in data.sources):
            raise DataError("only shards can be streamed; set `memory: true` for folders")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.workers, self.shuffle = workers, shuffle
        self.urls = [url for source in data.sources for url in source.urls()]

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return len(self.data) // (self.batch_size * world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches of one epoch from batch `first` on; with workers their order depends on timing."""
        streams = world_size * max(self.workers, 1)
        if len(self.urls) < streams:
            raise DataError(f"{len(self.urls)} shards cannot feed {streams} readers; use fewer workers or more shards")
        # Every rank must see the same number of batches, or the last ones would wait for ever: hence `repeat`.
        stream = webdataset.WebDataset(
            self.urls,
            shardshuffle=len(self.urls),
            detshuffle=True,
            seed=self.seed * 1000 + epoch,
            nodesplitter=webdataset.split_by_node if world_size > 1 else webdataset.single_node_only,
        ).shuffle(self.shuffle, seed=self.seed * 1000 + epoch)
        records = stream.map(self._tensors, handler=webdataset.reraise_exception).select(bool).repeat()
        loader: Any = torch.utils.data.DataLoader(
            records, batch_size=self.batch_size, num_workers=self.workers, drop_last=True
        )
        for step, batch in enumerate(loader):
            if step >= self.steps(world_size):
                return
            if step >= first:
                yield batch

    def _tensors(self, record: dict[str, bytes]) -> dict[str, Any]:
        sample = sample_of(record)
        if sample is None:
            return {}
        position = self.data.positions[sample.key]
        return {"images": sample.image.copy(), "labels": self.data.labels[position], "index": position}
