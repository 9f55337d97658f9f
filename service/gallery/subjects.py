"""Ranks subjects, each by its best face, over a vector index of faces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.gallery.index import VectorIndex
from service.gallery.records import Total
from service.gallery.vector_state import VectorState


@dataclass(frozen=True)
class Hit:
    """A subject near a query: its best face and that face's cosine in [-1, 1]."""

    subject_key: int
    face_key: int
    similarity: float


@dataclass(frozen=True)
class SubjectState:
    """What a subject index holds: face keys int64 (N,), the subject of each, and the vectors."""

    faces: NDArray[np.int64]
    subjects: NDArray[np.int64]
    vectors: VectorState


class SubjectIndex:
    """One collection's faces, and whose each is. Searched by many threads, changed by one at a time."""

    def __init__(self, vectors: VectorIndex) -> None:
        self._vectors = vectors
        self._subject_of: dict[int, int] = {}
        self._faces_of: Counter[int] = Counter()

    @classmethod
    def restored(cls, vectors: VectorIndex, faces: NDArray[np.int64], subjects: NDArray[np.int64]) -> SubjectIndex:
        """Over vectors that are there already: face keys (N,), and the subject of each."""
        index = cls(vectors)
        index._subject_of = dict(zip(faces.tolist(), subjects.tolist(), strict=True))
        index._faces_of = Counter(index._subject_of.values())
        return index

    @property
    def faces(self) -> int:
        """How many faces can be found."""
        return len(self._vectors)

    @property
    def subjects(self) -> int:
        """How many subjects have at least one face."""
        return len(self._faces_of)

    @property
    def kind(self) -> str:
        """What the index of its vectors is."""
        return self._vectors.kind

    def total(self) -> Total:
        """What it holds, in two numbers."""
        return Total(len(self._vectors), sum(self._subject_of))

    def state(self) -> SubjectState:
        """What it holds, to be saved. Nothing may change it meanwhile."""
        faces = np.fromiter(self._subject_of.keys(), np.int64, len(self._subject_of))
        subjects = np.fromiter(self._subject_of.values(), np.int64, len(self._subject_of))
        return SubjectState(faces, subjects, self._vectors.state())

    def add(self, faces: NDArray[np.int64], subjects: NDArray[np.int64], embeddings: NDArray[np.float32]) -> None:
        """Make N faces searchable: keys (N,), their subjects (N,), unit vectors (N, D)."""
        owners = dict(zip(faces.tolist(), subjects.tolist(), strict=True))
        # Owners first: a search that runs in between must know whose every vector is.
        self._subject_of.update(owners)
        self._vectors.add(faces, embeddings)
        self._faces_of.update(owners.values())

    def remove(self, faces: NDArray[np.int64]) -> None:
        """Make these faces unfindable; those already gone are passed over."""
        self._vectors.remove(faces)
        for face in faces.tolist():
            owner = self._subject_of.pop(face, None)
            if owner is None:
                continue
            self._faces_of[owner] -= 1
            if self._faces_of[owner] == 0:
                del self._faces_of[owner]

    def move(self, faces: NDArray[np.int64], subject: int) -> None:
        """Make these faces this subject's; those that are not there are passed over."""
        for face in faces.tolist():
            owner = self._subject_of.get(face)
            if owner is None or owner == subject:
                continue
            self._subject_of[face] = subject
            self._faces_of[subject] += 1
            self._faces_of[owner] -= 1
            if self._faces_of[owner] == 0:
                del self._faces_of[owner]

    def search(self, queries: NDArray[np.float32], top_k: int) -> list[list[Hit]]:
        """The `top_k` best subjects for each of (Q, D) unit queries, best first; exact if the index is."""
        count = 4 * top_k
        while True:
            similarities, keys = self._vectors.search(queries, count)
            ranked = [self._best(row, owners) for row, owners in zip(similarities.tolist(), keys.tolist(), strict=True)]
            exhausted = keys.shape[1] < count
            if exhausted or all(len(hits) >= top_k for hits in ranked):
                return [hits[:top_k] for hits in ranked]
            # The nearest faces belong to too few subjects: look further down.
            count *= 4

    def _best(self, similarities: list[float], faces: list[int]) -> list[Hit]:
        best: dict[int, Hit] = {}
        for similarity, face in zip(similarities, faces, strict=True):
            subject = self._subject_of.get(face)
            if subject is not None and subject not in best:
                best[subject] = Hit(subject, face, similarity)
        return list(best.values())
