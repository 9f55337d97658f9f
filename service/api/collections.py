"""Collections of subjects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from service.api.calls import Caller, Reader
from service.api.dependencies import Loaded, MayAdminister, MayAdministerAll, MayRead
from service.api.etags import Fresh
from service.api.receipts import put_status, receipt_of, tally
from service.gallery.records import Collection, Erased
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


@router.get("", dependencies=[Fresh])
def list_collections(services: Loaded, caller: Reader, query: Annotated[ListParameters, Query()]) -> CollectionList:
    """List the collections that the key is for."""
    page = services.gallery.store.list_collections(query.cursor, query.limit, only=caller.key.collections)
    return CollectionList(collections=[_answer(collection) for collection in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=201, dependencies=[MayAdministerAll])
def create_collection(services: Loaded, caller: Caller, body: Description | None = None) -> CollectionAnswer:
    """Create a collection with a generated id."""
    then = caller.rider("collection.create", _put, 201)
    return _put(services.gallery.store.create_collection(None, changes(body), then=then))


@router.put("/{collection}", dependencies=[MayAdminister], responses={201: {"model": CollectionAnswer}})
def put_collection(
    collection: CollectionPath,
    services: Loaded,
    caller: Caller,
    response: Response,
    body: Description | None = None,
) -> CollectionAnswer:
    """Create a collection with this id (201), or set what is given on the one there is (200)."""
    then = caller.rider("collection.put", _put, put_status)
    stored = services.gallery.store.create_collection(collection, changes(body), then=then)
    response.status_code = put_status(stored)
    return _put(stored)


@router.get("/{collection}", dependencies=[Fresh])
def get_collection(collection: CollectionPath, services: Loaded) -> CollectionAnswer:
    """Get a collection."""
    return _answer(services.gallery.store.collection(collection))


@router.patch("/{collection}", dependencies=[MayAdminister])
def patch_collection(
    collection: CollectionPath, services: Loaded, caller: Caller, body: Description
) -> CollectionAnswer:
    """Rename a collection, or replace its metadata."""
    then = caller.rider("collection.change", _answer)
    return _answer(services.gallery.store.change_collection(collection, changes(body), then=then))


@router.delete("/{collection}", dependencies=[MayAdminister])
def delete_collection(collection: CollectionPath, services: Loaded, caller: Caller) -> EraseReceipt:
    """Erase a collection and everybody in it."""

    def receipt(erased: Erased) -> EraseReceipt:
        return receipt_of(erased, collection)

    then = caller.rider("collection.erase", receipt, 200, tally)
    return receipt(services.gallery.erase_collection(collection, then=then))


def _put(stored: tuple[Collection, bool]) -> CollectionAnswer:
    return _answer(stored[0])


def _answer(collection: Collection) -> CollectionAnswer:
    return CollectionAnswer(
        id=collection.id,
        name=collection.name,
        metadata=dict(collection.metadata),
        subjects=collection.subjects,
        faces=collection.faces,
        created_at=collection.created_at,
    )
