"""Collections of subjects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.api.dependencies import Loaded, MayAdminister, MayRead
from service.gallery.records import Collection
from service.schemas.gallery import (
    CollectionAnswer,
    CollectionList,
    Description,
    EraseReceipt,
    ListParameters,
    changes,
)
from service.schemas.parts import Identifier

router = APIRouter(prefix="/v1/collections", tags=["gallery"], dependencies=[MayRead])
CollectionPath = Annotated[Identifier, Path()]


@router.get("")
def list_collections(services: Loaded, query: Annotated[ListParameters, Query()]) -> CollectionList:
    """List collections."""
    page = services.gallery.store.list_collections(query.cursor, query.limit)
    return CollectionList(collections=[_answer(collection) for collection in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=201, dependencies=[MayAdminister])
def create_collection(services: Loaded, body: Description | None = None) -> CollectionAnswer:
    """Create a collection with a generated id."""
    return _answer(services.gallery.store.create_collection(None, changes(body))[0])


@router.put("/{collection}", dependencies=[MayAdminister], responses={201: {"model": CollectionAnswer}})
def put_collection(
    collection: CollectionPath, services: Loaded, response: Response, body: Description | None = None
) -> CollectionAnswer:
    """Create a collection with this id (201), or set what is given on the one there is (200)."""
    stored, created = services.gallery.store.create_collection(collection, changes(body))
    response.status_code = 201 if created else 200
    return _answer(stored)


@router.get("/{collection}")
def get_collection(collection: CollectionPath, services: Loaded) -> CollectionAnswer:
    """Get a collection."""
    return _answer(services.gallery.store.collection(collection))


@router.patch("/{collection}", dependencies=[MayAdminister])
def patch_collection(collection: CollectionPath, services: Loaded, body: Description) -> CollectionAnswer:
    """Rename a collection, or replace its metadata."""
    return _answer(services.gallery.store.change_collection(collection, changes(body)))


@router.delete("/{collection}", dependencies=[MayAdminister])
def delete_collection(collection: CollectionPath, services: Loaded) -> EraseReceipt:
    """Erase a collection and everybody in it."""
    erased = services.gallery.erase_collection(collection)
    return EraseReceipt(
        collection=collection,
        subjects_erased=erased.subjects,
        faces_erased=len(erased.keys),
        gallery_revision=erased.revision,
        erased_at=erased.erased_at,
    )


def _answer(collection: Collection) -> CollectionAnswer:
    return CollectionAnswer(
        id=collection.id,
        name=collection.name,
        metadata=dict(collection.metadata),
        subjects=collection.subjects,
        faces=collection.faces,
        created_at=collection.created_at,
    )
