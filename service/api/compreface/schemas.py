"""Requests and answers in CompreFace's shapes. Unknown members of a request are passed over, as there."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.api.compreface.names import SubjectName
from service.schemas.parts import Answer, Image, Share

_PLUGIN = " *(landmarks|calculator|age|gender|mask|pose|detector) *"
_MOST_PREDICTIONS = 100
_MOST_EMBEDDINGS = 100
_MOST_IDS = 1000


class Lenient(BaseModel):
    """A request of a client that was written for another service."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class AddParameters(Lenient):
    """Whose face, and how sure the detector must be of it."""

    subject: SubjectName
    det_prob_threshold: Share | None = None


class LookParameters(Lenient):
    """How to look at a photo."""

    limit: int = Field(0, ge=0, description="Most faces to look at, the largest first; 0: all.")
    det_prob_threshold: Share | None = Field(None, description="Faces below this `box.probability` are left out.")
    face_plugins: str = Field(
        "",
        pattern=f"^({_PLUGIN}(,{_PLUGIN})*)?$",
        max_length=200,
        description="`landmarks` and `calculator` (the embedding); others answer nothing.",
    )
    status: bool = Field(False, description="Also answer times and versions.")

    def asks_for(self, plugin: str) -> bool:
        """Whether `face_plugins` names this plugin."""
        return plugin in (name.strip() for name in self.face_plugins.split(","))


class RecognizeParameters(LookParameters):
    """How to look, and how many subjects to name."""

    prediction_count: int = Field(1, ge=1, le=_MOST_PREDICTIONS, description="Most subjects for each face.")


class ListParameters(Lenient):
    """Which page of the examples, of everybody or of one subject."""

    page: int = Field(0, ge=0, le=10**9)
    size: int = Field(20, ge=1, le=1000)
    subject: SubjectName | None = None


class FileBody(Lenient):
    """A photo in base64."""

    file: Image


class PairBody(Lenient):
    """Two photos in base64."""

    source_image: Image
    target_image: Image


class SubjectBody(Lenient):
    """The name of a subject."""

    subject: SubjectName


class EmbeddingsBody(Lenient):
    """Embeddings of this service's model."""

    embeddings: list[list[float]] = Field(max_length=_MOST_EMBEDDINGS)


class EmbeddingPairBody(Lenient):
    """An embedding and those to compare it with."""

    source: list[float]
    targets: list[list[float]] = Field(max_length=_MOST_EMBEDDINGS)


ImageIds = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=_MOST_IDS)]


class NamedSubject(Answer):
    """A subject."""

    subject: str


class SubjectNames(Answer):
    """Every subject of the collection."""

    subjects: list[str]


class UpdatedAnswer(Answer):
    """Whether a subject has its new name."""

    updated: bool


class DeletedAnswer(Answer):
    """How many are gone."""

    deleted: int


class ExampleAnswer(Answer):
    """An enrolled face."""

    image_id: str
    subject: str


class ExampleList(Answer):
    """A page of enrolled faces."""

    faces: list[ExampleAnswer]
    page_number: int
    page_size: int
    total_pages: int
    total_elements: int


class Edges(Answer):
    """A face's place in the upright photo, in pixels, and how sure the detector is of it."""

    probability: Share
    x_min: int
    y_min: int
    x_max: int
    y_max: int


class SeenFace(Answer):
    """A face of a photo, with what the plugins that were asked for say."""

    box: Edges
    landmarks: list[tuple[int, int]] | None = None
    embedding: list[float] | None = None
    execution_time: dict[str, float] | None = None


class Prediction(Answer):
    """Who a face may be."""

    subject: str
    similarity: Share


class RecognizedFace(SeenFace):
    """A face, and who it may be, most similar first."""

    subjects: list[Prediction]


class MatchedFace(SeenFace):
    """A face, and how similar it is to the one it was compared with."""

    similarity: Share


class SeenFaces(Answer):
    """Every face found, the largest first."""

    result: list[SeenFace]
    plugins_versions: dict[str, str] | None = None


class RecognizedFaces(Answer):
    """Every face found, the largest first."""

    result: list[RecognizedFace]
    plugins_versions: dict[str, str] | None = None


class MatchedFaces(Answer):
    """Every face found, the largest first, compared with an example."""

    result: list[MatchedFace]
    plugins_versions: dict[str, str] | None = None


class ComparedPhotos(Answer):
    """The face of the source photo, and every face of the target photo, most similar first."""

    source_image_face: SeenFace
    face_matches: list[MatchedFace]
    plugins_versions: dict[str, str] | None = None


class ComparedAnswer(Answer):
    """One comparison, in a list."""

    result: list[ComparedPhotos]


class ComparedEmbedding(Answer):
    """An embedding as it was given, and how similar it is."""

    embedding: list[float]
    similarity: Share


class ComparedEmbeddings(Answer):
    """In the order given."""

    result: list[ComparedEmbedding]


class RecognizedEmbedding(Answer):
    """An embedding as it was given, and who it may be, most similar first."""

    embedding: list[float]
    similarities: list[Prediction]


class RecognizedEmbeddings(Answer):
    """In the order given."""

    result: list[RecognizedEmbedding]


class Refusal(Answer):
    """An error: what is wrong, and CompreFace's number for it."""

    message: str
    code: int
