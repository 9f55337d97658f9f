"""Requests and answers of detect, embed, verify and identify."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from service.schemas.parts import (
    Answer,
    Box,
    Cosine,
    DetectedFace,
    Embedding,
    Identifier,
    Image,
    ImageUrl,
    Photo,
    Photos,
    PhotoSize,
    Point,
    Rate,
    Share,
    Strict,
    ThresholdPolicy,
    Timing,
)


class DetectParameters(Strict):
    """How to look."""

    max_faces: int | None = Field(None, ge=1, description="Most faces to take from a photo, largest first.")


class DetectBody(DetectParameters):
    """Detect, as JSON."""

    image: Photos


class EmbedParameters(DetectParameters):
    """How to look, and how to write embeddings."""

    encoding: Literal["list", "base64"] = Field(
        "list", description="Embeddings as a list of numbers, or as base64 of little-endian float32."
    )


class EmbedBody(EmbedParameters):
    """Embed, as JSON."""

    image: Photos


class DetectAnswer(Answer):
    """Every face found, photo by photo, largest first."""

    faces: list[DetectedFace]
    photos: list[PhotoSize] = Field(description="The photos in the order of the request.")
    width: int = Field(description="Of the first photo, upright, in pixels.")
    height: int
    detector: str
    timing_ms: Timing


class EmbeddedFace(DetectedFace):
    """A face with its embedding, of unit length."""

    embedding: Embedding


class EmbedAnswer(Answer):
    """Every face found, photo by photo, largest first, with its embedding."""

    faces: list[EmbeddedFace]
    photos: list[PhotoSize]
    width: int
    height: int
    model: str
    embedding_size: int
    timing_ms: Timing


class ThresholdParameters(Strict):
    """The promise asked for: an error rate, or else a cosine."""

    far: Rate | None = Field(
        None, description="Error rate to keep; by default the service's own. Not together with `threshold`."
    )
    threshold: Cosine | None = Field(None, description="Cosine to decide at, in place of an error rate.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.far is not None and self.threshold is not None:
            raise ValueError("give `far` or `threshold`, not both")
        return self


class VerifyParameters(ThresholdParameters):
    """How to compare."""

    max_faces: int | None = Field(None, ge=1, description="Most faces of the target to compare.")


class Reference(Strict):
    """A face to compare: exactly one of a photo, the id of an enrolled face, or an embedding."""

    image: Photo | None = None
    face_id: str | None = Field(None, max_length=64)
    embedding: Embedding | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        _require_one(self.image, self.face_id, self.embedding)
        return self


def _require_one(*named: object) -> None:
    if sum(name is not None for name in named) != 1:
        raise ValueError("give exactly one of `image`, `face_id` and `embedding`")


def _spelt_out(given: Any) -> Any:
    if isinstance(given, str) or (isinstance(given, dict) and given.keys() == {"url"}):
        return {"image": given}
    return given


Side = Annotated[
    Reference,
    BeforeValidator(_spelt_out, json_schema_input_type=Image | ImageUrl | Reference),
    Field(description="A photo, the id of an enrolled face, or an embedding."),
]


class VerifyBody(VerifyParameters):
    """Verify, as JSON."""

    source: Side
    target: Side


class ComparedFace(Answer):
    """A target face: where it is if it came in a photo, its id if it is enrolled, and how similar it is."""

    box: Box | None = None
    landmarks: list[Point] | None = None
    detection_score: Share | None = None
    quality: Share | None = None
    face_id: str | None = None
    similarity: Cosine
    probability: Share | None
    match: bool


class SourceFace(Answer):
    """The face that was compared: the best of the source photo, or the one named."""

    box: Box | None = None
    landmarks: list[Point] | None = None
    detection_score: Share | None = None
    quality: Share | None = None
    face_id: str | None = None


class VerifyAnswer(Answer):
    """Whether the most similar target face is the source's person."""

    match: bool
    similarity: Cosine = Field(description="Cosine of the two embeddings.")
    probability: Share | None = Field(description="Of the same person, at the calibration's prior.")
    threshold: float
    threshold_policy: ThresholdPolicy
    source_face: SourceFace
    faces: list[ComparedFace] = Field(description="Every target face, most similar first.")
    model: str
    timing_ms: Timing


class IdentifyParameters(ThresholdParameters):
    """Where to search, and how."""

    collection: Identifier = "default"
    top_k: int = Field(5, ge=1, le=100, description="Most candidates per face.")
    max_faces: int | None = Field(None, ge=1, description="Most faces to search for, largest first.")


class IdentifyBody(IdentifyParameters):
    """Identify, as JSON: exactly one of photos, the id of an enrolled face, or an embedding."""

    image: Photos | None = None
    face_id: str | None = Field(None, max_length=64)
    embedding: Embedding | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        _require_one(self.image, self.face_id, self.embedding)
        return self


class Candidate(Answer):
    """A subject that the face may be, by the most similar of its faces."""

    subject_id: str
    name: str
    face_id: str
    similarity: Cosine
    probability: Share | None


class IdentifiedFace(Answer):
    """A face and who it is: candidates at or above the threshold, best first; none if unknown.

    All that tells where it is in a photo is null for an enrolled face or an embedding.
    """

    image: int | None = Field(description="The number of its photo in the request, from 0.")
    box: Box | None
    landmarks: list[Point] | None
    detection_score: Share | None
    quality: Share | None
    reasons: list[str]
    decision: Literal["known", "unknown"]
    candidates: list[Candidate]


class IdentifyAnswer(Answer):
    """Every face found, photo by photo, largest first. A photo without known people is no error."""

    faces: list[IdentifiedFace]
    photos: list[PhotoSize] = Field(description="The photos in the order of the request; none for an embedding.")
    collection: str
    subjects: int = Field(description="How many subjects the faces were compared with.")
    threshold: float
    threshold_policy: ThresholdPolicy
    width: int | None = Field(description="Of the first photo, upright, in pixels.")
    height: int | None
    model: str
    timing_ms: Timing
