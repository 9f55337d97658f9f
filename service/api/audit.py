"""The audit log, read, exported and verified."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from service.api.calls import Reader
from service.api.dependencies import MayAdministerAll
from service.schemas.security import AuditEntry, AuditHead, AuditList, AuditNoted, AuditParameters, AuditVerdict
from service.security.audit import Entry, Event, Filters, Head

router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[MayAdministerAll])
_NDJSON = "application/x-ndjson"


@router.get("")
def list_audit(caller: Reader, query: Annotated[AuditParameters, Query()]) -> AuditList:
    """List who did what, when, to whom: newest first."""
    filters = Filters(query.collection, query.subject, query.action, query.key_id)
    page = caller.audit.entries(query.cursor, query.limit, filters)
    return AuditList(entries=[_answer(entry) for entry in page.items], next_cursor=page.next_cursor)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {_NDJSON: {}}, "description": "An entry a line, oldest first, with its digests."}},
)
def export_audit(caller: Reader) -> StreamingResponse:
    """Export the whole log, so that it can be kept and verified elsewhere."""
    caller.audit.record(caller.actor, Event("audit.export"), 200)
    headers = {"Content-Disposition": 'attachment; filename="audit.ndjson"'}
    return StreamingResponse(caller.audit.export(), media_type=_NDJSON, headers=headers)


@router.get("/verify")
def verify_audit(caller: Reader, query: Annotated[AuditNoted, Query()]) -> AuditVerdict:
    """Follow the chain of digests: whether an entry was changed, removed or put in, also since a `head` was noted."""
    noted = None if query.number is None or query.digest is None else Head(query.number, query.digest)
    head, broken = caller.audit.head(), caller.audit.verify(noted)
    return AuditVerdict(
        intact=broken is None,
        entries=caller.audit.count(),
        broken_at=broken and broken.number,
        reason=None if broken is None else str(broken),
        head=head and AuditHead(number=head.number, digest=head.digest),
    )


def _answer(entry: Entry) -> AuditEntry:
    return AuditEntry(**{**vars(entry), "details": dict(entry.details)})
