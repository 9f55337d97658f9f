"""Faces of a subject: enrolled from photos, listed, erased."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool

from service.api.collections import CollectionPath
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.api.photos import box_of, look
from service.api.subjects import SubjectPath
from service.api.uploads import Upload, decode_base64, form_or_json, merged, read_upload
from service.errors import Problem
from service.gallery.enrolment import FacePolicy, Selection, select_faces
from service.gallery.records import StoredFace
from service.schemas.gallery import (
    EnrolAnswer,
    EnrolBody,
    EnrolParameters,
    EraseReceipt,
    FaceAnswer,
    FaceList,
    IndexedFace,
    ListParameters,
    RejectedFace,
)
from service.startup import Services

router = APIRouter(
    prefix="/v1/collections/{collection}/subjects/{subject}/faces", tags=["gallery"], dependencies=[MayRead]
)
FacePath = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$", description="As it was answered on enrolment.")]
_REFUSALS = {
    "no_face": "no face was found",
    "multiple_faces": "the photo shows several faces; say which with `face_policy`",
    "low_quality": "no face is good enough to be enrolled; `rejected` gives the reasons",
}


@router.post("", status_code=201, dependencies=[MayEnrol], openapi_extra=form_or_json(EnrolBody, {"image": 20}))
async def enrol_faces(
    collection: CollectionPath,
    subject: SubjectPath,
    request: Request,
    services: Loaded,
    query: Annotated[EnrolParameters, Query()],
) -> EnrolAnswer:
    """Enrol faces from photos. On 201 they are durable and can be found."""
    upload = await read_upload(request, EnrolBody, {"image": services.settings.max_images})
    parameters = merged(query, upload.document)
    # Learn of a wrong address before the photos are worked on.
    store = services.gallery.store
    await run_in_threadpool(store.collection, collection)
    if not parameters.create_subject:
        await run_in_threadpool(store.subject, collection, subject)
    images = _images(upload, services.settings.max_images)
    most = services.settings.max_faces
    photos = await asyncio.gather(
        *(look(services.analyser.analyse, f"image[{number}]", data, most) for number, data in enumerate(images))
    )
    selection = select_faces(photos, FacePolicy(parameters.face_policy))
    if not selection.accepted:
        raise Problem(
            422,
            selection.refusal,
            _REFUSALS[selection.refusal],
            rejected=[face.model_dump() for face in _rejected(selection)],
        )
    return await run_in_threadpool(_enrol, services, collection, subject, selection, parameters.create_subject)


@router.get("")
def list_faces(
    collection: CollectionPath,
    subject: SubjectPath,
    services: Loaded,
    query: Annotated[ListParameters, Query()],
) -> FaceList:
    """List a subject's faces."""
    page = services.gallery.store.list_faces(collection, subject, query.cursor, query.limit)
    return FaceList(faces=[_answer(face) for face in page.items], next_cursor=page.next_cursor)


@router.get("/{face}")
def get_face(collection: CollectionPath, subject: SubjectPath, face: FacePath, services: Loaded) -> FaceAnswer:
    """Get what is known of a face."""
    return _answer(services.gallery.store.face(collection, subject, face))


@router.delete("/{face}", dependencies=[MayEnrol])
def delete_face(collection: CollectionPath, subject: SubjectPath, face: FacePath, services: Loaded) -> EraseReceipt:
    """Erase a face; its subject stays."""
    erased = services.gallery.erase_face(collection, subject, face)
    return EraseReceipt(
        collection=collection,
        subject_id=subject,
        face_id=face,
        subjects_erased=0,
        faces_erased=len(erased.keys),
        gallery_revision=erased.revision,
        erased_at=erased.erased_at,
    )


def _images(upload: Upload[EnrolBody], most: int) -> list[bytes]:
    if upload.document is None:
        return upload.files["image"]
    given = upload.document.image
    texts = [given] if isinstance(given, str) else given
    if not 1 <= len(texts) <= most:
        raise Problem(400, "invalid_request", f"image: expected 1 to {most} photos, got {len(texts)}")
    return [decode_base64(f"image[{number}]", text) for number, text in enumerate(texts)]


def _enrol(
    services: Services, collection: str, subject: str, selection: Selection, create_subject: bool
) -> EnrolAnswer:
    enrolled = services.gallery.enrol(
        collection, subject, [accepted.face for accepted in selection.accepted], create_subject=create_subject
    )
    indexed = [
        IndexedFace(
            face_id=face_id,
            image=accepted.image,
            box=box_of(accepted.face.box),
            quality=accepted.face.quality,
        )
        for face_id, accepted in zip(enrolled.face_ids, selection.accepted, strict=True)
    ]
    return EnrolAnswer(
        subject_id=subject,
        indexed=indexed,
        rejected=_rejected(selection),
        gallery_revision=enrolled.revision,
        model=services.analyser.model_id,
    )


def _rejected(selection: Selection) -> list[RejectedFace]:
    return [
        RejectedFace(image=face.image, box=face.box and box_of(face.box), reasons=list(face.reasons))
        for face in selection.rejected
    ]


def _answer(face: StoredFace) -> FaceAnswer:
    return FaceAnswer(
        face_id=face.id,
        box=box_of(face.box),
        detection_score=face.detection_score,
        quality=face.quality,
        source_digest=face.source_digest,
        model=face.model_id,
        created_at=face.created_at,
    )
