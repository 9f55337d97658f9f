"""What the gallery hands out and takes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")
Then = Callable[[sa.Connection, R], None]
"""What rides along with a write: called with its result inside its transaction, so both are durable or neither is."""
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the upright photo."""


@dataclass(frozen=True)
class Collection:
    """A set of subjects that are searched together. `key` is the database's own number."""

    key: int
    id: str
    name: str
    metadata: Mapping[str, Any]
    created_at: datetime
    subjects: int
    faces: int


@dataclass(frozen=True)
class Subject:
    """A person in a collection."""

    key: int
    collection_key: int
    id: str
    name: str
    metadata: Mapping[str, Any]
    created_at: datetime
    faces: int


@dataclass(frozen=True)
class StoredFace:
    """An enrolled face, without its embedding.

    source_digest: SHA-256 of the photo, which is not kept. crop: whether its aligned crop is.
    """

    key: int
    id: str
    quality: float
    detection_score: float
    box: Box
    source_digest: str
    model_id: str
    crop: bool
    created_at: datetime


@dataclass(frozen=True)
class NewFace:
    """A face to enrol. embedding: float32 (D,) of unit length; quality and detection_score in [0, 1].

    crop: the aligned crop as lossless WebP, stored only by a gallery that keeps crops.
    """

    embedding: NDArray[np.float32]
    quality: float
    detection_score: float
    box: Box
    source_digest: str
    crop: bytes | None = None


@dataclass(frozen=True)
class Changes:
    """What a PATCH or PUT sets; None leaves a field as it is."""

    name: str | None = None
    metadata: Mapping[str, Any] | None = None

    def columns(self) -> dict[str, Any]:
        """Column values to write."""
        given = {"name": self.name, "metadata": None if self.metadata is None else dict(self.metadata)}
        return {column: value for column, value in given.items() if value is not None}


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows of a list, and the cursor of the next page, None at the end."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True)
class Enrolled:
    """Faces that are now durable. keys: int64 (N,), in the order given."""

    collection_key: int
    subject_key: int
    face_ids: list[str]
    keys: NDArray[np.int64]
    revision: int


@dataclass(frozen=True)
class Erased:
    """What an erasure removed. keys: int64 (N,) of the faces that are gone. subject_key: None for a collection."""

    collection_key: int
    subject_key: int | None
    subjects: int
    keys: NDArray[np.int64]
    revision: int
    erased_at: datetime


@dataclass(frozen=True)
class Merged:
    """Two subjects that became one. subject: the one that stays. keys: int64 (N,) of the faces it took over."""

    subject: Subject
    source_key: int
    keys: NDArray[np.int64]
    revision: int

    @property
    def collection_key(self) -> int:
        """The collection of both."""
        return self.subject.collection_key

    @property
    def subject_key(self) -> int:
        """The subject that stays."""
        return self.subject.key

    @property
    def faces_moved(self) -> int:
        """How many faces it took over."""
        return len(self.keys)


@dataclass(frozen=True)
class StoredEmbeddings:
    """Some embeddings as the index takes them: keys int64 (N,) of each, vectors float32 (N, D)."""

    faces: NDArray[np.int64]
    subjects: NDArray[np.int64]
    collections: NDArray[np.int64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """An entry of the revision log."""

    revision: int
    change: str
    collection_key: int
    subject_key: int | None
    face_key: int | None


@dataclass(frozen=True)
class News:
    """What the log has after some revision, and the embeddings of the faces it added that still exist."""

    changes: list[Change]
    added: StoredEmbeddings


@dataclass(frozen=True)
class Total:
    """How many faces there are, and the sum of their keys, which tells nearly any two sets of them apart."""

    faces: int
    keys: int


@dataclass(frozen=True)
class Owner:
    """Whose a face is."""

    subject_id: str
    name: str
    face_id: str
