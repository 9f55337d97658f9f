"""The portable format: newline-delimited JSON, a header and then one line a face.

A subject without faces has one line without the fields of a face.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from service.schemas.parts import Identifier, JsonObject, Name
from service.transfer.errors import NotPortable

FORMAT: Final = "facemargin-faces"
VERSION: Final = 1
MEDIA_TYPE: Final = "application/x-ndjson"
LONGEST_LINE: Final = 512 * 1024
"""Bytes: an embedding of 4,096 numbers, 16 KiB of metadata and the largest crop fit in many times over."""

FaceId = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,36}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExportedCollection(_Line):
    """The collection that was exported."""

    id: Identifier
    name: Name
    metadata: JsonObject = {}


class Header(_Line):
    """The first line. model: the id of the model of every embedding that follows.

    faces, subjects: how many follow, so that a file cut short is noticed; absent from files of other tools.
    """

    format: Literal["facemargin-faces"] = FORMAT
    version: Literal[1] = VERSION
    model: str = Field(max_length=200)
    embedding_size: int = Field(ge=1, le=65536)
    collection: ExportedCollection | None = None
    gallery_revision: int | None = None
    subjects: int | None = Field(None, ge=0)
    faces: int | None = Field(None, ge=0)
    created_at: AwareDatetime | None = None


class LineBox(_Line):
    """Where the face was in its photo, in pixels."""

    x: Finite
    y: Finite
    width: Annotated[Finite, Field(ge=0)]
    height: Annotated[Finite, Field(ge=0)]


class FaceLine(_Line):
    """A face and whose it is. embedding: base64 of little-endian float32, unit length; crop: base64 of a WebP.

    Without `face_id` one is derived from collection, subject and embedding, so that a repeated import is noticed.
    """

    subject_id: Identifier
    name: Name | None = None
    metadata: JsonObject = {}
    face_id: FaceId | None = None
    model: str | None = Field(None, max_length=200)
    embedding: str | None = None
    quality: Share = 1.0
    detection_score: Share = 1.0
    box: LineBox = LineBox(x=0, y=0, width=0, height=0)
    source_digest: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    created_at: datetime | None = None
    crop: str | None = None


def parse_header(line: bytes) -> Header:
    """Raises NotPortable."""
    try:
        return Header.model_validate_json(line)
    except ValidationError as error:
        raise NotPortable(
            f'the first line must be a header such as {{"format": "{FORMAT}", "version": {VERSION}, '
            f'"model": "...", "embedding_size": 512}}; {first_fault(error)}'
        ) from error


def parse_face(line: bytes) -> FaceLine:
    """Raises ValueError that says in a few words what is wrong, without repeating a value."""
    try:
        face = FaceLine.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    if face.created_at is not None and face.created_at.tzinfo is None:
        raise ValueError("created_at: needs a time zone")
    return face


def render(line: BaseModel) -> bytes:
    """One line with its end."""
    return line.model_dump_json(exclude_none=True).encode() + b"\n"


def encode_embedding(embedding: NDArray[np.float32]) -> str:
    """(D,) -> base64 of little-endian float32."""
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()


def decode_embedding(text: str, size: int) -> NDArray[np.float32]:
    """Base64 -> float32 (size,) of unit length. Raises ValueError."""
    data = decode_base64("embedding", text)
    if len(data) != 4 * size:
        raise ValueError(f"embedding: {len(data)} bytes, not the {4 * size} of {size} float32 numbers")
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    # Written so that NaN and infinity fail it.
    if not abs(float(np.dot(vector, vector)) - 1.0) < 1e-3:
        raise ValueError("embedding: not of unit length")
    return vector


def decode_base64(field: str, text: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{field}: not valid base64") from error


def first_fault(error: ValidationError) -> str:
    """`field: what is wrong`, of the first of a validation's errors."""
    fault: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])
