"""The gallery as the API sees it: the store and its index kept in step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.gallery.errors import GalleryDamaged, InvalidEmbedding
from service.gallery.index import FlatIndex, VectorIndex
from service.gallery.records import Enrolled, Erased, NewFace
from service.gallery.store import GalleryStore
from service.gallery.subjects import SubjectIndex


@dataclass(frozen=True)
class Candidate:
    """A subject that a searched face may be: its most similar face and that face's cosine in [-1, 1]."""

    subject_id: str
    name: str
    face_id: str
    similarity: float


class Gallery:
    """Known faces, searchable the moment an enrolment returns. Safe to use from many threads.

    `store` may be read directly; what changes faces goes through here, so that the index follows.
    """

    def __init__(self, store: GalleryStore, new_index: Callable[[], VectorIndex]) -> None:
        self.store = store
        self._new_index = new_index
        self._indexes: dict[int, SubjectIndex] = {}
        # One change at a time, from commit to index, so that the index sees them in the store's order.
        self._changing = threading.Lock()

    @classmethod
    def open(cls, store: GalleryStore, embedding_size: int) -> Gallery:
        """Build the index from the store. Raises GalleryModelMismatch, GalleryDamaged."""
        store.check_model()
        gallery = cls(store, lambda: FlatIndex(embedding_size))
        for block in store.stream():
            for collection_key in np.unique(block.collections).tolist():
                chosen = block.collections == collection_key
                try:
                    gallery._index(collection_key).add(
                        block.faces[chosen], block.subjects[chosen], block.vectors[chosen]
                    )
                except InvalidEmbedding as error:
                    raise GalleryDamaged(
                        f"a stored embedding is damaged ({error}); restore the database from a backup"
                    ) from error
        return gallery

    def enrol(
        self, collection_id: str, subject_id: str, faces: Sequence[NewFace], *, create_subject: bool = True
    ) -> Enrolled:
        """Add faces to a subject; on return they are durable and searchable.

        Raises CollectionNotFound, or SubjectNotFound when it is missing and not to be created.
        """
        with self._changing:
            enrolled = self.store.enrol(collection_id, subject_id, faces, create_subject=create_subject)
            self._index(enrolled.collection_key).add(
                enrolled.keys,
                np.full(len(faces), enrolled.subject_key, np.int64),
                np.stack([face.embedding for face in faces]),
            )
        return enrolled

    def erase_face(self, collection_id: str, subject_id: str, face_id: str) -> Erased:
        """Erase one face. Raises CollectionNotFound, SubjectNotFound, FaceNotFound."""
        with self._changing:
            return self._forget(self.store.erase_face(collection_id, subject_id, face_id))

    def erase_subject(self, collection_id: str, subject_id: str) -> Erased:
        """Erase a subject and its faces. Raises CollectionNotFound, SubjectNotFound."""
        with self._changing:
            return self._forget(self.store.erase_subject(collection_id, subject_id))

    def erase_collection(self, collection_id: str) -> Erased:
        """Erase a collection and all in it. Raises CollectionNotFound, CollectionPermanent."""
        with self._changing:
            erased = self.store.erase_collection(collection_id)
            self._indexes.pop(erased.collection_key, None)
            return erased

    def searchable_subjects(self, collection_id: str) -> int:
        """How many subjects a search of this collection compares with. Raises CollectionNotFound."""
        index = self._indexes.get(self.store.collection(collection_id).key)
        return 0 if index is None else index.subjects

    def search(self, collection_id: str, queries: NDArray[np.float32], top_k: int) -> list[list[Candidate]]:
        """The `top_k` most similar subjects for each of (Q, D) unit embeddings, best first.

        Raises CollectionNotFound, InvalidEmbedding.
        """
        index = self._indexes.get(self.store.collection(collection_id).key)
        if index is None or len(queries) == 0:
            return [[] for _ in queries]
        ranked = index.search(queries, top_k)
        owners = self.store.owners(sorted({hit.face_key for hits in ranked for hit in hits}))
        return [
            [
                Candidate(owner.subject_id, owner.name, owner.face_id, hit.similarity)
                for hit in hits
                # A face erased since the index was read has no owner any more.
                if (owner := owners.get(hit.face_key)) is not None
            ]
            for hits in ranked
        ]

    def _index(self, collection_key: int) -> SubjectIndex:
        if collection_key not in self._indexes:
            self._indexes[collection_key] = SubjectIndex(self._new_index())
        return self._indexes[collection_key]

    def _forget(self, erased: Erased) -> Erased:
        index = self._indexes.get(erased.collection_key)
        if index is not None and len(erased.keys):
            index.remove(erased.keys)
        return erased
