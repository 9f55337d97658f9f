"""Verification: are these two the same person?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import detected, look, policy_of
from service.api.uploads import Upload, decode_base64, form_or_json, merged, read_upload
from service.errors import Problem
from service.gallery.matcher import Threshold, similarity, unit_embedding
from service.schemas.recognition import (
    ComparedFace,
    Reference,
    SourceFace,
    VerifyAnswer,
    VerifyBody,
    VerifyParameters,
)
from service.startup import Services

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])
_FIELDS = {"source": 1, "target": 1}


@dataclass(frozen=True)
class _Side:
    """One side of the comparison: its faces with their embeddings (D,), and how long they took."""

    faces: list[tuple[SourceFace, NDArray[np.float32]]]
    timing: dict[str, float]


@router.post("/verify", openapi_extra=form_or_json(VerifyBody, _FIELDS))
async def verify(request: Request, services: Loaded, query: Annotated[VerifyParameters, Query()]) -> VerifyAnswer:
    """Compare the source's best face with every face of the target."""
    upload = await read_upload(request, VerifyBody, _FIELDS)
    parameters = merged(query, upload.document)
    threshold = services.matcher.verification(parameters.far, parameters.threshold)
    most = faces_limit(services, parameters.max_faces)
    source, target = await asyncio.gather(
        _side(services, "source", upload, most), _side(services, "target", upload, most)
    )
    source_face, embedding = source.faces[0]
    compared = [_compared(services, threshold, embedding, face, other) for face, other in target.faces]
    compared.sort(key=lambda face: face.similarity, reverse=True)
    best = compared[0]
    return VerifyAnswer(
        match=best.match,
        similarity=best.similarity,
        probability=best.probability,
        threshold=threshold.similarity,
        threshold_policy=policy_of(threshold),
        source_face=source_face,
        faces=compared,
        model=services.analyser.model_id,
        timing_ms={stage: source.timing.get(stage, 0) + ms for stage, ms in target.timing.items()},
    )


def _compared(
    services: Services,
    threshold: Threshold,
    embedding: NDArray[np.float32],
    face: SourceFace,
    other: NDArray[np.float32],
) -> ComparedFace:
    cosine = similarity(embedding, other)
    return ComparedFace(
        **dict(face),
        similarity=cosine,
        probability=services.matcher.probability(cosine),
        match=cosine >= threshold.similarity,
    )


async def _side(services: Services, field: str, upload: Upload[VerifyBody], most: int) -> _Side:
    if upload.document is None:
        return await _from_photo(services, field, upload.files[field][0], most)
    given: Reference | str = getattr(upload.document, field)
    reference = Reference(image=given) if isinstance(given, str) else given
    if reference.image is not None:
        return await _from_photo(services, field, decode_base64(field, reference.image), most)
    if reference.face_id is not None:
        enrolled = await run_in_threadpool(services.gallery.store.embedding, reference.face_id)
        return _Side([(SourceFace(face_id=reference.face_id), enrolled)], {})
    return _Side([(SourceFace(), _given(services, field, reference.embedding))], {})


async def _from_photo(services: Services, field: str, data: bytes, most: int) -> _Side:
    photo = await look(services.analyser.analyse, field, data, most)
    faces = []
    for face in photo.faces:
        if face.embedding is not None:
            found = detected(face)
            shown = SourceFace(
                box=found.box,
                landmarks=found.landmarks,
                detection_score=found.detection_score,
                quality=found.quality,
            )
            faces.append((shown, face.embedding))
    if not faces:
        raise Problem(422, "no_face", f"{field}: no face was found in the photo", field=field)
    return _Side(faces, photo.timing_ms)


def _given(services: Services, field: str, values: list[float] | str | None) -> NDArray[np.float32]:
    size = services.analyser.embedding_size
    if isinstance(values, str):
        data = decode_base64(f"{field}.embedding", values)
        if len(data) != 4 * size:
            detail = f"{field}.embedding: {size} float32 have {4 * size} bytes, not {len(data)}"
            raise Problem(400, "invalid_embedding", detail)
        return unit_embedding(np.frombuffer(data, "<f4"), size)
    return unit_embedding(np.asarray(values, np.float64), size)
