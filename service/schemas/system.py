"""Answers about the service itself."""

from __future__ import annotations

from typing import Any, Literal

from service.schemas.parts import Answer


class CalibrationPoint(Answer):
    """A measured false match rate and the cosine that keeps it."""

    fmr: float
    threshold: float


class CalibrationAnswer(Answer):
    """How thresholds and probabilities were measured."""

    rows: list[CalibrationPoint]
    impostor_pairs: int
    genuine_pairs: int
    slope: float
    intercept: float
    prior: float
    data: str


class ModelAnswer(Answer):
    """The models in use."""

    model: str
    detector: str
    architecture: str
    embedding_size: int
    calibration: CalibrationAnswer | None
    metrics: dict[str, Any]


class AliveAnswer(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(Answer):
    """The models gave their probe embeddings, and the index is built."""

    status: Literal["ready"] = "ready"
    model: str
    detector: str
    gallery_revision: int
