"""The state of the service at one moment, as metrics show it to whoever scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class IndexState:
    """One collection's index. snapshot_revision: None without a snapshot."""

    collection_key: int
    faces: int
    subjects: int
    kind: str
    snapshot_revision: int | None


@dataclass(frozen=True)
class Following:
    """gallery_revision: the newest of the database; lag_…: how far, and for how long, searches here are behind it."""

    gallery_revision: int
    lag_revisions: int
    lag_seconds: float


@dataclass(frozen=True)
class State:
    """What the service holds and what waits in it.

    following: None while the database does not answer. index_revision: the newest that searches here know of.
    queues: how much waits, by the name of the queue.
    """

    model: str
    detector: str
    following: Following | None
    index_revision: int
    indexes: tuple[IndexState, ...]
    queues: Mapping[str, int]
    restart_needed: bool


class StateCollector(Collector):
    """Reads the state at each scrape. read: None while the models load. draining: whether the service stops."""

    def __init__(self, read: Callable[[], State | None], draining: Callable[[], bool]) -> None:
        self._read = read
        self._draining = draining

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: to register must not read the state."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics of this moment."""
        state = self._read()
        draining = self._draining()
        yield _gauge("ready", "Whether requests are served.", state is not None and not draining)
        yield _gauge("draining", "Whether the service is stopping.", draining)
        if state is None:
            return
        models = GaugeMetricFamily("facemargin_model_info", "Always 1.", labels=["model", "detector"])
        models.add_metric([state.model, state.detector], 1)
        yield models
        yield _gauge("restart_needed", "Whether a checkpoint's file was replaced since.", state.restart_needed)
        yield _gauge("index_revision", "Number of the last change that searches here know of.", state.index_revision)
        yield _gauge("database_up", "Whether the database answers.", state.following is not None)
        if state.following is not None:
            yield from _following(state.following)
        yield _gauge("index_faces", "Faces that can be found.", sum(index.faces for index in state.indexes))
        yield _gauge("index_subjects", "Subjects that can be found.", sum(index.subjects for index in state.indexes))
        yield _gauge("index_collections", "Collections that hold a face.", len(state.indexes))
        saved = sum(index.snapshot_revision is not None for index in state.indexes)
        yield _gauge("index_snapshots", "Collections whose index has a snapshot.", saved)
        queues = GaugeMetricFamily("facemargin_queue_length", "What waits or is worked on.", labels=["queue"])
        for name, length in state.queues.items():
            queues.add_metric([name], length)
        yield queues


def _following(following: Following) -> Iterator[GaugeMetricFamily]:
    yield _gauge("gallery_revision", "Number of the gallery's last change.", following.gallery_revision)
    behind = "Changes that searches here do not know of yet."
    yield _gauge("replica_lag_revisions", behind, following.lag_revisions)
    yield _gauge("replica_lag_seconds", "For how long searches here have been behind.", following.lag_seconds)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"facemargin_{name}", text, value=float(value))
