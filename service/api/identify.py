"""Identification: who of a collection is in these photos?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service.api.calls import Reader
from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import combined, detected, look_at_all, policy_of, sizes
from service.api.sources import all_photos, enrolled_embedding, read_embedding
from service.api.uploads import Upload, form_or_json, merged, read_upload
from service.gallery.gallery import Candidate as FoundCandidate
from service.recognition.analyser import AnalysedPhoto
from service.schemas.parts import DetectedFace
from service.schemas.recognition import (
    Candidate,
    IdentifiedFace,
    IdentifyAnswer,
    IdentifyBody,
    IdentifyParameters,
)
from service.security.audit import Event
from service.security.keys import ApiKey
from service.startup import Services

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])


@dataclass(frozen=True)
class _Probe:
    """A face to search for: where it was found, if in a photo, and its embedding, if it has one."""

    seen: DetectedFace | None
    embedding: NDArray[np.float32] | None


@router.post("/identify", openapi_extra=form_or_json(IdentifyBody, {"image": 20}))
async def identify(
    request: Request, services: Loaded, caller: Reader, query: Annotated[IdentifyParameters, Query()]
) -> IdentifyAnswer:
    """Search a collection for every face of the photos, for an enrolled face, or for an embedding."""
    upload = await read_upload(request, IdentifyBody, {"image": services.settings.max_images})
    parameters = merged(query, upload.document)
    await caller.check_collection(parameters.collection)
    collection = await run_in_threadpool(services.gallery.store.collection, parameters.collection)
    subjects = await run_in_threadpool(services.gallery.searchable_subjects, parameters.collection)
    threshold = services.matcher.identification(subjects, parameters.far, parameters.threshold)
    photos = await _photos(services, upload, faces_limit(services, parameters.max_faces))
    probes = _seen(photos) if photos else [await _named(services, caller.key, upload.document)]
    ranked = await _search(services, parameters, probes)
    faces = [
        _identified(services, threshold.similarity, probe, found) for probe, found in zip(probes, ranked, strict=True)
    ]
    known = sum(face.decision == "known" for face in faces)
    for face in faces:
        services.telemetry.decided("identify", face.decision)
    await caller.record(Event("identify", collection.key, details={"faces": len(faces), "known": known}))
    return IdentifyAnswer(
        faces=faces,
        photos=sizes(photos),
        collection=parameters.collection,
        subjects=subjects,
        threshold=threshold.similarity,
        threshold_policy=policy_of(threshold),
        width=photos[0].width if photos else None,
        height=photos[0].height if photos else None,
        model=services.analyser.model_id,
        timing_ms=combined(photo.timing_ms for photo in photos),
    )


async def _photos(services: Services, upload: Upload[IdentifyBody], most: int) -> list[AnalysedPhoto]:
    """The photos of the request; none if it names a face otherwise."""
    if upload.document is None:
        images = upload.files["image"]
    elif upload.document.image is None:
        return []
    else:
        images = await all_photos(services, upload.document.image)
    return await look_at_all(services.analyser.analyse, images, most)


def _seen(photos: list[AnalysedPhoto]) -> list[_Probe]:
    return [
        _Probe(detected(number, face), face.embedding) for number, photo in enumerate(photos) for face in photo.faces
    ]


async def _named(services: Services, key: ApiKey, document: IdentifyBody | None) -> _Probe:
    assert document is not None  # a form without a photo is refused on reading
    if document.face_id is not None:
        return _Probe(None, await enrolled_embedding(services, key, document.face_id))
    assert document.embedding is not None  # the document has exactly one of them
    return _Probe(None, read_embedding("embedding", document.embedding, services.analyser.embedding_size))


async def _search(
    services: Services, parameters: IdentifyParameters, probes: list[_Probe]
) -> list[list[FoundCandidate]]:
    queries = [probe.embedding for probe in probes if probe.embedding is not None]
    if not queries:
        return [[] for _ in probes]
    found = iter(
        await run_in_threadpool(services.gallery.search, parameters.collection, np.stack(queries), parameters.top_k)
    )
    return [[] if probe.embedding is None else next(found) for probe in probes]


def _identified(services: Services, threshold: float, probe: _Probe, ranked: list[FoundCandidate]) -> IdentifiedFace:
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
    seen = probe.seen
    return IdentifiedFace(
        image=seen and seen.image,
        box=seen and seen.box,
        landmarks=seen and seen.landmarks,
        detection_score=seen and seen.detection_score,
        quality=seen and seen.quality,
        reasons=seen.reasons if seen else [],
        decision="known" if candidates else "unknown",
        candidates=candidates,
    )
