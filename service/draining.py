"""Stopping without breaking a promise: what runs finishes, what comes is told to go elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn


class Drain:
    """Whether the service is stopping, and what still runs. Used from the event loop's thread only.

    notice: seconds in which new requests are still served while /readyz already says `draining`, so that a load
    balancer can look elsewhere first. patience: seconds that running requests then have.
    """

    def __init__(self, notice: float, patience: float) -> None:
        self._notice = notice
        self._patience = patience
        self._began: float | None = None
        self.running = 0

    @property
    def draining(self) -> bool:
        """Whether the service has been told to stop."""
        return self._began is not None

    @property
    def refusing(self) -> bool:
        """Whether new requests are refused."""
        return self._began is not None and time.monotonic() >= self._began + self._notice

    @property
    def finished(self) -> bool:
        """Whether nothing needs to be waited for any more."""
        return self.refusing and (self.running == 0 or self.patience_left == 0)

    @property
    def patience_left(self) -> float:
        """Seconds that running requests still have; all of them before the service is told to stop."""
        if self._began is None:
            return self._patience
        return min(self._patience, max(0.0, self._began + self._notice + self._patience - time.monotonic()))

    def begin(self) -> None:
        """The service is told to stop."""
        self._began = time.monotonic()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that must be let finish."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class DrainingServer(uvicorn.Server):
    """Goes on answering after the first SIGTERM or Ctrl-C until the drain is finished; a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._signal: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; or, told again, stop now."""
        if self._signal is None:
            self._signal = sig
            self._drain.begin()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Several times a second: whether to stop."""
        if self._signal is not None and self._drain.finished and not self.should_exit:
            # Connections close after this, and a request that outlived the patience is cancelled.
            self.config.timeout_graceful_shutdown = max(1, math.ceil(self._drain.patience_left))
            super().handle_exit(self._signal, None)
        return await super().on_tick(counter)
