"""What a CompreFace client's request gives: the collection its key stands for, a listing of it, a photo."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.api.calls import Reader
from service.api.compreface.schemas import FileBody
from service.api.dependencies import check_collection
from service.api.uploads import decode_base64, read_upload
from service.gallery.listing import FaceListing
from service.gallery.store import DEFAULT_COLLECTION


def _collection(caller: Reader) -> str:
    """The one collection that the key is for, else `default`. Raises Problem (403) if it may not see that."""
    scope = caller.key.collections
    if scope is not None and len(scope) == 1:
        return next(iter(scope))
    check_collection(caller.key, DEFAULT_COLLECTION)
    return DEFAULT_COLLECTION


def _listing(request: Request) -> FaceListing:
    return FaceListing(request.app.state.engine)


CollectionId = Annotated[str, Depends(_collection)]
Listing = Annotated[FaceListing, Depends(_listing)]


async def read_photo(request: Request) -> bytes:
    """The photo of the form's or the document's `file`. Raises Problem (400, 413, 415)."""
    upload = await read_upload(request, FileBody, {"file": 1})
    return upload.files["file"][0] if upload.document is None else decode_base64("file", upload.document.file)
