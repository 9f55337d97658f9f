"""Subjects, by their names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path

from service.api.calls import Call, Caller
from service.api.compreface.names import SubjectName, subject_id, subject_name
from service.api.compreface.refusals import CompreFaceRoute
from service.api.compreface.requests import CollectionId, Listing
from service.api.compreface.schemas import DeletedAnswer, NamedSubject, SubjectBody, SubjectNames, UpdatedAnswer
from service.api.dependencies import Loaded, MayEnrol, MayRead
from service.api.receipts import tally
from service.errors import Problem
from service.gallery.errors import SubjectNotFound
from service.gallery.records import Changes, Erased, Merged, Subject
from service.gallery.store import GalleryStore

router = APIRouter(prefix="/recognition/subjects", route_class=CompreFaceRoute, dependencies=[MayRead])
SubjectPath = Annotated[SubjectName, Path()]


@router.get("")
@router.get("/", include_in_schema=False)
def list_subjects(collection: CollectionId, listing: Listing) -> SubjectNames:
    """List everybody of the key's collection."""
    return SubjectNames(subjects=[subject_name(*subject) for subject in listing.subjects(collection)])


@router.post("", status_code=201, dependencies=[MayEnrol])
@router.post("/", status_code=201, dependencies=[MayEnrol], include_in_schema=False)
def add_subject(collection: CollectionId, services: Loaded, caller: Caller, body: SubjectBody) -> NamedSubject:
    """Add a subject without a face."""

    def answer(stored: tuple[Subject, bool]) -> NamedSubject:
        if not stored[1]:
            raise Problem(409, "subject_exists", "Subject with the given name already exists")
        return NamedSubject(subject=body.subject)

    then = caller.rider("subject.create", answer, 201)
    store = services.gallery.store
    # Told inside the transaction: a subject that was there already stays as it was.
    return answer(store.create_subject(collection, subject_id(body.subject), _named(body.subject), then=then))


@router.put("/{subject}", dependencies=[MayEnrol])
def rename_subject(
    collection: CollectionId, subject: SubjectPath, services: Loaded, caller: Caller, body: SubjectBody
) -> UpdatedAnswer:
    """Give a subject another name; if that is somebody's, the two are merged."""

    def answer(_: Merged) -> UpdatedAnswer:
        return UpdatedAnswer(updated=True)

    gallery = services.gallery
    old, new = subject_id(subject), subject_id(body.subject)
    stored = gallery.store.subject(collection, old)
    if old != new:
        ensure_subject(gallery.store, alone(caller, first=True), collection, body.subject, like=stored)
        then = alone(caller, last=True).rider(
            "subject.merge", answer, 200, lambda merged: {"faces": merged.faces_moved}
        )
        gallery.merge_subjects(collection, old, new, then=then)
    return UpdatedAnswer(updated=True)


@router.delete("/{subject}", dependencies=[MayEnrol])
def delete_subject(collection: CollectionId, subject: SubjectPath, services: Loaded, caller: Caller) -> NamedSubject:
    """Erase a subject and all its faces."""

    def answer(_: Erased) -> NamedSubject:
        return NamedSubject(subject=subject)

    then = caller.rider("subject.erase", answer, 200, tally)
    return answer(services.gallery.erase_subject(collection, subject_id(subject), then=then))


@router.delete("", dependencies=[MayEnrol])
def delete_subjects(collection: CollectionId, listing: Listing, services: Loaded, caller: Caller) -> DeletedAnswer:
    """Erase everybody of the key's collection, one after the other."""

    def answer(_: Erased) -> DeletedAnswer:
        return DeletedAnswer(deleted=1)

    deleted = 0
    for number, (identifier, _) in enumerate(listing.subjects(collection)):
        then = alone(caller, first=number == 0).rider("subject.erase", answer, 200, tally)
        with suppress(SubjectNotFound):  # erased by somebody else meanwhile
            deleted += services.gallery.erase_subject(collection, identifier, then=then).subjects
    return DeletedAnswer(deleted=deleted)


def ensure_subject(store: GalleryStore, caller: Call, collection: str, name: str, like: Subject | None = None) -> bool:
    """Create the subject with this name, with the metadata of another, unless it is there; True if it is new."""

    def answer(_: tuple[Subject, bool]) -> NamedSubject:
        return NamedSubject(subject=name)

    try:
        store.subject(collection, subject_id(name))
        return False
    except SubjectNotFound:
        described = replace(_named(name), metadata=None if like is None else like.metadata)
        then = caller.rider("subject.create", answer, 201)
        return store.create_subject(collection, subject_id(name), described, then=then)[1]


def alone(caller: Call, *, first: bool = False, last: bool = False) -> Call:
    """The call as one of several changes that it makes.

    The first checks that the gallery is as the caller requires, the last remembers the answer under the token.
    A call that erases one by one remembers none: sent again, it finds nothing more to erase.
    """
    unchanged = caller.unchanged if first else None
    return replace(caller, unchanged=unchanged, tokened=caller.tokened if last else None)


def _named(name: str) -> Changes:
    return Changes(name=name)
