"""Photos through the analyser, and faces into answers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.api.sources import photo_names
from service.errors import Problem
from service.gallery.matcher import Threshold
from service.recognition.analyser import AnalysedFace, AnalysedPhoto
from service.recognition.errors import ImageError
from service.schemas.parts import Box, DetectedFace, PhotoSize, Point, ThresholdPolicy

Look = Callable[[bytes, int], Awaitable[AnalysedPhoto]]
"""`Analyser.detect` or `Analyser.analyse`."""


async def look(by: Look, field: str, data: bytes, max_faces: int) -> AnalysedPhoto:
    """Look at a photo. Raises Problem (400, 413, 415) that names the field the photo came in."""
    try:
        return await by(data, max_faces)
    except ImageError as error:
        raise Problem(error.status, error.code, f"{field}: {error}", field=field) from error


async def look_at_all(by: Look, images: Sequence[bytes], max_faces: int) -> list[AnalysedPhoto]:
    """Look at the photos of the field `image`. Raises Problem (400, 413, 415) that names the photo."""
    names = photo_names(len(images))
    looks = (look(by, name, data, max_faces) for name, data in zip(names, images, strict=True))
    return await asyncio.gather(*looks)


def combined(timings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Milliseconds of photos that were worked on at the same time: each stage in sum, `total` of the slowest."""
    stages: dict[str, float] = {}
    for timing in timings:
        for stage, milliseconds in timing.items():
            before = stages.get(stage, 0.0)
            stages[stage] = max(before, milliseconds) if stage == "total" else round(before + milliseconds, 2)
    return stages


def sizes(photos: Iterable[AnalysedPhoto]) -> list[PhotoSize]:
    """The photos as they are answered."""
    return [PhotoSize(width=photo.width, height=photo.height) for photo in photos]


def box_of(box: tuple[float, float, float, float]) -> Box:
    """A box as it is answered, to a hundredth of a pixel."""
    x, y, width, height = (round(float(value), 2) for value in box)
    return Box(x=x, y=y, width=width, height=height)


def landmarks_of(landmarks: NDArray[np.float32]) -> list[Point]:
    """(5, 2) landmarks as they are answered."""
    return [Point(x=round(x, 2), y=round(y, 2)) for x, y in landmarks.astype(float).tolist()]


def detected(image: int, analysed: AnalysedFace) -> DetectedFace:
    """A face of photo number `image` as it is answered."""
    return DetectedFace(
        image=image,
        box=box_of(analysed.face.box),
        landmarks=landmarks_of(analysed.face.landmarks),
        detection_score=min(1.0, max(0.0, float(analysed.face.score))),
        quality=float(analysed.quality),
        reasons=list(analysed.reasons),
    )


def policy_of(threshold: Threshold) -> ThresholdPolicy:
    """Where a threshold comes from, as it is answered."""
    return ThresholdPolicy(far=threshold.far, source=threshold.source.value, extrapolated=threshold.extrapolated)


def embedding_bytes(embedding: NDArray[np.float32]) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()
