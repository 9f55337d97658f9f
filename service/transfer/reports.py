"""What became of an import, bounded however much is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

MOST_ENTRIES: Final = 1000
"""Rejected lines or photos that a report names; the rest are counted."""


@dataclass
class FaceReport:
    """Faces of a portable file. complete: as many faces came as the header announced."""

    model: str = ""
    imported: int = 0
    skipped: int = 0
    rejected: int = 0
    subjects_created: int = 0
    gallery_revision: int = 0
    complete: bool = True
    errors: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, line: int, reason: str) -> None:
        """Note a line (from 1) that is left out, and why."""
        self.rejected += 1
        if len(self.errors) < MOST_ENTRIES:
            self.errors.append({"line": line, "reason": reason})

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.model,
            "imported": self.imported,
            "skipped": self.skipped,
            "rejected": self.rejected,
            "subjects_created": self.subjects_created,
            "complete": self.complete,
            "gallery_revision": self.gallery_revision,
            "errors": self.errors,
            "errors_left_out": self.rejected - len(self.errors),
        }


@dataclass
class PhotoReport:
    """Photos of an import. skipped: enrolled before; total is None until it is known; most: entries in `errors`."""

    total: int | None = None
    enrolled: int = 0
    faces: int = 0
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, Any]] = field(default_factory=list)
    most: int = MOST_ENTRIES

    @property
    def rejected(self) -> int:
        """How many photos were left out."""
        return self.reasons.total()

    @property
    def done(self) -> int:
        """How many photos were dealt with."""
        return self.enrolled + self.skipped + self.rejected

    def reject(self, photo: str, reason: str, subject_id: str | None = None) -> None:
        """Note a photo that is left out, and why, by a stable word."""
        self.reasons[reason] += 1
        if len(self.errors) < self.most:
            self.errors.append({"photo": photo, "subject_id": subject_id, "reason": reason})

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "photos": self.done,
            "enrolled": self.enrolled,
            "faces": self.faces,
            "skipped": self.skipped,
            "rejected": self.rejected,
            "reasons": dict(self.reasons),
            "errors": self.errors,
            "errors_left_out": self.rejected - len(self.errors),
        }
