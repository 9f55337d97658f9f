"""Answers about the service itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

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


class Percentiles(Answer):
    """Of the last few hundred, in milliseconds."""

    p50: float
    p95: float


class IndexAnswer(Answer):
    """How a collection is searched."""

    collection: str
    faces: int
    subjects: int
    kind: str = Field(description="`flat` compares with every face; others first choose where to look.")
    snapshot_revision: int | None = Field(description="The change up to which a snapshot was saved; null without one.")


class StatusAnswer(Answer):
    """How the service is doing. Counts are of the collections that the caller's key is for."""

    version: str
    model: str
    detector: str
    uptime_s: float
    draining: bool
    restart_needed: bool = Field(description="A checkpoint's file was replaced; the loaded one is still used.")
    gallery_revision: int
    index_revision: int = Field(description="The last change that searches of this server know of.")
    collections: int
    subjects: int
    faces: int
    index: list[IndexAnswer]
    latency_ms: dict[str, Percentiles] = Field(description="By stage of the work.")
    queue: dict[str, int] = Field(description="What waits or is worked on, by queue.")


class AliveAnswer(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(Answer):
    """The models gave their probe embeddings, and the index is built."""

    status: Literal["ready"] = "ready"
    model: str
    detector: str
    gallery_revision: int
