"""What the service answers. The OpenAPI document at `/openapi.json` says what each member means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
Role = Literal["read", "enrol", "admin"]
FacePolicy = Literal["single", "largest", "all"]


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list; next_cursor is None at its end."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright photo."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Point:
    """A point in pixels of the upright photo."""

    x: float
    y: float


@dataclass(frozen=True)
class PhotoSize:
    """A photo of the request, upright, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class DetectedFace:
    """A face in photo number `image`. Landmarks: eyes, nose, corners of the mouth; the image's left first."""

    image: int
    box: Box
    landmarks: tuple[Point, ...]
    detection_score: float
    quality: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class EmbeddedFace(DetectedFace):
    """A face and its embedding, of unit length."""

    embedding: tuple[float, ...]


@dataclass(frozen=True)
class Detection:
    """Every face found, photo by photo, largest first."""

    faces: tuple[DetectedFace, ...]
    photos: tuple[PhotoSize, ...]
    detector: str
    timing_ms: Mapping[str, float]


@dataclass(frozen=True)
class Embeddings:
    """Every face found, photo by photo, largest first, with its embedding."""

    faces: tuple[EmbeddedFace, ...]
    photos: tuple[PhotoSize, ...]
    model: str
    embedding_size: int
    timing_ms: Mapping[str, float]


@dataclass(frozen=True)
class ThresholdPolicy:
    """Where a threshold comes from and what it promises."""

    far: float | None
    source: Literal["calibration", "request"]
    extrapolated: bool


@dataclass(frozen=True)
class SourceFace:
    """The face that was compared; all but face_id is None for one that came in no photo."""

    box: Box | None
    landmarks: tuple[Point, ...] | None
    detection_score: float | None
    quality: float | None
    face_id: str | None


@dataclass(frozen=True)
class ComparedFace(SourceFace):
    """A target face and how similar it is to the source."""

    similarity: float
    probability: float | None
    match: bool


@dataclass(frozen=True)
class Verification:
    """Whether the most similar target face is the source's person."""

    match: bool
    similarity: float
    probability: float | None
    threshold: float
    threshold_policy: ThresholdPolicy
    source_face: SourceFace
    faces: tuple[ComparedFace, ...]
    model: str
    timing_ms: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A subject that a face may be, by the most similar of its faces."""

    subject_id: str
    name: str
    face_id: str
    similarity: float
    probability: float | None


@dataclass(frozen=True)
class IdentifiedFace:
    """A face and who it may be, best first."""

    image: int | None
    box: Box | None
    landmarks: tuple[Point, ...] | None
    detection_score: float | None
    quality: float | None
    reasons: tuple[str, ...]
    decision: Literal["known", "unknown"]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Identification:
    """Every face of the photos, and who of the collection it is."""

    faces: tuple[IdentifiedFace, ...]
    photos: tuple[PhotoSize, ...]
    collection: str
    subjects: int
    threshold: float
    threshold_policy: ThresholdPolicy
    model: str
    timing_ms: Mapping[str, float]


@dataclass(frozen=True)
class Collection:
    """A set of subjects that are searched together."""

    id: str
    name: str
    metadata: Mapping[str, Any]
    subjects: int
    faces: int
    created_at: datetime


@dataclass(frozen=True)
class Subject:
    """A person in a collection."""

    subject_id: str
    name: str
    metadata: Mapping[str, Any]
    faces: int
    created_at: datetime


@dataclass(frozen=True)
class Merged(Subject):
    """The subject that took the faces of another, which is erased."""

    faces_moved: int
    gallery_revision: int


@dataclass(frozen=True)
class Face:
    """An enrolled face."""

    face_id: str
    box: Box
    detection_score: float
    quality: float
    source_digest: str
    crop: bool
    model: str
    created_at: datetime


@dataclass(frozen=True)
class IndexedFace:
    """A face that is now enrolled and searchable, of photo number `image`."""

    face_id: str
    image: int
    box: Box
    quality: float


@dataclass(frozen=True)
class RejectedFace:
    """A face, or with box None a photo, that was not enrolled, and why."""

    image: int
    box: Box | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Enrolment:
    """What became of the photos."""

    subject_id: str
    indexed: tuple[IndexedFace, ...]
    rejected: tuple[RejectedFace, ...]
    gallery_revision: int
    model: str


@dataclass(frozen=True)
class Erasure:
    """The receipt of what was erased."""

    collection: str
    subject_id: str | None
    face_id: str | None
    subjects_erased: int
    faces_erased: int
    gallery_revision: int
    erased_at: datetime


@dataclass(frozen=True)
class RejectedLine:
    """A line of an import, counted from 1, that was left out, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Import:
    """What became of the faces of a portable file."""

    model: str
    imported: int
    skipped: int
    rejected: int
    subjects_created: int
    complete: bool
    gallery_revision: int
    errors: tuple[RejectedLine, ...]
    errors_left_out: int


@dataclass(frozen=True)
class JobAccepted:
    """A job that was started."""

    job_id: str


@dataclass(frozen=True)
class Job:
    """Work that outlasts a request, and how far it is."""

    job_id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "interrupted", "cancelled"]
    collection: str | None
    total: int | None
    done: int
    rejected: int
    report: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Key:
    """A key, without its secret."""

    id: str
    name: str
    role: Role
    prefix: str
    collections: tuple[str, ...] | None
    expires_at: datetime | None
    created_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class IssuedKey(Key):
    """A new key with its secret, which is shown this once."""

    secret: str


@dataclass(frozen=True)
class AuditEntry:
    """Who did what, when, to whom."""

    number: int
    at: datetime
    key_id: str | None
    actor: str
    action: str
    outcome: int
    collection_key: int | None
    collection_id: str | None
    subject_key: int | None
    subject_id: str | None
    request_id: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class AuditHead:
    """The newest entry of the audit log. Noted elsewhere, it proves later that nothing up to it was altered."""

    number: int
    digest: str


@dataclass(frozen=True)
class AuditVerdict:
    """Whether the audit log's chain of digests holds."""

    intact: bool
    entries: int
    broken_at: int | None
    reason: str | None
    head: AuditHead | None


@dataclass(frozen=True)
class CalibrationPoint:
    """A measured false match rate and the cosine that keeps it."""

    fmr: float
    threshold: float


@dataclass(frozen=True)
class Calibration:
    """How thresholds and probabilities were measured."""

    rows: tuple[CalibrationPoint, ...]
    impostor_pairs: int
    genuine_pairs: int
    slope: float
    intercept: float
    prior: float
    data: str


@dataclass(frozen=True)
class Model:
    """The models in use."""

    model: str
    detector: str
    architecture: str
    embedding_size: int
    calibration: Calibration | None
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Readiness:
    """The service is ready, with these models."""

    status: Literal["ready"]
    model: str
    detector: str
    gallery_revision: int


@dataclass(frozen=True)
class Percentiles:
    """Of the last few hundred, in milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Index:
    """How a collection is searched."""

    collection: str
    faces: int
    subjects: int
    kind: str
    snapshot_revision: int | None


@dataclass(frozen=True)
class Status:
    """How the service is doing."""

    version: str
    model: str
    detector: str
    uptime_s: float
    draining: bool
    restart_needed: bool
    gallery_revision: int
    index_revision: int
    collections: int
    subjects: int
    faces: int
    index: tuple[Index, ...]
    latency_ms: Mapping[str, Percentiles]
    queue: Mapping[str, int]
