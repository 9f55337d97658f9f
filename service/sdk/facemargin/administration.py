"""Calls about bulk work, keys, the audit log and the service itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from facemargin.answers import (
    AuditEntry,
    AuditVerdict,
    FacePolicy,
    Import,
    IssuedKey,
    Job,
    JobAccepted,
    Key,
    Model,
    Readiness,
    Role,
    Status,
)
from facemargin.asking import Ask, Download, Listing, Source, Upload, given, listing, once, path_of
from facemargin.decoding import decoded, document_of, reads
from facemargin.errors import UnexpectedAnswer
from facemargin.gallery import PART
from facemargin.retrying import Repeat

T = TypeVar("T")


def import_faces(content: Source | Iterable[bytes], *, collection: str = "default") -> Ask[Import]:
    """Import embeddings in the portable format: a file, or its pieces as they come.

    What the collection has already is passed over, so that an import that was cut off can be sent again.
    """
    upload = Upload(content)
    path = path_of("collections", collection, "import")
    headers = {"Content-Type": "application/x-ndjson"}
    return Ask("POST", path, reads(Import), upload=upload, headers=headers, repeat=_again(upload))


def import_photos(
    archive: Source | Iterable[bytes], *, collection: str = "default", face_policy: FacePolicy = "single"
) -> Ask[JobAccepted]:
    """Import a zip of `subject/photo.jpg`. The photos are enrolled by a job; see `wait_for_job`."""
    upload = Upload(archive)
    path = path_of("collections", collection, "import")
    headers = {"Content-Type": "application/zip"}
    query = {"face_policy": face_policy}
    return Ask("POST", path, reads(JobAccepted), query, upload=upload, headers=headers, repeat=_again(upload))


def export(*, collection: str = "default") -> Download:
    """A collection's embeddings and metadata in the portable format, piece by piece."""
    return Download(path_of("collections", collection, "export"))


def jobs(*, limit: int = 50) -> Ask[tuple[Job, ...]]:
    """The newest jobs, newest first."""
    return Ask("GET", path_of("jobs"), lambda body: _listed(body, "jobs", Job), {"limit": limit})


def job(job: str) -> Ask[Job]:
    """How far a job is."""
    return Ask("GET", path_of("jobs", job), reads(Job))


def cancel_job(job: str) -> Ask[Job]:
    """End a job, if it has not ended; what it has enrolled stays."""
    return Ask("POST", path_of("jobs", job, "cancel"), reads(Job), headers=once())


def keys() -> Ask[tuple[Key, ...]]:
    """Every key, oldest first."""
    return Ask("GET", path_of("keys"), lambda body: _listed(body, "keys", Key))


def own_key() -> Ask[Key]:
    """The key that this client sends."""
    return Ask("GET", path_of("keys", "self"), reads(Key))


def create_key(
    name: str, role: Role, *, collections: Iterable[str] | None = None, expires_at: datetime | None = None
) -> Ask[IssuedKey]:
    """Make a key. Its secret is in this answer and never again, so the service keeps nothing to answer it twice.

    collections: the only ones it is for; all without. expires_at: with a time zone.
    """
    document = given(
        name=name,
        role=role,
        collections=None if collections is None else list(collections),
        expires_at=expires_at and expires_at.isoformat(),
    )
    return Ask("POST", path_of("keys"), reads(IssuedKey), json=document, repeat=Repeat.IF_UNDONE)


def revoke_key(key: str) -> Ask[Key]:
    """Revoke the key with this id."""
    return Ask("DELETE", path_of("keys", key), reads(Key), headers=once())


def audit(
    *, collection: str | None = None, subject: str | None = None, action: str | None = None, key_id: str | None = None
) -> Listing[AuditEntry]:
    """Who did what, when, to whom: newest first."""
    query = {"collection": collection, "subject": subject, "action": action, "key_id": key_id, "limit": PART}
    return listing(path_of("audit"), "entries", AuditEntry, query)


def export_audit() -> Download:
    """The whole audit log, a JSON document a line, oldest first."""
    return Download(path_of("audit", "export"))


def verify_audit(*, number: int | None = None, digest: str | None = None) -> Ask[AuditVerdict]:
    """Whether the audit log was altered, also since an earlier `head` was noted elsewhere."""
    return Ask("GET", path_of("audit", "verify"), reads(AuditVerdict), {"number": number, "digest": digest})


def model() -> Ask[Model]:
    """The models in use and how they were calibrated."""
    return Ask("GET", path_of("model"), reads(Model))


def status() -> Ask[Status]:
    """How the service is doing."""
    return Ask("GET", path_of("status"), reads(Status))


def metrics() -> Ask[str]:
    """Figures in the text format of Prometheus."""
    return Ask("GET", "/metrics", bytes.decode)


def ready() -> Ask[Readiness]:
    """Whether requests can be served. Asked once: raises Problem `loading`, `not_ready` or `draining` if not."""
    return Ask("GET", "/readyz", reads(Readiness), repeat=Repeat.NEVER)


def _again(upload: Upload) -> Repeat:
    return Repeat.ALWAYS if upload.restartable else Repeat.NEVER


def _listed(body: bytes, member: str, kind: type[T]) -> tuple[T, ...]:
    document = document_of(body)
    if not isinstance(document, dict) or member not in document:
        raise UnexpectedAnswer(f"the answer lacks the list `{member}`")
    return tuple(decoded(kind, item) for item in document[member])
