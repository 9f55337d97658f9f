"""Subjects of a collection."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.api.calls import Caller
from service.api.collections import CollectionPath
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.api.etags import Fresh
from service.api.receipts import put_status, receipt_of, tally
from service.gallery.records import Erased, Merged, Subject
from service.schemas.gallery import (
    Description,
    EraseReceipt,
    MergeAnswer,
    MergeBody,
    SubjectAnswer,
    SubjectList,
    SubjectListParameters,
    changes,
)
from service.schemas.parts import Identifier

router = APIRouter(prefix="/v1/collections/{collection}/subjects", tags=["gallery"], dependencies=[MayRead])
SubjectPath = Annotated[Identifier, Path()]


@router.get("", dependencies=[Fresh])
def list_subjects(
    collection: CollectionPath, services: Loaded, query: Annotated[SubjectListParameters, Query()]
) -> SubjectList:
    """List a collection's subjects, or those that a search finds."""
    page = services.gallery.store.list_subjects(collection, query.cursor, query.limit, search=query.search)
    return SubjectList(subjects=[_answer(subject) for subject in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=201, dependencies=[MayEnrol])
def create_subject(
    collection: CollectionPath, services: Loaded, caller: Caller, body: Description | None = None
) -> SubjectAnswer:
    """Create a subject with a generated id."""
    then = caller.rider("subject.create", _put, 201)
    return _put(services.gallery.store.create_subject(collection, None, changes(body), then=then))


@router.put("/{subject}", dependencies=[MayEnrol], responses={201: {"model": SubjectAnswer}})
def put_subject(
    collection: CollectionPath,
    subject: SubjectPath,
    services: Loaded,
    caller: Caller,
    response: Response,
    body: Description | None = None,
) -> SubjectAnswer:
    """Create a subject with this id (201), or set what is given on the one there is (200)."""
    then = caller.rider("subject.put", _put, put_status)
    stored = services.gallery.store.create_subject(collection, subject, changes(body), then=then)
    response.status_code = put_status(stored)
    return _put(stored)


@router.get("/{subject}", dependencies=[Fresh])
def get_subject(collection: CollectionPath, subject: SubjectPath, services: Loaded) -> SubjectAnswer:
    """Get a subject."""
    return _answer(services.gallery.store.subject(collection, subject))


@router.patch("/{subject}", dependencies=[MayEnrol])
def patch_subject(
    collection: CollectionPath, subject: SubjectPath, services: Loaded, caller: Caller, body: Description
) -> SubjectAnswer:
    """Rename a subject, or replace its metadata."""
    then = caller.rider("subject.change", _answer)
    return _answer(services.gallery.store.change_subject(collection, subject, changes(body), then=then))


@router.post("/{subject}/merge", dependencies=[MayEnrol])
def merge_subject(
    collection: CollectionPath, subject: SubjectPath, services: Loaded, caller: Caller, body: MergeBody
) -> MergeAnswer:
    """Move all faces of a subject to another one, and erase it."""
    then = caller.rider("subject.merge", _merged, 200, lambda merged: {"faces": merged.faces_moved})
    return _merged(services.gallery.merge_subjects(collection, subject, body.into, then=then))


@router.delete("/{subject}", dependencies=[MayEnrol])
def delete_subject(collection: CollectionPath, subject: SubjectPath, services: Loaded, caller: Caller) -> EraseReceipt:
    """Erase a subject and all its faces."""

    def receipt(erased: Erased) -> EraseReceipt:
        return receipt_of(erased, collection, subject)

    then = caller.rider("subject.erase", receipt, 200, tally)
    return receipt(services.gallery.erase_subject(collection, subject, then=then))


def _put(stored: tuple[Subject, bool]) -> SubjectAnswer:
    return _answer(stored[0])


def _merged(merged: Merged) -> MergeAnswer:
    return MergeAnswer(
        **dict(_answer(merged.subject)), faces_moved=merged.faces_moved, gallery_revision=merged.revision
    )


def _answer(subject: Subject) -> SubjectAnswer:
    return SubjectAnswer(
        subject_id=subject.id,
        name=subject.name,
        metadata=dict(subject.metadata),
        faces=subject.faces,
        created_at=subject.created_at,
    )
