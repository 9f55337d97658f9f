"""What a request gives to look at: photos by value or by address, enrolled faces, embeddings."""

from __future__ import annotations

import asyncio

import numpy as np
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray

from service.api.bodies import hold
from service.api.dependencies import check_collection
from service.api.uploads import decode_base64
from service.errors import Problem
from service.gallery.errors import FaceNotFound
from service.gallery.matcher import unit_embedding
from service.recognition.errors import ImageError
from service.schemas.parts import ImageUrl, Photo
from service.security.keys import ApiKey
from service.startup import Services


async def photo_bytes(services: Services, field: str, given: Photo) -> bytes:
    """The bytes of a photo in a JSON document. Raises Problem (400, 403, 413, 422) that names the field, or (503)."""
    if not isinstance(given, ImageUrl):
        return decode_base64(field, given)
    if services.fetcher is None:
        raise Problem(403, "urls_disabled", f"{field}: this server takes no photos by address; send the photo itself")
    try:
        fetched = await services.fetcher.fetch(given.url)
    except ImageError as error:
        raise Problem(error.status, error.code, f"{field}: {error}", field=field) from error
    hold(len(fetched))
    return fetched


async def all_photos(services: Services, given: Photo | list[Photo]) -> list[bytes]:
    """The bytes of the photos in the member `image`. Raises Problem (400, 403)."""
    photos = given if isinstance(given, list) else [given]
    most = services.settings.max_images
    if len(photos) > most:
        raise Problem(400, "invalid_request", f"image: expected 1 to {most} photos, got {len(photos)}")
    read = (photo_bytes(services, name, photo) for name, photo in zip(photo_names(len(photos)), photos, strict=True))
    return await asyncio.gather(*read)


def photo_names(count: int) -> list[str]:
    """How problems call the photos of the field `image`."""
    return ["image"] if count == 1 else [f"image[{number}]" for number in range(count)]


async def enrolled_embedding(services: Services, key: ApiKey, face_id: str) -> NDArray[np.float32]:
    """The embedding, float32 (D,), of an enrolled face that the key may see. Raises FaceNotFound."""
    return await run_in_threadpool(_enrolled_embedding, services, key, face_id)


def read_embedding(field: str, values: list[float] | str, size: int) -> NDArray[np.float32]:
    """A caller's embedding as a unit vector float32 (size,). Raises Problem (400), InvalidEmbedding."""
    if not isinstance(values, str):
        return unit_embedding(np.asarray(values, np.float64), size)
    data = decode_base64(field, values)
    if len(data) != 4 * size:
        raise Problem(400, "invalid_embedding", f"{field}: {size} float32 have {4 * size} bytes, not {len(data)}")
    return unit_embedding(np.frombuffer(data, "<f4"), size)


def _enrolled_embedding(services: Services, key: ApiKey, face_id: str) -> NDArray[np.float32]:
    store = services.gallery.store
    try:
        check_collection(key, store.collection_of(face_id))
    except Problem as error:
        raise FaceNotFound(f"no face has the id {face_id!r}") from error
    return store.embedding(face_id)
