"""Verification of two photos, and detection."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.api.calls import Reader
from service.api.compreface.recognition import record_verification
from service.api.compreface.refusals import CompreFaceRoute
from service.api.compreface.requests import read_photo
from service.api.compreface.schemas import (
    ComparedAnswer,
    ComparedPhotos,
    FileBody,
    LookParameters,
    MatchedFace,
    PairBody,
    SeenFace,
    SeenFaces,
)
from service.api.compreface.seeing import Seeing, scale_of
from service.api.dependencies import Loaded, MayRead
from service.api.uploads import decode_base64, form_or_json, read_upload
from service.gallery.matcher import similarity

router = APIRouter(route_class=CompreFaceRoute, dependencies=[MayRead])
_PAIR = {"source_image": 1, "target_image": 1}


@router.post("/verification/verify", openapi_extra=form_or_json(PairBody, _PAIR), response_model_exclude_none=True)
async def verify(
    request: Request, services: Loaded, caller: Reader, query: Annotated[LookParameters, Query()]
) -> ComparedAnswer:
    """Compare the largest face of the source photo with every face of the target photo."""
    first, second = await _read_pair(request)
    seeing = Seeing(services, query)
    source, target = await asyncio.gather(
        seeing.embedded("source_image", first), seeing.embedded("target_image", second)
    )
    asked = source.faces[0]
    scale = scale_of(services, services.matcher.verification())
    matches = [
        MatchedFace(
            **seeing.shown(target, face), similarity=scale.similarity(similarity(asked.embedding, face.embedding))
        )
        for face in target.faces
        if asked.embedding is not None and face.embedding is not None
    ]
    matches.sort(key=lambda face: face.similarity, reverse=True)
    await record_verification(services, caller, [face.similarity for face in matches])
    compared = ComparedPhotos(
        source_image_face=SeenFace(**seeing.shown(source, asked)),
        face_matches=matches,
        plugins_versions=seeing.versions,
    )
    return ComparedAnswer(result=[compared])


@router.post("/detection/detect", openapi_extra=form_or_json(FileBody, {"file": 1}), response_model_exclude_none=True)
async def detect(request: Request, services: Loaded, query: Annotated[LookParameters, Query()]) -> SeenFaces:
    """Find the faces of a photo."""
    seeing = Seeing(services, query)
    by = services.analyser.analyse if seeing.wants_embeddings else services.analyser.detect
    photo = await seeing.faces(by, "file", await read_photo(request))
    return SeenFaces(
        result=[SeenFace(**seeing.shown(photo, face)) for face in photo.faces], plugins_versions=seeing.versions
    )


async def _read_pair(request: Request) -> tuple[bytes, bytes]:
    upload = await read_upload(request, PairBody, _PAIR)
    document = upload.document
    if document is None:
        return upload.files["source_image"][0], upload.files["target_image"][0]
    return (
        decode_base64("source_image", document.source_image),
        decode_base64("target_image", document.target_image),
    )
