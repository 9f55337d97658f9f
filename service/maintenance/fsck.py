"""Whether a gallery is whole: its database, every seal and embedding, the revision log, snapshots, the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from service.gallery import tables
from service.gallery.sealed import crop_context, embedding_context
from service.recognition.crops import decode_crop
from service.security.audit import AuditLog
from service.security.sealing import Sealer, SealError

_FACES, _SUBJECTS, _REVISIONS = tables.faces.c, tables.subjects.c, tables.revisions.c
_ROWS: Final = 1000
_MOST_FINDINGS: Final = 1000


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and what to do."""

    check: str
    detail: str
    remedy: str


CheckSnapshots = Callable[[dict[str, int]], Iterator[Finding]]
"""Gives the findings, and notes how many snapshots it looked at."""


@dataclass
class Examined:
    """What was looked at, and what was found. findings: the first thousand."""

    checked: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    more: int = 0

    def add(self, finding: Finding) -> None:
        """Note a finding."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = [asdict(finding) for finding in self.findings]
        return {"intact": not found, "checked": self.checked, "findings": found, "findings_left_out": self.more}


def examine(
    engine: sa.Engine, sealer: Sealer, model_id: str, embedding_size: int, snapshots: CheckSnapshots
) -> Examined:
    """Check everything; changes nothing. snapshots: tells what is wrong with the index snapshots."""
    examined = Examined()
    for check in (_database, _revision_log):
        for finding in check(engine, examined.checked):
            examined.add(finding)
    for finding in _faces(engine, sealer, model_id, embedding_size, examined.checked):
        examined.add(finding)
    for finding in snapshots(examined.checked):
        examined.add(finding)
    for finding in _audit(engine, examined.checked):
        examined.add(finding)
    return examined


def _database(engine: sa.Engine, checked: dict[str, int]) -> Iterator[Finding]:
    checked["tables"] = len(tables.metadata.sorted_tables)
    if engine.dialect.name != "sqlite":
        return  # the server checks its own pages (data_checksums, amcheck)
    remedy = "restore the database from a backup"
    with engine.connect() as connection:
        for (verdict,) in connection.exec_driver_sql("PRAGMA integrity_check"):
            if verdict != "ok":
                yield Finding("database", str(verdict), remedy)
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Finding("database", f"row {row[1]} of {row[0]} belongs to no row of {row[2]}", remedy)


def _revision_log(engine: sa.Engine, checked: dict[str, int]) -> Iterator[Finding]:
    """Every face must have been added by a logged change, and none may be there that was logged as erased."""
    remedy = "rows were changed from outside; restore the database from a backup"
    logged, erased = (
        _FACES.key.in_(sa.select(_REVISIONS.face_key).where(_REVISIONS.change == change, _REVISIONS.face_key > 0))
        for change in ("face_added", "face_erased")
    )
    with engine.begin() as connection:
        checked["revisions"] = connection.scalar(sa.select(sa.func.count()).select_from(tables.revisions)) or 0
        for condition, fault in ((~logged, "was never logged as added"), (erased, "was logged as erased")):
            for face_id in connection.scalars(sa.select(_FACES.id).where(condition)):
                yield Finding("revision log", f"face {face_id} {fault}", remedy)


def _faces(
    engine: sa.Engine, sealer: Sealer, model_id: str, embedding_size: int, checked: dict[str, int]
) -> Iterator[Finding]:
    checked["faces"] = 0
    query = sa.select(tables.faces).order_by(_FACES.key)
    with engine.begin() as connection:
        result = connection.execution_options(yield_per=_ROWS).execute(query)
        for rows in result.partitions():
            for row in rows:
                checked["faces"] += 1
                fault = _fault(row, sealer, model_id, embedding_size)
                if fault is not None:
                    yield fault


def _fault(row: sa.Row[Any], sealer: Sealer, model_id: str, embedding_size: int) -> Finding | None:
    """The first thing that is wrong with a face, if any."""
    lost = "erase it and enrol its photo again, or restore the database from a backup"
    if row.model_id != model_id:
        remedy = "serve with the checkpoint of that model, or run `facemargin service reembed`"
        return Finding("model", f"face {row.id} is of model {row.model_id}, the recogniser is {model_id}", remedy)
    try:
        embedding = _opened(sealer, row.embedding, embedding_context(row.id), row.sealed_with)
        crop = None if row.crop is None else _opened(sealer, row.crop, crop_context(row.id), row.sealed_with)
    except SealError as error:
        return Finding(
            "seal", f"face {row.id}: {error}", f"give the key that sealed it; if it was tampered with, {lost}"
        )
    if len(embedding) != 4 * embedding_size:
        return Finding("embedding", f"face {row.id} has {len(embedding)} bytes, not {4 * embedding_size}", lost)
    # Written so that NaN and infinity are findings.
    if not abs(float(np.linalg.norm(np.frombuffer(embedding, "<f4"))) - 1.0) < 1e-3:
        return Finding("embedding", f"face {row.id} is not of unit length", lost)
    return None if crop is None else _crop_fault(row.id, crop)


def _crop_fault(face_id: str, crop: bytes) -> Finding | None:
    try:
        decode_crop(crop)
    except (OSError, ValueError, SyntaxError) as error:
        return Finding("crop", f"face {face_id}: its crop cannot be decoded ({error})", "enrol its photo again")
    return None


def _opened(sealer: Sealer, data: bytes, context: bytes, sealed_with: str | None) -> bytes:
    return data if sealed_with is None else sealer.open(data, context, sealed_with)


def _audit(engine: sa.Engine, checked: dict[str, int]) -> Iterator[Finding]:
    with engine.begin() as connection:
        checked["audit entries"] = connection.scalar(sa.select(sa.func.count()).select_from(tables.audit)) or 0
    broken = AuditLog(engine).verify()
    if broken is not None:
        yield Finding(
            "audit log",
            f"its chain breaks: {broken}",
            "an entry was changed, removed or added from outside; compare with an export or a backup",
        )
