"""Working one item ahead: order, who does what, and what goes wrong."""

import threading
from collections.abc import Iterator

import pytest

from training.lookahead import lookahead


def test_results_come_in_order_and_the_next_is_in_work_before_the_last_is_given_out() -> None:
    events: list[str] = []
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for item in range(3):
            events.append(f"take {item} in {threading.current_thread().name}")
            yield item

    def work(item: int) -> int:
        begun[item].set()
        assert threading.current_thread() is not threading.main_thread()
        return item * 10

    results = lookahead(items(), work)
    for item in range(3):
        assert next(results) == item * 10
        if item < 2:
            assert begun[item + 1].wait(10)
    assert list(results) == []
    main = threading.main_thread().name
    assert events == [f"take {item} in {main}" for item in range(3)]


def test_what_fails_ahead_is_raised_in_its_place() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise ValueError("no lesson for 1")
        return item

    results = lookahead(iter(range(3)), work)
    assert next(results) == 0
    with pytest.raises(ValueError, match="no lesson for 1"):
        next(results)


def test_closing_waits_for_the_work_in_hand_and_takes_nothing_more() -> None:
    taken, done = [], []

    def items() -> Iterator[int]:
        for item in range(10):
            taken.append(item)
            yield item

    results = lookahead(items(), done.append)
    next(results)
    results.close()
    assert taken == done == [0, 1]
    assert list(lookahead(iter(()), done.append)) == []
