"""Examples: the enrolled faces, which CompreFace calls images of subjects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.calls import Call, Caller
from service.api.compreface.documented import SEVERAL_DELETED, SEVERAL_IDS
from service.api.compreface.names import SubjectName, subject_id, subject_name
from service.api.compreface.refusals import CompreFaceRoute
from service.api.compreface.requests import CollectionId, Listing, read_photo
from service.api.compreface.schemas import (
    AddParameters,
    DeletedAnswer,
    ExampleAnswer,
    ExampleList,
    FileBody,
    ImageIds,
    ListParameters,
)
from service.api.compreface.seeing import sure_enough
from service.api.compreface.subjects import alone, ensure_subject
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.api.photos import look
from service.api.receipts import tally
from service.api.uploads import form_or_json
from service.errors import Problem
from service.gallery.enrolment import FacePolicy, Selection, select_faces
from service.gallery.errors import FaceNotFound
from service.gallery.records import Enrolled, Erased, Owner
from service.recognition.crops import encode_crop
from service.startup import Services

router = APIRouter(prefix="/recognition/faces", route_class=CompreFaceRoute, dependencies=[MayRead])
ImageId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
_REFUSALS = {
    "no_face": "No face is found in the given image",
    "multiple_faces": "Found more than one face in the given image",
    "low_quality": "No face that is good enough to be enrolled is found in the given image",
}
_FORM = form_or_json(FileBody, {"file": 1})


@router.post("", status_code=201, dependencies=[MayEnrol], openapi_extra=_FORM)
@router.post("/", status_code=201, dependencies=[MayEnrol], include_in_schema=False)
async def add_example(
    request: Request,
    collection: CollectionId,
    services: Loaded,
    caller: Caller,
    query: Annotated[AddParameters, Query()],
) -> ExampleAnswer:
    """Enrol the one face of a photo. On 201 it is durable and can be found."""
    data = await read_photo(request)
    photo = await look(services.analyser.analyse, "file", data, services.settings.max_faces)
    encode = encode_crop if services.settings.keep_crops else None
    sure = sure_enough(photo, query.det_prob_threshold)
    selection = await run_in_threadpool(select_faces, [sure], FacePolicy.SINGLE, encode)
    if not selection.accepted:
        raise Problem(422, selection.refusal, _why(selection))
    return await run_in_threadpool(_enrol, services, caller, collection, query.subject, selection)


@router.get("")
@router.get("/", include_in_schema=False)
def list_examples(collection: CollectionId, listing: Listing, query: Annotated[ListParameters, Query()]) -> ExampleList:
    """List the examples of the key's collection, or of one subject, page by page."""
    only = None if query.subject is None else subject_id(query.subject)
    page = listing.page(collection, only, query.page, query.size)
    return ExampleList(
        faces=[_answer(owner) for owner in page.items],
        page_number=query.page,
        page_size=query.size,
        total_pages=-(-page.total // query.size),
        total_elements=page.total,
    )


@router.delete("", dependencies=[MayEnrol])
def delete_examples(
    collection: CollectionId,
    listing: Listing,
    services: Loaded,
    caller: Caller,
    subject: Annotated[SubjectName | None, Query()] = None,
) -> DeletedAnswer:
    """Erase the examples of a subject, or without one all examples; the subjects stay."""
    only = None if subject is None else subject_id(subject)
    if only is not None:
        services.gallery.store.subject(collection, only)
    total = listing.page(collection, only, 0, 1).total
    owners = listing.page(collection, only, 0, max(1, total)).items
    return DeletedAnswer(deleted=len(_erase(services, caller, collection, owners)))


@router.delete("/{image_id}", dependencies=[MayEnrol])
def delete_example(
    collection: CollectionId, image_id: ImageId, listing: Listing, services: Loaded, caller: Caller
) -> ExampleAnswer:
    """Erase an example; its subject stays."""
    owner = listing.owner(collection, image_id)

    def answer(_: Erased) -> ExampleAnswer:
        return _answer(owner)

    then = caller.rider("face.erase", answer, 200, tally)
    return answer(services.gallery.erase_face(collection, owner.subject_id, image_id, then=then))


@router.post("/delete", dependencies=[MayEnrol], responses=SEVERAL_DELETED)
def delete_several(
    collection: CollectionId,
    image_ids: Annotated[ImageIds, Body(openapi_examples=SEVERAL_IDS)],
    listing: Listing,
    services: Loaded,
    caller: Caller,
) -> list[ExampleAnswer]:
    """Erase several examples; answers those that were there."""
    owners = [owner for image_id in dict.fromkeys(image_ids) if (owner := _found(listing, collection, image_id))]
    return [_answer(owner) for owner in _erase(services, caller, collection, owners)]


@router.get(
    "/{image_id}/img",
    response_class=Response,
    responses={200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_image(collection: CollectionId, image_id: ImageId, listing: Listing, services: Loaded) -> Response:
    """Get the aligned crop of an example, 112x112, if it was kept. The photo never is."""
    owner = listing.owner(collection, image_id)
    crop = services.gallery.store.crop(collection, owner.subject_id, image_id)
    if crop is None:
        raise Problem(404, "crop_not_kept", "No image of this example was kept")
    return Response(crop, media_type="image/webp")


def _enrol(services: Services, caller: Call, collection: str, subject: str, selection: Selection) -> ExampleAnswer:
    def answer(enrolled: Enrolled) -> ExampleAnswer:
        return ExampleAnswer(image_id=enrolled.face_ids[0], subject=subject)

    identifier = subject_id(subject)
    if identifier != subject:  # a subject that enrolment created would be called by its id
        created = ensure_subject(services.gallery.store, alone(caller, first=True), collection, subject)
        caller = alone(caller, first=not created, last=True)
    faces = [selection.accepted[0].face]
    then = caller.rider("face.enrol", answer, 201, tally)
    return answer(services.gallery.enrol(collection, identifier, faces, create_subject=True, then=then))


def _erase(services: Services, caller: Call, collection: str, owners: list[Owner]) -> list[Owner]:
    """Erase these faces one after the other; those that others have erased meanwhile are passed over."""

    def answer(_: Erased) -> DeletedAnswer:
        return DeletedAnswer(deleted=len(owners))

    erased = []
    for number, owner in enumerate(owners):
        one = alone(caller, first=number == 0)
        then = one.rider("face.erase", answer, 200, tally)
        try:
            services.gallery.erase_face(collection, owner.subject_id, owner.face_id, then=then)
        except FaceNotFound:
            continue
        erased.append(owner)
    return erased


def _found(listing: Listing, collection: str, image_id: str) -> Owner | None:
    try:
        return listing.owner(collection, image_id)
    except FaceNotFound:
        return None


def _why(selection: Selection) -> str:
    reasons = sorted({reason for rejected in selection.rejected for reason in rejected.reasons})
    return f"{_REFUSALS[selection.refusal]} ({', '.join(reasons)})"


def _answer(owner: Owner) -> ExampleAnswer:
    return ExampleAnswer(image_id=owner.face_id, subject=subject_name(owner.subject_id, owner.name))
