"""Faces of a subject: enrolled from photos, listed, erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.calls import Call, Caller
from service.api.collections import CollectionPath
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.api.etags import Fresh
from service.api.photos import box_of, look_at_all
from service.api.receipts import receipt_of, tally
from service.api.sources import all_photos
from service.api.subjects import SubjectPath
from service.api.uploads import form_or_json, merged, read_upload
from service.errors import Problem
from service.gallery.enrolment import FacePolicy, Selection, select_faces
from service.gallery.records import Enrolled, Erased, StoredFace
from service.recognition.crops import encode_crop
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
    caller: Caller,
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
    document = upload.document
    images = upload.files["image"] if document is None else await all_photos(services, document.image)
    photos = await look_at_all(services.analyser.analyse, images, services.settings.max_faces)
    encode = encode_crop if services.gallery.store.keep_crops else None
    selection = await run_in_threadpool(select_faces, photos, FacePolicy(parameters.face_policy), encode)
    if not selection.accepted:
        raise Problem(
            422,
            selection.refusal,
            _REFUSALS[selection.refusal],
            rejected=[face.model_dump() for face in _rejected(selection)],
        )
    enrolment = _Enrolment(collection, subject, selection, parameters.create_subject)
    return await run_in_threadpool(_enrol, services, caller, enrolment)


@router.get("", dependencies=[Fresh])
def list_faces(
    collection: CollectionPath,
    subject: SubjectPath,
    services: Loaded,
    query: Annotated[ListParameters, Query()],
) -> FaceList:
    """List a subject's faces."""
    page = services.gallery.store.list_faces(collection, subject, query.cursor, query.limit)
    return FaceList(faces=[_answer(face) for face in page.items], next_cursor=page.next_cursor)


@router.get("/{face}", dependencies=[Fresh])
def get_face(collection: CollectionPath, subject: SubjectPath, face: FacePath, services: Loaded) -> FaceAnswer:
    """Get what is known of a face."""
    return _answer(services.gallery.store.face(collection, subject, face))


@router.get(
    "/{face}/crop",
    dependencies=[Fresh],
    response_class=Response,
    responses={200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_crop(
    collection: CollectionPath, subject: SubjectPath, face: FacePath, services: Loaded, response: Response
) -> Response:
    """Get the aligned crop of a face, 112x112, if it was kept."""
    crop = services.gallery.store.crop(collection, subject, face)
    if crop is None:
        raise Problem(404, "crop_not_kept", "no crop of this face was kept (FACEMARGIN_KEEP_CROPS)")
    return Response(crop, media_type="image/webp", headers=dict(response.headers))


@router.delete("/{face}", dependencies=[MayEnrol])
def delete_face(
    collection: CollectionPath, subject: SubjectPath, face: FacePath, services: Loaded, caller: Caller
) -> EraseReceipt:
    """Erase a face; its subject stays."""

    def receipt(erased: Erased) -> EraseReceipt:
        return receipt_of(erased, collection, subject, face)

    return receipt(
        services.gallery.erase_face(collection, subject, face, then=caller.rider("face.erase", receipt, 200, tally))
    )


@dataclass(frozen=True)
class _Enrolment:
    """What is to be enrolled, and where."""

    collection: str
    subject: str
    selection: Selection
    create_subject: bool


def _enrol(services: Services, caller: Call, enrolment: _Enrolment) -> EnrolAnswer:
    def answer(enrolled: Enrolled) -> EnrolAnswer:
        return _enrolled(enrolment, enrolled, services.analyser.model_id)

    enrolled = services.gallery.enrol(
        enrolment.collection,
        enrolment.subject,
        [accepted.face for accepted in enrolment.selection.accepted],
        create_subject=enrolment.create_subject,
        then=caller.rider("face.enrol", answer, 201, tally),
    )
    return answer(enrolled)


def _enrolled(enrolment: _Enrolment, enrolled: Enrolled, model: str) -> EnrolAnswer:
    indexed = [
        IndexedFace(face_id=face_id, image=accepted.image, box=box_of(accepted.face.box), quality=accepted.face.quality)
        for face_id, accepted in zip(enrolled.face_ids, enrolment.selection.accepted, strict=True)
    ]
    return EnrolAnswer(
        subject_id=enrolment.subject,
        indexed=indexed,
        rejected=_rejected(enrolment.selection),
        gallery_revision=enrolled.revision,
        model=model,
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
        crop=face.crop,
        model=face.model_id,
        created_at=face.created_at,
    )
