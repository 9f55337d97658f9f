"""Faces of a photo as CompreFace counts and shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from service.api.compreface.scale import Scale, box_probability
from service.api.compreface.schemas import Edges, LookParameters
from service.api.photos import Look, look
from service.errors import Problem
from service.gallery.errors import ThresholdUnknown
from service.gallery.matcher import Threshold
from service.recognition.analyser import AnalysedFace, AnalysedPhoto
from service.startup import Services

_NO_FACE = "No face is found in the given image"


@dataclass(frozen=True)
class Seeing:
    """How to look at the photos of a request, and what to tell of their faces."""

    services: Services
    parameters: LookParameters

    async def faces(self, by: Look, field: str, data: bytes) -> AnalysedPhoto:
        """A photo with only the faces asked for, the largest first. Raises Problem (422) if there are none."""
        photo = await look(by, field, data, self.services.settings.max_faces)
        kept = sure_enough(photo, self.parameters.det_prob_threshold)
        return replace(kept, faces=kept.faces[: self.parameters.limit or None])

    async def embedded(self, field: str, data: bytes) -> AnalysedPhoto:
        """The same, of only the faces that have an embedding."""
        photo = await self.faces(self.services.analyser.analyse, field, data)
        faces = tuple(face for face in photo.faces if face.embedding is not None)
        if not faces:
            raise Problem(422, "no_face", _NO_FACE)
        return replace(photo, faces=faces)

    def shown(self, photo: AnalysedPhoto, face: AnalysedFace) -> dict[str, Any]:
        """The members of a `SeenFace`."""
        timing = photo.timing_ms
        times = {"detector": timing.get("detect", 0.0), "calculator": timing.get("embed", 0.0)}
        return {
            "box": _box(photo, face),
            "landmarks": _landmarks(face) if self.parameters.asks_for("landmarks") else None,
            "embedding": _embedding(face) if self.parameters.asks_for("calculator") else None,
            "execution_time": times if self.parameters.status else None,
        }

    @property
    def versions(self) -> dict[str, str] | None:
        """Which models answered, if that was asked for."""
        analyser = self.services.analyser
        return {"detector": analyser.detector_id, "calculator": analyser.model_id} if self.parameters.status else None

    @property
    def wants_embeddings(self) -> bool:
        """Whether the answer holds embeddings."""
        return self.parameters.asks_for("calculator")


def sure_enough(photo: AnalysedPhoto, det_prob_threshold: float | None) -> AnalysedPhoto:
    """The photo with the faces that the detector is sure enough of, the largest first.

    Raises Problem (422) if there are none.
    """
    least = det_prob_threshold or 0.0
    faces = tuple(face for face in photo.faces if box_probability(face.face.score) >= least)
    if not faces:
        raise Problem(422, "no_face", _NO_FACE)
    return replace(photo, faces=faces)


def scale_of(services: Services, threshold: Threshold) -> Scale:
    """Similarities around this threshold. Raises ThresholdUnknown without a calibration."""
    calibration = services.analyser.calibration
    if calibration is None:
        raise ThresholdUnknown("this checkpoint has no calibration: calibrate it with `facemargin calibrate`")
    return Scale(calibration.slope, threshold.similarity)


def _box(photo: AnalysedPhoto, face: AnalysedFace) -> Edges:
    x, y, width, height = face.face.box
    return Edges(
        probability=box_probability(face.face.score),
        x_min=max(0, round(x)),
        y_min=max(0, round(y)),
        x_max=min(photo.width, round(x + width)),
        y_max=min(photo.height, round(y + height)),
    )


def _landmarks(face: AnalysedFace) -> list[tuple[int, int]]:
    return [(round(x), round(y)) for x, y in face.face.landmarks.astype(float).tolist()]


def _embedding(face: AnalysedFace) -> list[float] | None:
    return None if face.embedding is None else face.embedding.tolist()
