"""Embeddings and crops between memory and their columns: checked, and sealed each to its face."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gallery.errors import GalleryDamaged
from service.security.sealing import Sealer


def embedding_context(face_id: str) -> bytes:
    """What a sealed embedding is bound to, so that it cannot be passed off as another face's."""
    return b"embedding:" + face_id.encode()


def crop_context(face_id: str) -> bytes:
    """What a sealed crop is bound to."""
    return b"crop:" + face_id.encode()


class FaceSeal:
    """Writes and reads the columns of one model's embeddings (D,) and of crops, if those are kept."""

    def __init__(self, sealer: Sealer, model_id: str, embedding_size: int, keep_crops: bool) -> None:
        self.sealer = sealer
        self.model_id = model_id
        self.embedding_size = embedding_size
        self.keep_crops = keep_crops

    def columns(self, face_id: str, embedding: NDArray[np.float32], crop: bytes | None) -> dict[str, Any]:
        """The columns of a new face; a crop is left out by a gallery that keeps none."""
        if embedding.shape != (self.embedding_size,):
            raise ValueError(f"an embedding of shape {embedding.shape}, not ({self.embedding_size},)")
        kept = crop if self.keep_crops else None
        return {
            "embedding": self._sealed(embedding.astype("<f4").tobytes(), embedding_context(face_id)),
            "crop": None if kept is None else self._sealed(kept, crop_context(face_id)),
            "sealed_with": self.sealer.current,
            "model_id": self.model_id,
        }

    def embedding(self, face_id: str, data: bytes, sealed_with: str | None) -> NDArray[np.float32]:
        """The embedding, float32 (D,). Raises GalleryDamaged, SealError."""
        plain = self._opened(data, embedding_context(face_id), sealed_with)
        if len(plain) != 4 * self.embedding_size:
            raise GalleryDamaged(
                f"face {face_id} is stored with {len(plain)} bytes instead of {4 * self.embedding_size}; "
                "restore the database from a backup"
            )
        return np.frombuffer(plain, "<f4").astype(np.float32)

    def crop(self, face_id: str, data: bytes, sealed_with: str | None) -> bytes:
        """The crop, WebP. Raises SealError."""
        return self._opened(data, crop_context(face_id), sealed_with)

    def _sealed(self, data: bytes, context: bytes) -> bytes:
        return data if self.sealer.current is None else self.sealer.seal(data, context)

    def _opened(self, data: bytes, context: bytes, sealed_with: str | None) -> bytes:
        return data if sealed_with is None else self.sealer.open(data, context, sealed_with)
