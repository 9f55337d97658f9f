"""Made-up faces for tests of the gallery: each is a direction drawn from its number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.gallery.gallery import Gallery
from service.gallery.records import NewFace

SIZE = 32
MODEL = "test@0123456789ab"


def unit(seed: int) -> NDArray[np.float32]:
    """(SIZE,) of unit length."""
    vector = np.random.default_rng(seed).normal(size=SIZE)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def face(seed: int, crop: bytes | None = None) -> NewFace:
    """A face of that direction."""
    return NewFace(unit(seed), 0.8, 0.95, (1.0, 2.0, 30.0, 40.0), f"{seed:064x}", crop)


def best(gallery: Gallery, seed: int, collection: str = "default") -> tuple[str, float]:
    """The subject nearest to a face, and its similarity."""
    candidate = gallery.search(collection, unit(seed)[None], 1)[0][0]
    return candidate.subject_id, candidate.similarity


def found(gallery: Gallery, seed: int, collection: str = "default") -> str | None:
    """The subject that has this very face, if searches know of one."""
    (candidates,) = gallery.search(collection, unit(seed)[None], 1)
    return candidates[0].subject_id if candidates and candidates[0].similarity > 0.999 else None
