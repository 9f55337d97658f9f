"""Faces of a photo: found, and turned into embeddings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.api.dependencies import Loaded, MayRead, faces_limit
from service.api.photos import detected, embedding_bytes, look
from service.api.uploads import decode_base64, form_or_json, merged, read_upload
from service.schemas.recognition import (
    DetectAnswer,
    DetectBody,
    DetectParameters,
    EmbedAnswer,
    EmbedBody,
    EmbeddedFace,
    EmbedParameters,
)

router = APIRouter(prefix="/v1", tags=["recognition"], dependencies=[MayRead])
_FIELDS = {"image": 1}


@router.post("/detect", openapi_extra=form_or_json(DetectBody, _FIELDS))
async def detect(request: Request, services: Loaded, query: Annotated[DetectParameters, Query()]) -> DetectAnswer:
    """Find faces: boxes, landmarks, quality."""
    upload = await read_upload(request, DetectBody, _FIELDS)
    parameters = merged(query, upload.document)
    data = decode_base64("image", upload.document.image) if upload.document else upload.files["image"][0]
    most = faces_limit(services, parameters.max_faces)
    photo = await look(services.analyser.detect, "image", data, most)
    return DetectAnswer(
        faces=[detected(face) for face in photo.faces],
        width=photo.width,
        height=photo.height,
        detector=services.analyser.detector_id,
        timing_ms=photo.timing_ms,
    )


@router.post("/embed", openapi_extra=form_or_json(EmbedBody, _FIELDS))
async def embed(request: Request, services: Loaded, query: Annotated[EmbedParameters, Query()]) -> EmbedAnswer:
    """Find faces and turn each into an embedding of unit length; one that fixes no crop is left out."""
    upload = await read_upload(request, EmbedBody, _FIELDS)
    parameters = merged(query, upload.document)
    data = decode_base64("image", upload.document.image) if upload.document else upload.files["image"][0]
    most = faces_limit(services, parameters.max_faces)
    photo = await look(services.analyser.analyse, "image", data, most)
    as_base64 = parameters.encoding == "base64"
    faces = [
        EmbeddedFace(
            **dict(detected(face)),
            embedding=embedding_bytes(face.embedding) if as_base64 else face.embedding.tolist(),
        )
        for face in photo.faces
        if face.embedding is not None
    ]
    return EmbedAnswer(
        faces=faces,
        width=photo.width,
        height=photo.height,
        model=services.analyser.model_id,
        embedding_size=services.analyser.embedding_size,
        timing_ms=photo.timing_ms,
    )
