"""What writes tell: the caller by a receipt, the audit log by counts."""

from __future__ import annotations

from service.gallery.records import Collection, Enrolled, Erased, Subject
from service.schemas.gallery import EraseReceipt


def receipt_of(erased: Erased, collection: str, subject: str | None = None, face: str | None = None) -> EraseReceipt:
    """The receipt of an erasure, in the ids the caller named."""
    return EraseReceipt(
        collection=collection,
        subject_id=subject,
        face_id=face,
        subjects_erased=erased.subjects,
        faces_erased=len(erased.keys),
        gallery_revision=erased.revision,
        erased_at=erased.erased_at,
    )


def tally(changed: Enrolled | Erased) -> dict[str, int]:
    """How many faces came or went, for the audit log."""
    return {"faces": len(changed.keys), "revision": changed.revision}


def put_status(stored: tuple[Collection, bool] | tuple[Subject, bool]) -> int:
    """201 for what a PUT created, 200 for what was there."""
    return 201 if stored[1] else 200
