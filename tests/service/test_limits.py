"""Rate limits, and where a service without keys may listen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.exposure import Exposed, check_exposure
from service.security.limits import RateLimit


def test_a_burst_passes_and_then_the_rate() -> None:
    limit = RateLimit(rate=2.0, burst=3)
    assert [limit.wait("a", 0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert limit.wait("b", 0.0) == 0
    assert [limit.wait("a", moment) for moment in (0.4, 0.6, 0.7, 1.2)] == [1, 0, 1, 0]


@given(st.lists(st.floats(0, 2), max_size=60), st.floats(0.5, 20), st.integers(1, 10))
def test_never_more_than_burst_and_rate(gaps: list[float], rate: float, burst: int) -> None:
    limit, moment, passed = RateLimit(rate, burst), 100.0, 0
    for gap in gaps:
        moment += gap
        passed += limit.wait("a", moment) == 0
    assert passed <= burst + rate * sum(gaps) + 1e-6


def test_who_waits_as_told_passes() -> None:
    limit = RateLimit(rate=0.3, burst=1)
    limit.wait("a", 0.0)
    wait = limit.wait("a", 0.0)
    assert wait == 4
    assert limit.wait("a", float(wait)) == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.0.1", "::1"])
def test_without_keys_a_service_listens_to_itself(address: str) -> None:
    check_exposure("off", address)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.4", "::", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_without_keys_it_listens_to_nobody_else(address: str) -> None:
    check_exposure("required", address)
    with pytest.raises(Exposed, match="FACEMARGIN_AUTH"):
        check_exposure("off", address)
