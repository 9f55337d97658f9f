"""Verification: are these two the same person?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from numpy.typing import NDArray

from service.api.calls import Reader
from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import combined, detected, look, policy_of
from service.api.sources import enrolled_embedding, photo_bytes, read_embedding
from service.api.uploads import Upload, form_or_json, merged, read_upload
from service.errors import Problem
from service.gallery.matcher import Threshold, similarity
from service.schemas.recognition import (
    ComparedFace,
    SourceFace,
    VerifyAnswer,
    VerifyBody,
    VerifyParameters,
)
from service.security.audit import Event
from service.security.keys import ApiKey
from service.startup import Services

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])
_FIELDS = {"source": 1, "target": 1}


@dataclass(frozen=True)
class _Side:
    """One side of the comparison: its faces with their embeddings (D,), and how long they took."""

    faces: list[tuple[SourceFace, NDArray[np.float32]]]
    timing: dict[str, float]


@router.post("/verify", openapi_extra=form_or_json(VerifyBody, _FIELDS))
async def verify(
    request: Request, services: Loaded, caller: Reader, query: Annotated[VerifyParameters, Query()]
) -> VerifyAnswer:
    """Compare the source's best face with every face of the target."""
    upload = await read_upload(request, VerifyBody, _FIELDS)
    parameters = merged(query, upload.document)
    threshold = services.matcher.verification(parameters.far, parameters.threshold)
    most = faces_limit(services, parameters.max_faces)
    source, target = await asyncio.gather(
        _side(services, caller.key, "source", upload, most), _side(services, caller.key, "target", upload, most)
    )
    source_face, embedding = source.faces[0]
    compared = [_compared(services, threshold, embedding, face, other) for face, other in target.faces]
    compared.sort(key=lambda face: face.similarity, reverse=True)
    best = compared[0]
    services.telemetry.decided("verify", "match" if best.match else "no_match")
    await caller.record(Event("verify", details={"faces": len(compared), "match": best.match}))
    return VerifyAnswer(
        match=best.match,
        similarity=best.similarity,
        probability=best.probability,
        threshold=threshold.similarity,
        threshold_policy=policy_of(threshold),
        source_face=source_face,
        faces=compared,
        model=services.analyser.model_id,
        timing_ms=combined((source.timing, target.timing)),
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


async def _side(services: Services, key: ApiKey, field: str, upload: Upload[VerifyBody], most: int) -> _Side:
    if upload.document is None:
        return await _from_photo(services, field, upload.files[field][0], most)
    given = upload.document.source if field == "source" else upload.document.target
    if given.image is not None:
        return await _from_photo(services, field, await photo_bytes(services, field, given.image), most)
    if given.face_id is not None:
        return _Side([(SourceFace(face_id=given.face_id), await enrolled_embedding(services, key, given.face_id))], {})
    assert given.embedding is not None  # a reference has exactly one of the three
    embedding = read_embedding(f"{field}.embedding", given.embedding, services.analyser.embedding_size)
    return _Side([(SourceFace(), embedding)], {})


async def _from_photo(services: Services, field: str, data: bytes, most: int) -> _Side:
    photo = await look(services.analyser.analyse, field, data, most)
    faces = []
    for face in photo.faces:
        if face.embedding is not None:
            found = detected(0, face)
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
