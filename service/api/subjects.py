"""Subjects of a collection."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.api.collections import CollectionPath
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.gallery.records import Subject
from service.schemas.gallery import Description, EraseReceipt, ListParameters, SubjectAnswer, SubjectList, changes
from service.schemas.parts import Identifier

router = APIRouter(prefix="/v1/collections/{collection}/subjects", tags=["gallery"], dependencies=[MayRead])
SubjectPath = Annotated[Identifier, Path()]


@router.get("")
def list_subjects(
    collection: CollectionPath, services: Loaded, query: Annotated[ListParameters, Query()]
) -> SubjectList:
    """List a collection's subjects."""
    page = services.gallery.store.list_subjects(collection, query.cursor, query.limit)
    return SubjectList(subjects=[_answer(subject) for subject in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=201, dependencies=[MayEnrol])
def create_subject(collection: CollectionPath, services: Loaded, body: Description | None = None) -> SubjectAnswer:
    """Create a subject with a generated id."""
    return _answer(services.gallery.store.create_subject(collection, None, changes(body))[0])


@router.put("/{subject}", dependencies=[MayEnrol], responses={201: {"model": SubjectAnswer}})
def put_subject(
    collection: CollectionPath,
    subject: SubjectPath,
    services: Loaded,
    response: Response,
    body: Description | None = None,
) -> SubjectAnswer:
    """Create a subject with this id (201), or set what is given on the one there is (200)."""
    stored, created = services.gallery.store.create_subject(collection, subject, changes(body))
    response.status_code = 201 if created else 200
    return _answer(stored)


@router.get("/{subject}")
def get_subject(collection: CollectionPath, subject: SubjectPath, services: Loaded) -> SubjectAnswer:
    """Get a subject."""
    return _answer(services.gallery.store.subject(collection, subject))


@router.patch("/{subject}", dependencies=[MayEnrol])
def patch_subject(
    collection: CollectionPath, subject: SubjectPath, services: Loaded, body: Description
) -> SubjectAnswer:
    """Rename a subject, or replace its metadata."""
    return _answer(services.gallery.store.change_subject(collection, subject, changes(body)))


@router.delete("/{subject}", dependencies=[MayEnrol])
def delete_subject(collection: CollectionPath, subject: SubjectPath, services: Loaded) -> EraseReceipt:
    """Erase a subject and all its faces."""
    erased = services.gallery.erase_subject(collection, subject)
    return EraseReceipt(
        collection=collection,
        subject_id=subject,
        subjects_erased=erased.subjects,
        faces_erased=len(erased.keys),
        gallery_revision=erased.revision,
        erased_at=erased.erased_at,
    )


def _answer(subject: Subject) -> SubjectAnswer:
    return SubjectAnswer(
        subject_id=subject.id,
        name=subject.name,
        metadata=dict(subject.metadata),
        faces=subject.faces,
        created_at=subject.created_at,
    )
