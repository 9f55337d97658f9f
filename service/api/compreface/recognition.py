"""Recognition: who of the key's collection is in this photo, and is it the one of this example?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service.api.calls import Call, Reader
from service.api.compreface.examples import ImageId
from service.api.compreface.names import subject_name
from service.api.compreface.refusals import CompreFaceRoute
from service.api.compreface.requests import CollectionId, read_photo
from service.api.compreface.scale import Scale
from service.api.compreface.schemas import (
    FileBody,
    LookParameters,
    MatchedFace,
    MatchedFaces,
    Prediction,
    RecognizedFace,
    RecognizedFaces,
    RecognizeParameters,
)
from service.api.compreface.seeing import Seeing, scale_of
from service.api.dependencies import Loaded, MayRead
from service.api.sources import enrolled_embedding
from service.api.uploads import form_or_json
from service.gallery.matcher import similarity
from service.security.audit import Event
from service.startup import Services

router = APIRouter(prefix="/recognition", route_class=CompreFaceRoute, dependencies=[MayRead])
_FORM = form_or_json(FileBody, {"file": 1})


@router.post("/recognize", openapi_extra=_FORM, response_model_exclude_none=True)
async def recognize(
    request: Request,
    collection: CollectionId,
    services: Loaded,
    caller: Reader,
    query: Annotated[RecognizeParameters, Query()],
) -> RecognizedFaces:
    """Name the most similar subjects for every face of the photo, however similar they are."""
    seeing = Seeing(services, query)
    photo = await seeing.embedded("file", await read_photo(request))
    probes = [face.embedding for face in photo.faces if face.embedding is not None]
    predicted = await predictions(services, caller, collection, probes, query.prediction_count)
    return RecognizedFaces(
        result=[
            RecognizedFace(**seeing.shown(photo, face), subjects=subjects)
            for face, subjects in zip(photo.faces, predicted, strict=True)
        ],
        plugins_versions=seeing.versions,
    )


@router.post("/faces/{image_id}/verify", openapi_extra=_FORM, response_model_exclude_none=True)
async def verify_example(
    request: Request,
    image_id: ImageId,
    services: Loaded,
    caller: Reader,
    query: Annotated[LookParameters, Query()],
) -> MatchedFaces:
    """Compare every face of the photo with an example."""
    enrolled = await enrolled_embedding(services, caller.key, image_id)
    seeing = Seeing(services, query)
    photo = await seeing.embedded("file", await read_photo(request))
    scale = scale_of(services, services.matcher.verification())
    result = [
        MatchedFace(**seeing.shown(photo, face), similarity=scale.similarity(similarity(enrolled, face.embedding)))
        for face in photo.faces
        if face.embedding is not None
    ]
    await record_verification(services, caller, [face.similarity for face in result])
    return MatchedFaces(result=result, plugins_versions=seeing.versions)


async def predictions(
    services: Services, caller: Call, collection: str, probes: list[NDArray[np.float32]], most: int
) -> list[list[Prediction]]:
    """The most similar subjects for each of the unit embeddings (D,), best first. Raises CollectionNotFound."""
    gallery = services.gallery
    found = await run_in_threadpool(gallery.store.collection, collection)
    subjects = await run_in_threadpool(gallery.searchable_subjects, collection)
    scale = scale_of(services, services.matcher.identification(subjects))
    ranked = await run_in_threadpool(gallery.search, collection, np.stack(probes), most) if probes else []
    predicted = [
        [
            Prediction(
                subject=subject_name(candidate.subject_id, candidate.name),
                similarity=scale.similarity(candidate.similarity),
            )
            for candidate in candidates
        ]
        for candidates in ranked
    ]
    known = 0
    for candidates in predicted:
        sure = any(candidate.similarity >= Scale.EVEN for candidate in candidates)
        services.telemetry.decided("identify", "known" if sure else "unknown")
        known += sure
    await caller.record(Event("identify", found.key, details={"faces": len(probes), "known": known}))
    return predicted


async def record_verification(services: Services, caller: Call, similarities: list[float]) -> None:
    """Count a comparison, and put it in the audit log."""
    match = any(reached >= Scale.EVEN for reached in similarities)
    services.telemetry.decided("verify", "match" if match else "no_match")
    await caller.record(Event("verify", details={"faces": len(similarities), "match": match}))
