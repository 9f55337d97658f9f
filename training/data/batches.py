"""Batches of face crops by random access: from memory, from packed arrays, or decoded as they are needed.

A batch is a dict of `images` (B, H, W, 3) uint8, `labels` (B,) int64 with -1 for no known identity, and
`index` (B,) int64, the position of the image's key in `keys`. All kinds of batches, streamed ones too, have
`steps(world_size)` and `epoch(epoch, rank, world_size, first)`; the same arguments give the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.collection import FaceData
from training.data.loader import Loaded, assemble, loaded
from training.data.order import Order, Shuffled
from training.data.packed import PackedSource
from training.data.samples import BrokenImage, DataError, RandomAccess
from training.data.shards import ShardSource
from training.data.streaming import StreamBatches

__all__ = ["Batches", "DecodedBatches", "FaceData", "MemoryBatches", "PackedBatches", "StreamBatches"]


class Batches(Protocol):
    """What a task needs of its data."""

    data: FaceData

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch; the same on every rank."""
        ...

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch from batch `first` on."""
        ...


def _cut(rows: NDArray[np.int64], batch_size: int, first: int) -> Iterator[Tensor]:
    """The batches of an epoch's rows, from batch `first` on."""
    for start in range(first * batch_size, len(rows), batch_size):
        yield torch.from_numpy(rows[start : start + batch_size])


class MemoryBatches:
    """All images decoded once and kept as uint8. Broken ones are left out from the start."""

    def __init__(self, data: FaceData, batch_size: int, seed: int, order: Order | None = None) -> None:
        self.data, self.batch_size, self.order = data, batch_size, order or Shuffled(seed)
        self.images = torch.empty(len(data), data.size, data.size, 3, dtype=torch.uint8)
        usable = np.zeros(len(data), dtype=bool)
        for position, image in data.decoded():
            self.images[position] = torch.from_numpy(image.copy())
            usable[position] = True
        self.usable = np.flatnonzero(usable)
        self.labels = torch.from_numpy(data.labels)

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return self.order.steps(self.data.labels[self.usable], self.batch_size, world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches of one epoch from batch `first` on; a function of (seed, epoch, rank) alone."""
        rows = self.order.rows(self.data.labels[self.usable], self.batch_size, epoch, rank, world_size)
        for index in _cut(self.usable[rows], self.batch_size, first):
            yield {"images": self.images[index], "labels": self.labels[index], "index": index}


class PackedBatches:
    """Packed arrays, gathered from the memory map, or from the device when they lie there whole (`resident`).

    Raises DataError for other sources, another size, or arrays that the device has no room for.
    """

    def __init__(
        self,
        data: FaceData,
        batch_size: int,
        seed: int,
        order: Order | None = None,
        *,
        resident: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.batch_size, self.order = data, batch_size, order or Shuffled(seed)
        self.labels = torch.from_numpy(data.labels)
        self._maps: list[NDArray[np.uint8]] = []
        for source in data.sources:
            if not isinstance(source, PackedSource):
                raise DataError(f"{source.name}: not packed; `facemargin pack` makes packed data of it")
            if source.document.size != data.size:
                raise DataError(f"{source.name}: packed at {source.document.size} pixels, {data.size} are expected")
            self._maps.append(source.pixels)
        self.resident = _resident(self._maps, torch.device(device)) if resident else None

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return self.order.steps(self.data.labels, self.batch_size, world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches of one epoch from batch `first` on; `images` lie on the device if resident, else on the CPU."""
        rows = self.order.rows(self.data.labels, self.batch_size, epoch, rank, world_size)
        for index in _cut(rows, self.batch_size, first):
            yield {"images": self._gather(index), "labels": self.labels[index], "index": index}

    def _gather(self, index: Tensor) -> Tensor:
        if self.resident is not None:
            return self.resident[index.to(self.resident.device)]
        positions = index.numpy()
        images = np.empty((len(index), self.data.size, self.data.size, 3), dtype=np.uint8)
        for start, pixels in zip(self.data.starts, self._maps, strict=False):
            chosen = np.flatnonzero((positions >= start) & (positions < start + len(pixels)))
            # In the order of the file: a disk reads forwards.
            chosen = chosen[np.argsort(positions[chosen])]
            images[chosen] = pixels[positions[chosen] - start]
        return torch.from_numpy(images)


def _resident(maps: list[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """All arrays on the device, one after the other. Raises DataError when they do not fit."""
    needed = sum(pixels.nbytes for pixels in maps)
    if device.type == "cuda" and needed > (free := torch.cuda.mem_get_info(device)[0]):
        raise DataError(
            f"the packed arrays need {needed >> 20} MiB, {device} has {free >> 20} MiB; set resident: false"
        )
    images = torch.empty(sum(map(len, maps)), *maps[0].shape[1:], dtype=torch.uint8, device=device)
    position = 0
    for pixels in maps:
        for start in range(0, len(pixels), 8192):  # by pieces: the copy on the host stays small
            piece = torch.from_numpy(np.array(pixels[start : start + 8192]))
            images[position : position + len(piece)] = piece.to(device)
            position += len(piece)
    return images


class DecodedBatches:
    """Images decoded by `workers` processes as they are needed: folders, lists, records larger than memory.

    The first whole image of the batch takes the place of a broken one, so that batches stay full on every rank;
    each rank counts the broken ones that it meets.
    Raises DataError for shards, which have no random access.
    """

    def __init__(
        self, data: FaceData, batch_size: int, seed: int, workers: int = 0, order: Order | None = None
    ) -> None:
        for source in data.sources:
            if isinstance(source, ShardSource):
                raise DataError(f"{source.name}: shards have no random access; stream them, or pack them")
        self.data, self.batch_size, self.workers = data, batch_size, workers
        self.order = order or Shuffled(seed)

    def steps(self, world_size: int) -> int:
        """Full batches a rank sees in one epoch."""
        return self.order.steps(self.data.labels, self.batch_size, world_size)

    def epoch(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """Batches of one epoch from batch `first` on; a function of (seed, epoch, rank) alone."""
        rows = self.order.rows(self.data.labels, self.batch_size, epoch, rank, world_size)
        batches = [index.tolist() for index in _cut(rows, self.batch_size, first)]
        yield from loaded(self.data, _Decoding(self.data), self.workers, batches)


class _Decoding(torch.utils.data.Dataset[Any]):
    """Whole batches by the positions of their images, and what was broken in them."""

    def __init__(self, data: FaceData) -> None:
        self.data = data

    def __getitem__(self, positions: list[int]) -> Loaded | DataError:
        found: list[tuple[int, NDArray[np.uint8] | BrokenImage]] = []
        try:
            for position in positions:
                number = self.data.source_of(position)
                source: RandomAccess = self.data.sources[number]  # type: ignore[assignment] # shards were refused
                try:
                    image = source.image(position - self.data.starts[number])
                    self.data.check_size(position, image)
                    found.append((position, image))
                except BrokenImage as error:
                    found.append((position, error))
            return assemble(self.data, found)
        except DataError as error:
            return error
