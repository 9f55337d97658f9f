"""Answers about bulk work: imports and jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from service.schemas.parts import Answer, Strict


class ImportParameters(Strict):
    """How to enrol the photos of an archive."""

    face_policy: Literal["single", "largest", "all"] = Field(
        "single",
        description="What to take of a photo: its `single` usable face, the `largest` face, or `all` faces.",
    )


class RejectedLine(Answer):
    """A line that was left out, counted from 1, and why."""

    line: int
    reason: str


class ImportAnswer(Answer):
    """What became of the faces of a portable file."""

    model: str
    imported: int
    skipped: int = Field(description="Faces that the collection had already.")
    rejected: int
    subjects_created: int
    complete: bool = Field(description="Whether as many faces came as the header announced.")
    gallery_revision: int
    errors: list[RejectedLine] = Field(description="The first 1000 lines left out.")
    errors_left_out: int


class JobAccepted(Answer):
    """Photos are being enrolled; GET /v1/jobs/{job_id} tells how far it is."""

    job_id: str


class JobAnswer(Answer):
    """Work that outlasts a request. `total` is null until it is known; `report` grows with the work."""

    job_id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "interrupted", "cancelled"]
    collection: str | None
    total: int | None
    done: int
    rejected: int
    report: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class JobList(Answer):
    """Jobs, newest first."""

    jobs: list[JobAnswer]


class JobListParameters(Strict):
    """Which jobs."""

    limit: int = Field(50, ge=1, le=200, description="Most jobs to return.")
