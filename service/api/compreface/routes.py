"""All routes of the compatible interface."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.compreface import embeddings, examples, recognition, subjects, verification
from service.api.compreface.refusals import RESPONSES

router = APIRouter(prefix="/api/v1", tags=["compreface"], responses=RESPONSES)
for part in (subjects, examples, recognition, embeddings, verification):
    router.include_router(part.router)
