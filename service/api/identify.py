"""Identification: who of a collection is in this photo?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import detected, look, policy_of
from service.api.uploads import decode_base64, form_or_json, merged, read_upload
from service.gallery.gallery import Candidate as FoundCandidate
from service.recognition.analyser import AnalysedFace
from service.schemas.recognition import (
    Candidate,
    IdentifiedFace,
    IdentifyAnswer,
    IdentifyBody,
    IdentifyParameters,
)
from service.startup import Services

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])
_FIELDS = {"image": 1}


@router.post("/identify", openapi_extra=form_or_json(IdentifyBody, _FIELDS))
async def identify(request: Request, services: Loaded, query: Annotated[IdentifyParameters, Query()]) -> IdentifyAnswer:
    """Search a collection for every face of the photo."""
    upload = await read_upload(request, IdentifyBody, _FIELDS)
    parameters = merged(query, upload.document)
    gallery = services.gallery
    subjects = await run_in_threadpool(gallery.searchable_subjects, parameters.collection)
    threshold = services.matcher.identification(subjects, parameters.far, parameters.threshold)
    data = decode_base64("image", upload.document.image) if upload.document else upload.files["image"][0]
    most = faces_limit(services, parameters.max_faces)
    photo = await look(services.analyser.analyse, "image", data, most)
    queries = [face.embedding for face in photo.faces if face.embedding is not None]
    found = []
    if queries:
        found = await run_in_threadpool(gallery.search, parameters.collection, np.stack(queries), parameters.top_k)
    rows = iter(found)
    return IdentifyAnswer(
        faces=[
            _identified(services, threshold.similarity, face, next(rows) if face.embedding is not None else [])
            for face in photo.faces
        ],
        collection=parameters.collection,
        subjects=subjects,
        threshold=threshold.similarity,
        threshold_policy=policy_of(threshold),
        width=photo.width,
        height=photo.height,
        model=services.analyser.model_id,
        timing_ms=photo.timing_ms,
    )


def _identified(
    services: Services, threshold: float, face: AnalysedFace, ranked: list[FoundCandidate]
) -> IdentifiedFace:
    candidates = [
        Candidate(
            subject_id=candidate.subject_id,
            name=candidate.name,
            face_id=candidate.face_id,
            similarity=candidate.similarity,
            probability=services.matcher.probability(candidate.similarity),
        )
        for candidate in ranked
        if candidate.similarity >= threshold
    ]
    return IdentifiedFace(**dict(detected(face)), decision="known" if candidates else "unknown", candidates=candidates)
