"""The service itself: alive, ready, by which models, and how it is doing."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from models.probe import ProbeMismatch
from service.api.calls import Reader
from service.api.dependencies import Loaded, MayRead
from service.draining import Drain
from service.errors import Problem
from service.gallery.records import Collection
from service.schemas.system import (
    AliveAnswer,
    CalibrationAnswer,
    IndexAnswer,
    ModelAnswer,
    Percentiles,
    ReadyAnswer,
    StatusAnswer,
)
from service.startup import Services
from service.status import read_state
from service.telemetry.telemetry import Telemetry

router = APIRouter(tags=["system"])
_PAGE = 1000


class _Exposition(Response):
    """Metrics in the text format of Prometheus."""

    media_type = CONTENT_TYPE_LATEST


@router.get("/healthz")
async def healthz() -> AliveAnswer:
    """Whether the process answers."""
    return AliveAnswer()


@router.get("/readyz")
def readyz(request: Request, services: Loaded) -> ReadyAnswer:
    """Whether requests can be served: both models lately gave their stored answers to a probe."""
    drain: Drain = request.app.state.drain
    if drain.draining:
        raise Problem(503, "draining", "the service is stopping", {"Retry-After": "2"})
    try:
        services.readiness.check()
    except ProbeMismatch as error:
        raise Problem(503, "not_ready", str(error), {"Retry-After": "5"}) from error
    return ReadyAnswer(
        model=services.analyser.model_id,
        detector=services.analyser.detector_id,
        gallery_revision=services.gallery.store.revision(),
    )


@router.get("/metrics", dependencies=[MayRead], response_class=_Exposition)
def metrics(request: Request) -> _Exposition:
    """Counters, histograms and the state of this moment, for Prometheus."""
    telemetry: Telemetry = request.app.state.telemetry
    return _Exposition(generate_latest(telemetry.metrics.registry))


@router.get("/v1/status", dependencies=[MayRead])
def status(request: Request, services: Loaded, caller: Reader) -> StatusAnswer:
    """How the service is doing."""
    state = read_state(services)
    if state.following is None:
        raise Problem(503, "database_unavailable", "the gallery's database does not answer", {"Retry-After": "5"})
    indexes = {index.collection_key: index for index in state.indexes}
    collections = list(_collections(services, caller.key.collections))
    drain: Drain = request.app.state.drain
    return StatusAnswer(
        version=services.telemetry.version,
        model=state.model,
        detector=state.detector,
        uptime_s=round(services.telemetry.uptime, 1),
        draining=drain.draining,
        restart_needed=state.restart_needed,
        gallery_revision=state.following.gallery_revision,
        index_revision=state.index_revision,
        collections=len(collections),
        subjects=sum(collection.subjects for collection in collections),
        faces=sum(collection.faces for collection in collections),
        index=[
            IndexAnswer(
                collection=collection.id,
                faces=index.faces,
                subjects=index.subjects,
                kind=index.kind,
                snapshot_revision=index.snapshot_revision,
            )
            for collection in collections
            if (index := indexes.get(collection.key)) is not None
        ],
        latency_ms={
            stage: Percentiles.model_validate(times)
            for stage, times in services.telemetry.recent.milliseconds().items()
        },
        queue=dict(state.queues),
    )


@router.get("/v1/model", dependencies=[MayRead])
def model(services: Loaded) -> ModelAnswer:
    """The models in use and how they were calibrated."""
    analyser = services.analyser
    calibration = analyser.calibration
    return ModelAnswer(
        model=analyser.model_id,
        detector=analyser.detector_id,
        architecture=analyser.metadata.architecture,
        embedding_size=analyser.embedding_size,
        calibration=calibration and CalibrationAnswer.model_validate(calibration.model_dump()),
        metrics=analyser.metadata.metrics,
    )


def _collections(services: Services, only: tuple[str, ...] | None) -> Iterator[Collection]:
    """Every collection, or every one of these."""
    cursor: str | None = None
    while True:
        page = services.gallery.store.list_collections(cursor, _PAGE, only=only)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
