"""The service itself: alive, ready, and by which models."""

from __future__ import annotations

from fastapi import APIRouter

from models.probe import ProbeMismatch
from service.api.dependencies import Loaded, MayRead
from service.errors import Problem
from service.schemas.system import AliveAnswer, CalibrationAnswer, ModelAnswer, ReadyAnswer

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> AliveAnswer:
    """Whether the process answers."""
    return AliveAnswer()


@router.get("/readyz")
def readyz(services: Loaded) -> ReadyAnswer:
    """Whether requests can be served: both models lately gave their stored answers to a probe."""
    try:
        services.readiness.check()
    except ProbeMismatch as error:
        raise Problem(503, "not_ready", str(error), {"Retry-After": "5"}) from error
    return ReadyAnswer(
        model=services.analyser.model_id,
        detector=services.analyser.detector_id,
        gallery_revision=services.gallery.store.revision(),
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
