"""How often somebody may call: a token bucket each (Turner 1986), in this process's memory."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from typing import Final

_REMEMBERED: Final = 10_000


class RateLimit:
    """Lets `burst` calls through at once and `rate` a second after that, for each name. Safe to use from many threads.

    Of more names than it remembers, those that called longest ago start anew.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str, now: float | None = None) -> int:
        """0: the call may pass, and counts. Otherwise the whole seconds until one will. now: a monotonic clock's."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            left, since = self._buckets.pop(name, (float(self._burst), moment))
            left = min(float(self._burst), left + max(0.0, moment - since) * self._rate)
            passes = left >= 1
            self._buckets[name] = (left - 1 if passes else left, moment)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1 - left) / self._rate))

    def take_back(self, name: str) -> None:
        """A call that passed does not count after all."""
        with self._lock:
            if name in self._buckets:
                left, since = self._buckets[name]
                self._buckets[name] = (min(float(self._burst), left + 1), since)
