"""Enrols photos of any source through any way in, several at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import sqlalchemy as sa

from service.gallery.enrolment import FacePolicy, select_faces
from service.gallery.errors import SubjectNotFound
from service.gallery.gallery import Gallery
from service.gallery.records import Changes, Enrolled
from service.recognition.analyser import AnalysedPhoto, Analyser
from service.recognition.crops import encode_crop
from service.recognition.errors import ImageError, Overloaded
from service.transfer.photos import ImportedPhoto, PhotoSource, SubjectName, Unreadable, Unusable
from service.transfer.reports import PhotoReport


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: faces enrolled; 0 without a reason: it was enrolled before; else the reason."""

    faces: int = 0
    reason: str | None = None


Enrol = Callable[[ImportedPhoto], Awaitable[Outcome]]


async def import_photos(
    source: PhotoSource, enrol: Enrol, report: PhotoReport, progressed: Callable[[PhotoReport], None], parallel: int
) -> None:
    """Enrol every photo, at most `parallel` at once; `progressed` is called after each and may raise to stop."""
    report.total = len(source)
    entries = iter(source)

    async def work() -> None:
        for entry in entries:
            if isinstance(entry, Unusable):
                report.reject(entry.label, entry.reason)
            else:
                _note(report, entry, await enrol(entry))
            progressed(report)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _note(report: PhotoReport, photo: ImportedPhoto, outcome: Outcome) -> None:
    if outcome.reason is not None:
        report.reject(photo.label, outcome.reason, photo.subject.id)
    elif outcome.faces:
        report.enrolled += 1
        report.faces += outcome.faces
    else:
        report.skipped += 1


class GalleryEnrolment:
    """Enrols photos straight into a gallery. A photo that its subject has already (by SHA-256) is passed over."""

    def __init__(
        self,
        analyser: Analyser,
        gallery: Gallery,
        collection_id: str,
        policy: FacePolicy,
        max_faces: int,
        then: Callable[[sa.Connection, Enrolled], None] | None = None,
    ) -> None:
        self._analyser = analyser
        self._gallery = gallery
        self._collection_id = collection_id
        self._policy = policy
        self._max_faces = max_faces
        self._then = then
        self._seen: set[tuple[str, str]] = set()

    async def __call__(self, photo: ImportedPhoto) -> Outcome:
        """Enrol one photo. Raises CollectionNotFound."""
        try:
            data = photo.read()
        except Unreadable as error:
            return Outcome(reason=str(error))
        subject = photo.subject
        this = (subject.id, hashlib.sha256(data).hexdigest())
        if this in self._seen or self._gallery.store.is_enrolled(self._collection_id, *this):
            return Outcome()
        self._seen.add(this)
        try:
            seen = await self._analyse(data)
        except ImageError as error:
            return Outcome(reason=error.code)
        encode = encode_crop if self._gallery.store.keep_crops else None
        selection = select_faces([seen], self._policy, encode)
        if not selection.accepted:
            return Outcome(reason=selection.refusal)
        self._name(subject)
        faces = [accepted.face for accepted in selection.accepted]
        self._gallery.enrol(self._collection_id, subject.id, faces, then=self._then)
        return Outcome(faces=len(faces))

    async def _analyse(self, data: bytes) -> AnalysedPhoto:
        """Bulk work gives way: a full queue is waited for, not failed at."""
        while True:
            try:
                return await self._analyser.analyse(data, self._max_faces)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after)

    def _name(self, subject: SubjectName) -> None:
        """A subject whose id is not its name is created with its name; one that exists keeps the name it has."""
        if subject.name == subject.id:
            return
        try:
            self._gallery.store.subject(self._collection_id, subject.id)
        except SubjectNotFound:
            self._gallery.store.create_subject(self._collection_id, subject.id, Changes(name=subject.name))
