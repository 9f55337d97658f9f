"""Dynamic batching: many callers, one model. Rows that wait together run together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.faces import Forward
from service.recognition.errors import Overloaded

BUCKETS: Final = (1, 2, 4, 8, 16)
"""The batch sizes a network ever sees: each new size costs the engine memory and a compilation."""

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(N, ...) rows in, (N, D) results out, row by row independent of each other."""


@dataclass
class _Job:
    rows: NDArray[np.uint8]
    expires: float
    future: Future[NDArray[np.float32]] = field(default_factory=Future)


class Batcher:
    """A bounded queue before one worker thread that owns `run`.

    An idle worker starts at once, whatever waits; what arrives while it works forms the next batch, at
    most `max_rows` unless one job alone is larger. capacity: rows that may wait. deadline: seconds
    after which a waiting job is refused rather than answered late. on_batch: told the rows of each batch.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_rows: int = BUCKETS[-1],
        capacity: int = 256,
        deadline: float = 10.0,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._on_batch = on_batch
        self._max_rows = max_rows
        self._capacity = capacity
        self._deadline = deadline
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """Rows that wait for a batch."""
        return self._waiting

    def submit(self, rows: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Queue (N, ...) rows; the future gives their (N, D) results, or what `run` raised on these rows.

        Raises Overloaded when the queue is full or closed. From asyncio: `await asyncio.wrap_future(...)`;
        a job cancelled before its batch starts is never run.
        """
        job = _Job(rows, time.monotonic() + self._deadline)
        with self._changed:
            if self._closed:
                raise Overloaded("the service is shutting down")
            # A job larger than the queue is let in alone: it could never be served otherwise.
            if self._waiting and self._waiting + len(rows) > self._capacity:
                raise Overloaded(f"{self._waiting} of at most {self._capacity} faces wait already; try again")
            self._jobs.append(job)
            self._waiting += len(rows)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Refuse new jobs, answer those that wait, and stop the worker. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._on_batch(sum(len(job.rows) for job in batch))
            self._answer(batch)

    def _next_batch(self) -> list[_Job]:
        """The next jobs, at most `max_rows` rows of one shape; empty only at the end."""
        batch: list[_Job] = []
        with self._changed:
            while not batch:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                rows = 0
                while self._jobs and (not batch or self._fits(batch[0], self._jobs[0], rows)):
                    job = self._jobs.popleft()
                    self._waiting -= len(job.rows)
                    if self._start(job):
                        batch.append(job)
                        rows += len(job.rows)
        return batch

    def _fits(self, first: _Job, job: _Job, rows: int) -> bool:
        return rows + len(job.rows) <= self._max_rows and job.rows.shape[1:] == first.rows.shape[1:]

    def _start(self, job: _Job) -> bool:
        if not job.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() > job.expires:
            job.future.set_exception(Overloaded(f"waited longer than {self._deadline:g} s; try again"))
            return False
        return True

    def _answer(self, batch: list[_Job]) -> None:
        if len(batch) > 1:
            try:
                results = self._run(np.concatenate([job.rows for job in batch]))
            except Exception:  # noqa: BLE001 - whose rows it was shows below, where each job runs alone
                results = None
            if results is not None:
                ends = np.cumsum([len(job.rows) for job in batch])[:-1]
                for job, part in zip(batch, np.split(results, ends), strict=True):
                    job.future.set_result(part)
                return
        for job in batch:
            try:
                job.future.set_result(self._run(job.rows))
            except Exception as error:  # noqa: BLE001 - it belongs to the caller who waits on this future
                job.future.set_exception(error)


def in_buckets(forward: Forward) -> Forward:
    """The same network, run only on batches of a size in BUCKETS: rows are split, and padded with zeros."""

    def run(planes: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        parts = [
            [output[: len(chunk)] for output in forward(_padded(chunk))]
            for chunk in (planes[i : i + BUCKETS[-1]] for i in range(0, len(planes), BUCKETS[-1]))
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    return run


def _padded(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    size = next(bucket for bucket in BUCKETS if bucket >= len(planes))
    if size == len(planes):
        return planes
    padding = np.zeros((size - len(planes), *planes.shape[1:]), dtype=np.float32)
    return np.concatenate([planes, padding])
