"""The batcher: many callers share batches, and none notices the others."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from numpy.typing import NDArray

from service.recognition.batching import BUCKETS, Batcher, in_buckets
from service.recognition.errors import Overloaded


def rows(*values: int) -> NDArray[np.uint8]:
    """One two-pixel row a value."""
    return np.array([[value, value] for value in values], dtype=np.uint8)


class Model:
    """Sums each row; refuses a batch that holds 13; waits at the gate; remembers its batches."""

    def __init__(self, *, gate_open: bool = True) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        if gate_open:
            self.gate.set()

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append([int(row[0]) for row in batch])
        self.entered.set()
        self.gate.wait(10)
        if 13 in batch:
            raise ValueError("13 is refused")
        return batch.astype(np.float32).sum(axis=1, keepdims=True)


def held(model: Model, **options: float) -> Batcher:
    """A batcher whose worker is busy with a first job until the gate opens."""
    batcher = Batcher(model, **options)  # type: ignore[arg-type]
    batcher.submit(rows(1))
    assert model.entered.wait(5)
    return batcher


def test_an_idle_batcher_runs_a_job_at_once_and_alone() -> None:
    model = Model()
    batcher = Batcher(model)

    assert batcher.submit(rows(3, 4)).result(5).tolist() == [[6.0], [8.0]]
    assert model.batches == [[3, 4]]
    batcher.close()


def test_jobs_that_wait_together_run_together_and_get_their_own_rows() -> None:
    model = Model(gate_open=False)
    batcher = held(model)
    futures = [batcher.submit(rows(*values)) for values in [(2,), (3, 4, 5), (6,)]]
    model.gate.set()

    assert [future.result(5).ravel().tolist() for future in futures] == [[4.0], [6.0, 8.0, 10.0], [12.0]]
    assert model.batches == [[1], [2, 3, 4, 5, 6]]
    batcher.close()


def test_a_batch_never_exceeds_its_rows_unless_one_job_does() -> None:
    model = Model(gate_open=False)
    batcher = held(model, max_rows=4)
    futures = [batcher.submit(rows(*values)) for values in [(2, 2, 2), (3, 3), (4,) * 6]]
    model.gate.set()
    for future in futures:
        future.result(5)

    assert model.batches[1:] == [[2, 2, 2], [3, 3], [4] * 6]
    batcher.close()


def test_an_error_reaches_the_job_that_caused_it_and_no_other() -> None:
    model = Model(gate_open=False)
    batcher = held(model)
    good, bad, later = (batcher.submit(rows(value)) for value in (2, 13, 5))
    model.gate.set()

    assert good.result(5).tolist() == [[4.0]]
    with pytest.raises(ValueError, match="13 is refused"):
        bad.result(5)
    assert later.result(5).tolist() == [[10.0]]
    batcher.close()


def test_rows_of_another_shape_are_a_batch_of_their_own() -> None:
    model = Model(gate_open=False)
    batcher = held(model)
    narrow, wide = batcher.submit(rows(2)), batcher.submit(np.full((1, 3), 5, dtype=np.uint8))
    model.gate.set()

    assert narrow.result(5).tolist() == [[4.0]]
    assert wide.result(5).tolist() == [[15.0]]
    batcher.close()


def test_a_full_queue_refuses_and_takes_again_once_it_has_room() -> None:
    model = Model(gate_open=False)
    batcher = held(model, capacity=3)
    batcher.submit(rows(2, 3))
    with pytest.raises(Overloaded, match="2 of at most 3") as caught:
        batcher.submit(rows(4, 5))
    assert caught.value.retry_after >= 1
    model.gate.set()
    batcher.submit(rows(4)).result(5)
    assert batcher.submit(rows(6, 7)).result(5).tolist() == [[12.0], [14.0]]
    batcher.close()


def test_a_job_larger_than_the_queue_is_served_when_nothing_else_waits() -> None:
    batcher = Batcher(Model(), capacity=2)

    assert len(batcher.submit(rows(*range(1, 10))).result(5)) == 9
    batcher.close()


def test_a_job_that_waited_beyond_the_deadline_is_refused() -> None:
    model = Model(gate_open=False)
    batcher = held(model, deadline=0.2)
    late = batcher.submit(rows(2))
    time.sleep(0.3)
    model.gate.set()

    with pytest.raises(Overloaded, match="longer"):
        late.result(5)
    assert model.batches == [[1]]
    batcher.close()


def test_a_job_cancelled_while_it_waits_is_never_run() -> None:
    model = Model(gate_open=False)
    batcher = held(model)
    dropped, kept = batcher.submit(rows(2)), batcher.submit(rows(3))
    assert dropped.cancel()
    model.gate.set()

    assert kept.result(5).tolist() == [[6.0]]
    with pytest.raises(CancelledError):
        dropped.result(5)
    assert model.batches == [[1], [3]]
    batcher.close()


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    model = Model(gate_open=False)
    batcher = held(model)
    waiting = batcher.submit(rows(2))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.gate.set()
    closing.join(5)

    assert waiting.result(0).tolist() == [[4.0]]
    with pytest.raises(Overloaded, match="shutting down"):
        batcher.submit(rows(3))
    batcher.close()


def test_many_asyncio_callers_each_get_their_own_answer() -> None:
    batcher = Batcher(Model(), capacity=1000)

    async def ask(value: int) -> float:
        return float((await asyncio.wrap_future(batcher.submit(rows(value))))[0, 0])

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*(ask(value) for value in range(14, 114)))

    assert asyncio.run(all_of_them()) == [2.0 * value for value in range(14, 114)]
    batcher.close()


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_a_network_sees_bucket_sizes_only(count: int) -> None:
    seen: list[int] = []

    def forward(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.append(len(planes))
        return [planes.mean(axis=(1, 2, 3))[:, None], planes[:, :1]]

    planes = np.random.default_rng(0).normal(size=(count, 3, 4, 4)).astype(np.float32)
    means, firsts = in_buckets(forward)(planes)

    assert set(seen) <= set(BUCKETS)
    assert np.allclose(means[:, 0], planes.mean(axis=(1, 2, 3)))
    assert np.array_equal(firsts, planes[:, :1])
