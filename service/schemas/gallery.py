"""Requests and answers of collections, subjects and faces."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from service.gallery.records import Changes
from service.schemas.parts import Answer, Box, Identifier, JsonObject, Name, Photos, Share, Strict


class ListParameters(Strict):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000, description="Most entries to return.")
    cursor: str | None = Field(None, max_length=128, description="`next_cursor` of the part before.")


class SubjectListParameters(ListParameters):
    """Which subjects."""

    search: str | None = Field(
        None, min_length=1, max_length=200, description="A part of the id or the name, in upper or lower case."
    )


class Description(Strict):
    """What may be said about a collection or a subject; what is left out stays as it is."""

    name: Name | None = None
    metadata: JsonObject | None = Field(None, description="Any JSON object of up to 16 KiB.")


def changes(body: Description | None) -> Changes:
    """What a request body asks to set; no body sets nothing."""
    return Changes() if body is None else Changes(body.name, body.metadata)


class CollectionAnswer(Answer):
    """A set of subjects that are searched together."""

    id: str
    name: str
    metadata: dict[str, Any]
    subjects: int
    faces: int
    created_at: datetime


class CollectionList(Answer):
    """Collections in the order of their creation."""

    collections: list[CollectionAnswer]
    next_cursor: str | None


class SubjectAnswer(Answer):
    """A person in a collection."""

    subject_id: str
    name: str
    metadata: dict[str, Any]
    faces: int
    created_at: datetime


class MergeBody(Strict):
    """Which subject takes the faces."""

    into: Identifier


class MergeAnswer(SubjectAnswer):
    """The subject that took the faces; the other one is erased."""

    faces_moved: int
    gallery_revision: int


class SubjectList(Answer):
    """Subjects in the order of their creation."""

    subjects: list[SubjectAnswer]
    next_cursor: str | None


class FaceAnswer(Answer):
    """An enrolled face. The photo itself is not kept: only its SHA-256, and its aligned crop if the operator wants."""

    face_id: str
    box: Box
    detection_score: Share
    quality: Share
    source_digest: str
    crop: bool = Field(description="Whether the aligned crop is kept.")
    model: str
    created_at: datetime


class FaceList(Answer):
    """A subject's faces in the order of enrolment."""

    faces: list[FaceAnswer]
    next_cursor: str | None


class EnrolParameters(Strict):
    """How to enrol."""

    face_policy: Literal["single", "largest", "all"] = Field(
        "single",
        description="What to take of a photo: its `single` usable face, the `largest` face, or `all` faces.",
    )
    create_subject: bool = Field(True, description="Create the subject if it is missing.")


class EnrolBody(EnrolParameters):
    """Enrol, as JSON."""

    image: Photos


class IndexedFace(Answer):
    """A face that is now enrolled and searchable. `image`: the number of its photo in the request, from 0."""

    face_id: str
    image: int
    box: Box
    quality: Share


class RejectedFace(Answer):
    """A face, or with `box` null a photo, that was not enrolled, and why."""

    image: int
    box: Box | None
    reasons: list[str]


class EnrolAnswer(Answer):
    """What became of the photos."""

    subject_id: str
    indexed: list[IndexedFace]
    rejected: list[RejectedFace]
    gallery_revision: int
    model: str


class EraseReceipt(Answer):
    """What was erased, for the caller's records."""

    collection: str
    subject_id: str | None = None
    face_id: str | None = None
    subjects_erased: int
    faces_erased: int
    gallery_revision: int
    erased_at: datetime
