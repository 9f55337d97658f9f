"""Recognition and verification of embeddings that the client has already."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from service.api.calls import Call, Reader
from service.api.compreface.examples import ImageId
from service.api.compreface.recognition import predictions, record_verification
from service.api.compreface.refusals import CompreFaceRoute
from service.api.compreface.requests import CollectionId
from service.api.compreface.schemas import (
    ComparedEmbedding,
    ComparedEmbeddings,
    EmbeddingPairBody,
    EmbeddingsBody,
    RecognizedEmbedding,
    RecognizedEmbeddings,
    RecognizeParameters,
)
from service.api.compreface.seeing import scale_of
from service.api.dependencies import Loaded, MayRead
from service.api.sources import enrolled_embedding, read_embedding
from service.gallery.matcher import similarity
from service.startup import Services

router = APIRouter(route_class=CompreFaceRoute, dependencies=[MayRead])


@router.post("/recognition/embeddings/recognize")
async def recognize_embeddings(
    collection: CollectionId,
    services: Loaded,
    caller: Reader,
    body: EmbeddingsBody,
    query: Annotated[RecognizeParameters, Query()],
) -> RecognizedEmbeddings:
    """Name the most similar subjects for every embedding."""
    probes = _read(services, "embeddings", body.embeddings)
    predicted = await predictions(services, caller, collection, probes, query.prediction_count)
    return RecognizedEmbeddings(
        result=[
            RecognizedEmbedding(embedding=given, similarities=subjects)
            for given, subjects in zip(body.embeddings, predicted, strict=True)
        ]
    )


@router.post("/recognition/embeddings/faces/{image_id}/verify")
async def verify_embeddings(
    image_id: ImageId, services: Loaded, caller: Reader, body: EmbeddingsBody
) -> ComparedEmbeddings:
    """Compare every embedding with an example."""
    enrolled = await enrolled_embedding(services, caller.key, image_id)
    return await _compared(services, caller, enrolled, body.embeddings, "embeddings")


@router.post("/verification/embeddings/verify")
async def compare_embeddings(services: Loaded, caller: Reader, body: EmbeddingPairBody) -> ComparedEmbeddings:
    """Compare every target with the source."""
    [source] = _read(services, "source", [body.source])
    return await _compared(services, caller, source, body.targets, "targets")


async def _compared(
    services: Services, caller: Call, source: NDArray[np.float32], given: list[list[float]], field: str
) -> ComparedEmbeddings:
    scale = scale_of(services, services.matcher.verification())
    reached = [scale.similarity(similarity(source, other)) for other in _read(services, field, given)]
    await record_verification(services, caller, reached)
    pairs = zip(given, reached, strict=True)
    return ComparedEmbeddings(result=[ComparedEmbedding(embedding=one, similarity=score) for one, score in pairs])


def _read(services: Services, field: str, given: list[list[float]]) -> list[NDArray[np.float32]]:
    size = services.analyser.embedding_size
    return [read_embedding(f"{field}[{number}]", values, size) for number, values in enumerate(given)]
