"""Many faces at once, in and out of a collection."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from service.api.calls import Call, Reader
from service.api.collections import CollectionPath
from service.api.dependencies import Loaded, MayAdminister, MayEnrol
from service.errors import Problem
from service.gallery.bulk import BulkInserted
from service.gallery.enrolment import FacePolicy
from service.gallery.records import Enrolled
from service.jobs import Job
from service.schemas.transfer import ImportAnswer, ImportParameters, JobAccepted
from service.security.audit import Event, append
from service.startup import Services
from service.transfer.archives import PhotoArchive
from service.transfer.enrolling import GalleryEnrolment
from service.transfer.errors import TransferError
from service.transfer.exporting import export_faces
from service.transfer.format import MEDIA_TYPE
from service.transfer.importing import FaceImport
from service.transfer.spool import SealedSpool
from service.transfer.work import photo_work

router = APIRouter(prefix="/v1/collections/{collection}", tags=["bulk"])
_ZIP = "application/zip"
_ACCEPTED: dict[str, Any] = {
    "model": JobAccepted,
    "description": "An archive was taken; a job enrols its photos.",
    "content": {"application/json": {"example": {"job_id": "0d4f7b5e-2f0e-4d0b-9f0f-6a1c1f6a2b3c"}}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/import",
    dependencies=[MayEnrol],
    response_model=ImportAnswer,
    responses={202: _ACCEPTED},
    openapi_extra={"requestBody": {"required": True, "content": {MEDIA_TYPE: _BINARY, _ZIP: _BINARY}}},
)
async def import_into(
    collection: CollectionPath,
    request: Request,
    response: Response,
    services: Loaded,
    reading: Reader,
    query: Annotated[ImportParameters, Query()],
) -> ImportAnswer | Response:
    """Import embeddings in the portable format (200), or a zip of `subject/photo.jpg` (202 with a job).

    Repeated, it goes on where it stopped: what the collection has already is passed over.
    """
    await run_in_threadpool(services.gallery.store.collection, collection)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == MEDIA_TYPE:
            return await _faces(collection, request, services, reading)
        if kind == _ZIP:
            job = await _photos(collection, request, services, reading, FacePolicy(query.face_policy))
            return Response(JobAccepted(job_id=job.id).model_dump_json(), 202, media_type="application/json")
    except TransferError as error:
        raise Problem(error.status, error.code, str(error)) from error
    raise Problem(415, "unsupported_media_type", f"send {MEDIA_TYPE} with embeddings, or {_ZIP} with photos")


@router.get(
    "/export",
    dependencies=[MayAdminister],
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {}}, "description": "The portable format, a line a face."}},
)
async def export_from(collection: CollectionPath, services: Loaded, reading: Reader) -> StreamingResponse:
    """Export a collection's embeddings and metadata, consistent at one revision."""
    store = services.gallery.store
    found = await run_in_threadpool(store.collection, collection)
    await reading.record(Event("export", found.key, None, {"faces": found.faces}))
    headers = {"Content-Disposition": 'attachment; filename="faces.ndjson"'}
    return StreamingResponse(export_faces(store, collection), media_type=MEDIA_TYPE, headers=headers)


async def _faces(collection: str, request: Request, services: Services, reading: Call) -> ImportAnswer:
    def audited(connection: sa.Connection, inserted: BulkInserted) -> None:
        event = Event("import", inserted.collection_key, None, {"faces": len(inserted.keys)})
        append(connection, reading.actor, event, 200)

    importing = FaceImport(services.gallery, collection, audited)
    async for chunk in request.stream():
        await run_in_threadpool(importing.feed, chunk)
    report = await run_in_threadpool(importing.finish)
    return ImportAnswer.model_validate(report.document())


async def _photos(collection: str, request: Request, services: Services, reading: Call, policy: FacePolicy) -> Job:
    def audited(connection: sa.Connection, enrolled: Enrolled) -> None:
        details = {"faces": len(enrolled.keys), "import": True}
        append(connection, reading.actor, Event("enrol", enrolled.collection_key, enrolled.subject_key, details), 201)

    spool = SealedSpool(services.settings.data_dir)
    try:
        async for chunk in request.stream():
            await run_in_threadpool(spool.append, chunk)
        archive = await run_in_threadpool(PhotoArchive, spool, services.settings.max_image_bytes)
    except BaseException:
        spool.close()
        raise
    settings = services.settings
    enrol = GalleryEnrolment(services.analyser, services.gallery, collection, policy, settings.max_faces, audited)
    work = photo_work(archive, enrol)
    return await run_in_threadpool(services.jobs.submit, "import_photos", reading.key.id, collection, work, spool.close)
