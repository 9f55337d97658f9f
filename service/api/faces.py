"""Faces of photos: found, and turned into embeddings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.api.calls import Reader
from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import combined, detected, embedding_bytes, look_at_all, sizes
from service.api.sources import all_photos
from service.api.uploads import Upload, form_or_json, merged, read_upload
from service.schemas.recognition import (
    DetectAnswer,
    DetectBody,
    DetectParameters,
    EmbedAnswer,
    EmbedBody,
    EmbeddedFace,
    EmbedParameters,
)
from service.security.audit import Event
from service.startup import Services

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])


@router.post("/detect", openapi_extra=form_or_json(DetectBody, {"image": 20}))
async def detect(request: Request, services: Loaded, query: Annotated[DetectParameters, Query()]) -> DetectAnswer:
    """Find the faces of photos: boxes, landmarks, quality."""
    upload = await read_upload(request, DetectBody, {"image": services.settings.max_images})
    parameters = merged(query, upload.document)
    most = faces_limit(services, parameters.max_faces)
    photos = await look_at_all(services.analyser.detect, await _images(services, upload), most)
    return DetectAnswer(
        faces=[detected(number, face) for number, photo in enumerate(photos) for face in photo.faces],
        photos=sizes(photos),
        width=photos[0].width,
        height=photos[0].height,
        detector=services.analyser.detector_id,
        timing_ms=combined(photo.timing_ms for photo in photos),
    )


@router.post("/embed", openapi_extra=form_or_json(EmbedBody, {"image": 20}))
async def embed(
    request: Request, services: Loaded, caller: Reader, query: Annotated[EmbedParameters, Query()]
) -> EmbedAnswer:
    """Find faces and turn each into an embedding of unit length; one that fixes no crop is left out."""
    upload = await read_upload(request, EmbedBody, {"image": services.settings.max_images})
    parameters = merged(query, upload.document)
    most = faces_limit(services, parameters.max_faces)
    photos = await look_at_all(services.analyser.analyse, await _images(services, upload), most)
    as_base64 = parameters.encoding == "base64"
    faces = [
        EmbeddedFace(
            **dict(detected(number, face)),
            embedding=embedding_bytes(face.embedding) if as_base64 else face.embedding.tolist(),
        )
        for number, photo in enumerate(photos)
        for face in photo.faces
        if face.embedding is not None
    ]
    await caller.record(Event("embed", details={"photos": len(photos), "faces": len(faces)}))
    return EmbedAnswer(
        faces=faces,
        photos=sizes(photos),
        width=photos[0].width,
        height=photos[0].height,
        model=services.analyser.model_id,
        embedding_size=services.analyser.embedding_size,
        timing_ms=combined(photo.timing_ms for photo in photos),
    )


async def _images(services: Services, upload: Upload[DetectBody] | Upload[EmbedBody]) -> list[bytes]:
    return upload.files["image"] if upload.document is None else await all_photos(services, upload.document.image)
