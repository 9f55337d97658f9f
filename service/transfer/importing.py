"""Import of the portable format: line by line, about a thousand faces a transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

import sqlalchemy as sa
from PIL import Image

from service.gallery.bulk import BulkFace, BulkInserted
from service.gallery.gallery import Gallery
from service.transfer.errors import NotPortable, other_model
from service.transfer.format import (
    LONGEST_LINE,
    FaceLine,
    Header,
    decode_base64,
    decode_embedding,
    parse_face,
    parse_header,
)
from service.transfer.lines import LineSplitter
from service.transfer.reports import FaceReport

BATCH: Final = 1000
_DERIVED: Final = uuid.UUID("6f0b6a2e-6a5e-5b0e-9c53-0d2f6f0f7a11")
_CROP_SIZE: Final = (112, 112)
_LARGEST_CROP: Final = 128 * 1024

Rider = Callable[[sa.Connection, BulkInserted], None]


class FaceImport:
    """Feed it the bytes of a portable file as they come; every full batch is durable and searchable at once.

    A face whose id the collection has already is passed over, so a repeated import goes on where one stopped.
    `feed` and `finish` raise TransferError for a file that cannot be imported at all, and CollectionNotFound.
    """

    def __init__(self, gallery: Gallery, collection_id: str, then: Rider | None = None) -> None:
        self.report = FaceReport()
        self._gallery = gallery
        self._collection_id = collection_id
        self._then = then
        self._lines = LineSplitter(LONGEST_LINE)
        self._number = 0
        self._header: Header | None = None
        self._batch: dict[str, BulkFace] = {}
        self._line_of: dict[str, int] = {}
        self._subjects: dict[str, BulkFace] = {}

    def feed(self, chunk: bytes) -> None:
        """Take more of the file."""
        for line in self._lines.feed(chunk):
            self._take(line)

    def finish(self) -> FaceReport:
        """Take the end of the file."""
        for line in self._lines.finish():
            self._take(line)
        if self._header is None:
            raise NotPortable("the file is empty: not even a header")
        self._store()
        report = self.report
        came = report.imported + report.skipped + report.rejected
        report.complete = self._header.faces is None or came >= self._header.faces
        report.model = self._gallery.store.model_id
        return report

    def _take(self, line: bytes | None) -> None:
        self._number += 1
        if line is not None and not line.strip():
            return
        if self._header is None:
            self._header = self._checked(parse_header(line or b""))
        elif line is None:
            self.report.reject(self._number, f"longer than {LONGEST_LINE} bytes")
        else:
            try:
                self._add(parse_face(line))
            except ValueError as error:
                self.report.reject(self._number, str(error))
        if len(self._batch) >= BATCH or len(self._subjects) >= BATCH:
            self._store()

    def _checked(self, header: Header) -> Header:
        if header.model != self._gallery.store.model_id:
            raise other_model(header.model, self._gallery.store.model_id)
        return header

    def _add(self, line: FaceLine) -> None:
        store = self._gallery.store
        if line.model is not None and line.model != store.model_id:
            raise ValueError(f"model: {line.model}, but this gallery is of {store.model_id}")
        if line.embedding is None:
            self._subjects.setdefault(line.subject_id, _bulk_subject(line))
            return
        embedding = decode_embedding(line.embedding, store.embedding_size)
        crop = None if line.crop is None or not store.keep_crops else checked_crop(line.crop)
        face_id = line.face_id or str(
            uuid.uuid5(_DERIVED, "\n".join((self._collection_id, line.subject_id, line.embedding)))
        )
        if face_id in self._batch:
            self.report.skipped += 1
            return
        box = line.box
        self._line_of[face_id] = self._number
        self._batch[face_id] = BulkFace(
            subject_id=line.subject_id,
            name=line.name or line.subject_id,
            metadata=line.metadata,
            face_id=face_id,
            embedding=embedding,
            quality=line.quality,
            detection_score=line.detection_score,
            box=(box.x, box.y, box.width, box.height),
            source_digest=line.source_digest,
            created_at=line.created_at or datetime.now(UTC),
            crop=crop,
        )

    def _store(self) -> None:
        faces = [*self._subjects.values(), *self._batch.values()]
        if not faces:
            return
        stored = self._gallery.import_faces(self._collection_id, faces, then=self._then)
        self.report.imported += len(stored.keys)
        self.report.subjects_created += stored.subjects_created
        self.report.skipped += stored.skipped
        self.report.gallery_revision = stored.revision
        for face_id in stored.elsewhere:
            self.report.reject(
                self._line_of[face_id], "face_id: used by another collection; leave it out to import the face again"
            )
        self._batch, self._subjects, self._line_of = {}, {}, {}


def import_faces(gallery: Gallery, collection_id: str, chunks: Iterable[bytes]) -> FaceReport:
    """Import a whole portable file. Raises TransferError, CollectionNotFound."""
    importing = FaceImport(gallery, collection_id)
    for chunk in chunks:
        importing.feed(chunk)
    return importing.finish()


def checked_crop(text: str) -> bytes:
    """Base64 -> the bytes of a WebP of 112x112 pixels that decodes. Raises ValueError."""
    data = decode_base64("crop", text)
    if len(data) > _LARGEST_CROP:
        raise ValueError(f"crop: {len(data)} bytes, at most {_LARGEST_CROP} are taken")
    try:
        with Image.open(BytesIO(data), formats=("WEBP",)) as image:
            if image.size != _CROP_SIZE:
                raise ValueError(f"crop: {image.width}x{image.height} pixels, not 112x112")
            image.load()
    except (OSError, SyntaxError, RuntimeError) as error:
        raise ValueError("crop: no WebP that can be read") from error
    return data


def _bulk_subject(line: FaceLine) -> BulkFace:
    return BulkFace(line.subject_id, line.name or line.subject_id, line.metadata)
