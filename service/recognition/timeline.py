"""When each stage of the work on a photo ran, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Span:
    """One stage: its name, and begin and end in nanoseconds since 1970."""

    stage: str
    began: int
    ended: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) / 1e9


@dataclass
class Timeline:
    """The stages of the work on one photo, in the order in which they ended. One thread at a time."""

    spans: list[Span] = field(default_factory=list)
    _epoch: int = field(default_factory=time.time_ns)
    _started: int = field(default_factory=time.perf_counter_ns)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note when the block ran."""
        began = self._now()
        yield
        self.spans.append(Span(name, began, self._now()))

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds of each stage, and `total` since the work began, to a hundredth."""
        stages: dict[str, float] = {}
        for span in self.spans:
            stages[span.stage] = stages.get(span.stage, 0.0) + span.seconds * 1e3
        stages["total"] = (self._now() - self._epoch) / 1e6
        return {stage: round(milliseconds, 2) for stage, milliseconds in stages.items()}

    def _now(self) -> int:
        # The wall clock may be set while a stage runs; its length must not show that.
        return self._epoch + time.perf_counter_ns() - self._started


class Watcher(Protocol):
    """Is told of work as it ends, from the threads that do it: it must be quick, and must not raise."""

    def stages(self, spans: list[Span]) -> None:
        """Stages of a photo's analysis, or one of the gallery."""

    def photo(self, faces: int) -> None:
        """A photo was looked at, and so many faces were taken from it."""

    def batch(self, faces: int) -> None:
        """The recogniser ran on so many faces at once."""


@contextmanager
def watched(watcher: Watcher, stage: str) -> Iterator[None]:
    """Tell of the block as one stage, if it succeeds."""
    timeline = Timeline()
    with timeline.stage(stage):
        yield
    watcher.stages(timeline.spans)


class Unwatched:
    """Nobody is told."""

    def stages(self, spans: list[Span]) -> None:
        """Passed over."""

    def photo(self, faces: int) -> None:
        """Passed over."""

    def batch(self, faces: int) -> None:
        """Passed over."""
