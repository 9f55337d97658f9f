"""The Prometheus metrics of what happened. What merely is, is read when somebody scrapes: see `state.py`."""

from __future__ import annotations

import platform
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FACES: Final = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters and histograms in a registry of their own. No label names a person, a collection or a key."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Gauge("facemargin_build_info", "Always 1.", ["version", "python"], registry=self.registry)
        build.labels(version, platform.python_version()).set(1)
        self.requests = Counter(
            "facemargin_requests_total", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "facemargin_request_seconds",
            "From a request's arrival to the end of its answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.problems = Counter(
            "facemargin_problems_total",
            "Requests refused, by the code of the problem.",
            ["code"],
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "facemargin_stage_seconds",
            "Stages of the work: decode, detect, align, embed (waiting for a batch included), search, store.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_faces = Histogram(
            "facemargin_batch_faces",
            "Faces that the recogniser embedded at once.",
            buckets=_FACES,
            registry=self.registry,
        )
        self.photos = Counter("facemargin_photos_total", "Photos looked at.", registry=self.registry)
        self.faces = Counter("facemargin_faces_total", "Faces taken from photos.", registry=self.registry)
        self.decisions = Counter(
            "facemargin_decisions_total",
            "Faces decided on: identify known or unknown, verify match or no_match.",
            ["call", "decision"],
            registry=self.registry,
        )
