"""The latest durations of each stage, for percentiles without a monitoring system."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import numpy as np

_KEPT: Final = 512


class RecentTimes:
    """The last few hundred durations by name. Safe to use from many threads."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, seconds: float) -> None:
        """Note one."""
        with self._lock:
            self._times.setdefault(name, deque(maxlen=_KEPT)).append(seconds)

    def milliseconds(self) -> dict[str, dict[str, float]]:
        """p50 and p95 of each name, to a hundredth of a millisecond."""
        with self._lock:
            kept = {name: np.array(times) for name, times in self._times.items()}
        return {
            name: {
                "p50": round(float(np.percentile(times, 50)) * 1e3, 2),
                "p95": round(float(np.percentile(times, 95)) * 1e3, 2),
            }
            for name, times in sorted(kept.items())
        }
