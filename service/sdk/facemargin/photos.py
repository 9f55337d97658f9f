"""How a caller names faces: photos, addresses of photos, enrolled faces, embeddings."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemargin.asking import Source


@dataclass(frozen=True)
class PhotoUrl:
    """A photo that the service fetches, if its operator allows that."""

    url: str


@dataclass(frozen=True)
class FaceId:
    """An enrolled face."""

    id: str


@dataclass(frozen=True)
class Embedding:
    """An embedding of the model that the service uses."""

    values: Iterable[float]


Photo = Source | PhotoUrl
Photos = Photo | Sequence[Photo]
Named = FaceId | Embedding


def several(photos: Photos) -> list[Photo]:
    """One photo or several as a list."""
    if isinstance(photos, Sequence) and not isinstance(photos, str | bytes):
        return list(photos)
    return [photos]


def content_of(photo: Source) -> bytes:
    """The bytes of a photo. Raises OSError for a file that cannot be read."""
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | os.PathLike):
        return Path(photo).read_bytes()
    return photo.read()


def member_of(given: Photo | Named) -> Any:
    """A photo or a named face as a member of a JSON document."""
    match given:
        case PhotoUrl():
            return {"url": given.url}
        case FaceId():
            return {"face_id": given.id}
        case Embedding():
            return {"embedding": packed(given.values)}
        case _:
            return base64.b64encode(content_of(given)).decode()


def packed(values: Iterable[float]) -> str:
    """An embedding as base64 of little-endian float32."""
    numbers = [float(value) for value in values]
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def unpacked(text: str) -> list[float]:
    """The embedding that `packed` wrote. Raises ValueError."""
    data = base64.b64decode(text, validate=True)
    return [number for (number,) in struct.iter_unpack("<f", data)]
