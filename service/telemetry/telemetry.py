"""What the rest of the service tells of its work, in one object that lives as long as the process."""

from __future__ import annotations

import time
from importlib.metadata import version

from service.recognition.timeline import Span
from service.telemetry.metrics import Metrics
from service.telemetry.recent import RecentTimes
from service.telemetry.tracing import NoTracing, Tracing


class Telemetry:
    """A `service.recognition.timeline.Watcher` that also hears of requests and decisions.

    Safe to use from many threads. Keeps nothing about persons.
    """

    def __init__(self, tracing: Tracing | None = None) -> None:
        self.version = version("facemargin")
        self.tracing: Tracing = tracing or NoTracing()
        self.metrics = Metrics(self.version)
        self.recent = RecentTimes()
        self._started = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the process began to serve."""
        return time.monotonic() - self._started

    def answered(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        """A request was answered; code: that of the problem, if it was one."""
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(method, route).observe(seconds)
        if code is not None:
            self.metrics.problems.labels(code).inc()

    def decided(self, call: str, decision: str) -> None:
        """A face was decided on: call `identify` or `verify`, decision `known`, `unknown`, `match`, `no_match`."""
        self.metrics.decisions.labels(call, decision).inc()

    def stages(self, spans: list[Span]) -> None:
        """Stages of the work on a photo, or on the gallery."""
        for span in spans:
            self.metrics.stage_seconds.labels(span.stage).observe(span.seconds)
            self.recent.add(span.stage, span.seconds)
        self.tracing.stages(spans)

    def photo(self, faces: int) -> None:
        """A photo was looked at, and so many faces were taken from it."""
        self.metrics.photos.inc()
        self.metrics.faces.inc(faces)

    def batch(self, faces: int) -> None:
        """The recogniser ran on so many faces at once."""
        self.metrics.batch_faces.observe(faces)
