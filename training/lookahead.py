"""Work on the next item while the last one is being used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def lookahead(items: Iterator[Item], work: Callable[[Item], Result]) -> Generator[Result, None, None]:
    """What `work` makes of each item, in order, made in a thread of its own one item ahead of what is asked for.

    Items are taken in the caller's thread, the next one before the result of the last is given out. An exception of
    `work` is raised here, in its result's place; closing the iterator waits for the work in hand.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="lookahead") as worker:
        pending: Future[Result] | None = None
        for item in items:
            future = worker.submit(work, item)
            if pending is not None:
                yield pending.result()
            pending = future
        if pending is not None:
            yield pending.result()
