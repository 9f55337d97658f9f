"""Batches prepared in a background thread while the last ones are being learned from."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator

import torch
from torch import Tensor

Batch = dict[str, Tensor]


def prefetch(batches: Iterator[Batch], ahead: int, device: torch.device) -> Generator[Batch, None, None]:
    """The same batches in the same order, up to `ahead` of them ready before they are asked for; 0: none.

    Those bound for a GPU come in pinned memory. The first is taken in the caller's thread: what draws from torch's
    global generator when an epoch opens (a DataLoader does) draws there, before the step is seeded. Closing the
    iterator ends the thread; an exception of `batches` is raised here, in its place.
    """
    first = next(batches, None)
    if first is None:
        return
    yield _pinned(first, device)
    if not ahead:
        for batch in batches:
            yield _pinned(batch, device)
        return
    reader = _Reader(batches, ahead, device)
    try:
        yield from reader.batches()
    finally:
        reader.close()


class _Reader:
    def __init__(self, source: Iterator[Batch], ahead: int, device: torch.device) -> None:
        self._source, self._device = source, device
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[Batch]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._closed.set()
        while self._thread.is_alive():  # it may be waiting for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _read(self) -> None:
        end: BaseException | None = None
        try:
            for batch in self._source:
                self._ready.put(_pinned(batch, self._device))
                if self._closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the batches are taken
            end = error
        self._ready.put(end)


def _pinned(batch: Batch, device: torch.device) -> Batch:
    if device.type != "cuda":
        return batch
    return {name: tensor if tensor.is_cuda else tensor.pin_memory() for name, tensor in batch.items()}
