"""Calls about collections, subjects and faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facemargin.answers import Collection, Enrolment, Erasure, Face, FacePolicy, Merged, Subject
from facemargin.asking import Ask, Listing, given, listing, once, path_of
from facemargin.decoding import reads
from facemargin.photos import Photos
from facemargin.recognition import bodies_of

Metadata = Mapping[str, Any]
PART = 200  # entries asked for at once


def collections() -> Listing[Collection]:
    """The collections that the key is for."""
    return listing(path_of("collections"), "collections", Collection, {"limit": PART})


def create_collection(
    collection: str | None = None, *, name: str | None = None, metadata: Metadata | None = None
) -> Ask[Collection]:
    """Create a collection, with a generated id if none is given; one that exists takes what is given."""
    return _created(path_of("collections"), collection, reads(Collection), given(name=name, metadata=metadata))


def collection(collection: str) -> Ask[Collection]:
    """A collection."""
    return Ask("GET", path_of("collections", collection), reads(Collection))


def change_collection(collection: str, *, name: str | None = None, metadata: Metadata | None = None) -> Ask[Collection]:
    """Rename a collection, or replace its metadata."""
    path = path_of("collections", collection)
    return Ask("PATCH", path, reads(Collection), json=given(name=name, metadata=metadata), headers=once())


def delete_collection(collection: str) -> Ask[Erasure]:
    """Erase a collection and everybody in it."""
    return Ask("DELETE", path_of("collections", collection), reads(Erasure), headers=once())


def subjects(*, collection: str = "default", search: str | None = None) -> Listing[Subject]:
    """A collection's subjects. search: only those with this in their id or name, in upper or lower case."""
    return listing(_subjects(collection), "subjects", Subject, {"limit": PART, "search": search})


def create_subject(
    subject: str | None = None,
    *,
    collection: str = "default",
    name: str | None = None,
    metadata: Metadata | None = None,
) -> Ask[Subject]:
    """Create a subject, with a generated id if none is given; one that exists takes what is given."""
    return _created(_subjects(collection), subject, reads(Subject), given(name=name, metadata=metadata))


def subject(subject: str, *, collection: str = "default") -> Ask[Subject]:
    """A subject."""
    return Ask("GET", _subjects(collection, subject), reads(Subject))


def change_subject(
    subject: str, *, collection: str = "default", name: str | None = None, metadata: Metadata | None = None
) -> Ask[Subject]:
    """Rename a subject, or replace its metadata."""
    document = given(name=name, metadata=metadata)
    return Ask("PATCH", _subjects(collection, subject), reads(Subject), json=document, headers=once())


def merge_subject(subject: str, into: str, *, collection: str = "default") -> Ask[Merged]:
    """Move all faces of a subject to another one, and erase it."""
    path = _subjects(collection, subject, "merge")
    return Ask("POST", path, reads(Merged), json={"into": into}, headers=once())


def delete_subject(subject: str, *, collection: str = "default") -> Ask[Erasure]:
    """Erase a subject and all its faces."""
    return Ask("DELETE", _subjects(collection, subject), reads(Erasure), headers=once())


def enrol(
    subject: str,
    image: Photos,
    *,
    collection: str = "default",
    face_policy: FacePolicy = "single",
    create_subject: bool = True,
) -> Ask[Enrolment]:
    """Enrol faces from one photo or several.

    face_policy: what to take of a photo: its `single` usable face, its `largest` face, or `all` faces.
    Raises Problem `no_face`, `multiple_faces` or `low_quality` if nothing was enrolled; its member `rejected` tells
    why.
    """
    query = {"face_policy": face_policy, "create_subject": create_subject}
    path = _subjects(collection, subject, "faces")
    return Ask("POST", path, reads(Enrolment), query, headers=once(), **bodies_of(image))


def faces(subject: str, *, collection: str = "default") -> Listing[Face]:
    """A subject's faces."""
    return listing(_subjects(collection, subject, "faces"), "faces", Face, {"limit": PART})


def face(subject: str, face: str, *, collection: str = "default") -> Ask[Face]:
    """An enrolled face."""
    return Ask("GET", _subjects(collection, subject, "faces", face), reads(Face))


def crop(subject: str, face: str, *, collection: str = "default") -> Ask[bytes]:
    """The aligned crop of a face, 112x112, as WebP. Raises Problem `crop_not_kept`."""
    return Ask("GET", _subjects(collection, subject, "faces", face, "crop"), bytes)


def delete_face(subject: str, face: str, *, collection: str = "default") -> Ask[Erasure]:
    """Erase a face; its subject stays."""
    return Ask("DELETE", _subjects(collection, subject, "faces", face), reads(Erasure), headers=once())


def _created(path: str, identifier: str | None, read: Any, document: dict[str, Any]) -> Ask[Any]:
    if identifier is None:
        return Ask("POST", path, read, json=document, headers=once())
    return Ask("PUT", f"{path}/{path_of(identifier).removeprefix('/v1/')}", read, json=document, headers=once())


def _subjects(collection: str, *parts: str) -> str:
    return path_of("collections", collection, "subjects", *parts)
