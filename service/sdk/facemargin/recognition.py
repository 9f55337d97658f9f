"""Calls that look at photos and change nothing."""

from __future__ import annotations

from typing import Any

from facemargin.answers import Detection, Embeddings, Identification, Verification
from facemargin.asking import Ask, Query
from facemargin.decoding import decoded, document_of, reads
from facemargin.errors import UnexpectedAnswer
from facemargin.photos import (
    Embedding,
    FaceId,
    Named,
    Photo,
    Photos,
    PhotoUrl,
    content_of,
    member_of,
    several,
    unpacked,
)


def verify(
    source: Photo | Named,
    target: Photo | Named,
    *,
    far: float | None = None,
    threshold: float | None = None,
    max_faces: int | None = None,
) -> Ask[Verification]:
    """Whether the source's best face is the same person as one of the target.

    far: false match rate to keep, by default the service's own; or else `threshold`, a cosine to decide at.
    """
    query = {"far": far, "threshold": threshold, "max_faces": max_faces}
    sides = {"source": source, "target": target}
    bodies: dict[str, Any]
    if any(isinstance(side, PhotoUrl | FaceId | Embedding) for side in sides.values()):
        bodies = {"json": {name: member_of(side) for name, side in sides.items()}}
    else:
        bodies = {"files": [(name, _bytes(side)) for name, side in sides.items()]}
    return Ask("POST", "/v1/verify", reads(Verification), query, **bodies)


def identify(
    image: Photos | Named,
    *,
    collection: str = "default",
    top_k: int = 5,
    far: float | None = None,
    threshold: float | None = None,
    max_faces: int | None = None,
) -> Ask[Identification]:
    """Who of a collection every face of one photo or several is; or an enrolled face; or an embedding.

    far: rate of false identifications of one search to keep, by default the service's own; or else `threshold`,
    a cosine to decide at. top_k: most candidates a face.
    """
    query: Query = {
        "collection": collection,
        "top_k": top_k,
        "far": far,
        "threshold": threshold,
        "max_faces": max_faces,
    }
    read = reads(Identification)
    if isinstance(image, FaceId | Embedding):
        return Ask("POST", "/v1/identify", read, query, member_of(image))
    return Ask("POST", "/v1/identify", read, query, **bodies_of(image))


def detect(image: Photos, *, max_faces: int | None = None) -> Ask[Detection]:
    """Every face of one photo or several, largest first."""
    return Ask("POST", "/v1/detect", reads(Detection), {"max_faces": max_faces}, **bodies_of(image))


def embed(image: Photos, *, max_faces: int | None = None) -> Ask[Embeddings]:
    """Every face of one photo or several with its embedding, largest first."""
    query: Query = {"max_faces": max_faces, "encoding": "base64"}
    return Ask("POST", "/v1/embed", _embeddings, query, **bodies_of(image))


def bodies_of(photos: Photos) -> dict[str, Any]:
    """The body that sends photos in the field `image`: a form, or JSON if one is given by its address."""
    photos = several(photos)
    if not photos:
        raise ValueError("give at least one photo")
    if any(isinstance(photo, PhotoUrl) for photo in photos):
        return {"json": {"image": [member_of(photo) for photo in photos]}}
    return {"files": [("image", _bytes(photo)) for photo in photos]}


def _bytes(given: Photo | Named) -> bytes:
    assert not isinstance(given, PhotoUrl | FaceId | Embedding)  # those are sent as JSON
    return content_of(given)


def _embeddings(body: bytes) -> Embeddings:
    document = document_of(body)
    try:
        for face in document["faces"]:
            face["embedding"] = unpacked(face["embedding"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer("the answer lacks embeddings") from error
    answer: Embeddings = decoded(Embeddings, document)
    return answer
