"""Parts that requests and answers share."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Identifier = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._\- ]{1,128}$",
        description="1 to 128 characters of letters, digits, `._-` and space.",
        examples=["ada.lovelace"],
    ),
]
_MAX_METADATA_BYTES = 16384


def _storable(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("control characters are not allowed")
    return text


def _storable_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    # NaN and lone surrogates pass Python's JSON parser, but no other's.
    try:
        size = len(json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, RecursionError) as error:
        raise ValueError("not valid JSON") from error
    if size > _MAX_METADATA_BYTES:
        raise ValueError(f"at most {_MAX_METADATA_BYTES} bytes as JSON, not {size}")
    if "\\u0000" in json.dumps(metadata):
        raise ValueError("the character U+0000 is not allowed")
    return metadata


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_storable),
    Field(json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f]*$"}),
]
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable_metadata)]
Image = Annotated[str, Field(description="A photo's bytes in base64.", json_schema_extra={"format": "byte"})]
Embedding = Annotated[list[float] | str, Field(description="A list of numbers, or base64 of little-endian float32.")]
Rate = Annotated[float, Field(gt=0, lt=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A request: an unknown field is an error, because it is most likely a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageUrl(Strict):
    """A photo to fetch; only if the operator allows it, and only from public addresses."""

    url: str = Field(min_length=1, max_length=2048, description="An http or https address.")


Photo = Image | ImageUrl
Photos = Annotated[Photo | Annotated[list[Photo], Field(min_length=1)], Field(description="One photo or several.")]


class Answer(BaseModel):
    """A response."""

    model_config = ConfigDict(frozen=True)


class PhotoSize(Answer):
    """A photo of the request, upright, in pixels."""

    width: int
    height: int


class Box(Answer):
    """A rectangle in pixels of the upright (EXIF-rotated) photo."""

    x: float
    y: float
    width: float
    height: float


class Point(Answer):
    """A point in pixels of the upright photo."""

    x: float
    y: float


class DetectedFace(Answer):
    """A face in a photo.

    Landmarks: left eye, right eye, nose, left and right mouth corner; left is the image's left.
    """

    image: int = Field(description="The number of its photo in the request, from 0.")
    box: Box
    landmarks: list[Point] = Field(min_length=5, max_length=5)
    detection_score: Share
    quality: Share = Field(description="How well the face suits recognition.")
    reasons: list[str] = Field(description="What is wrong with it for enrolment; empty if nothing.")


class ThresholdPolicy(Answer):
    """Where the threshold comes from and what it promises."""

    far: float | None = Field(
        description="The error rate it keeps: FMR of verify, FPIR of identify; null for a cosine of your own."
    )
    source: Literal["calibration", "request"]
    extrapolated: bool = Field(description="The calibration's data do not reach this rate: a guess.")


Timing = dict[str, float]
