"""What can go wrong in the gallery. `code` is stable: clients switch on it."""

from __future__ import annotations

from typing import ClassVar


class GalleryError(Exception):
    """A request that the gallery cannot grant; the message names the culprit."""

    code: ClassVar[str]


class CollectionNotFound(GalleryError):
    """No collection has this id."""

    code = "collection_not_found"


class SubjectNotFound(GalleryError):
    """No subject of the collection has this id."""

    code = "subject_not_found"


class FaceNotFound(GalleryError):
    """No stored face has this id."""

    code = "face_not_found"


class CollectionPermanent(GalleryError):
    """The collection `default` always exists."""

    code = "collection_permanent"


class SameSubject(GalleryError):
    """A subject cannot be merged into itself."""

    code = "same_subject"


class ModelMismatch(GalleryError):
    """The gallery holds embeddings of another model; those of different models must never be compared."""

    code = "model_mismatch"


class InvalidCursor(GalleryError):
    """A cursor that this server did not hand out for this list."""

    code = "invalid_cursor"


class InvalidEmbedding(GalleryError):
    """Not a finite, non-zero vector of the length that the model produces."""

    code = "invalid_embedding"


class ThresholdUnknown(GalleryError):
    """The checkpoint carries no calibration, so no error rate can be promised."""

    code = "threshold_unknown"


class GalleryUnusable(Exception):
    """The gallery cannot be opened; the message is one line for the operator, with the remedy."""


class GalleryModelMismatch(GalleryUnusable):
    """The gallery holds embeddings of another model, which must never be compared with this one's."""


class GalleryDamaged(GalleryUnusable):
    """A stored embedding does not have the bytes it should have."""
