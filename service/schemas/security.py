"""Requests and answers about keys and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from service.schemas.parts import Answer, Identifier, Name, Strict


class KeyBody(Strict):
    """A key to make."""

    name: Name = Field(description="Who or what will use it.", examples=["door camera"])
    role: Literal["read", "enrol", "admin"]
    collections: Annotated[list[Identifier], Field(min_length=1, max_length=100)] | None = Field(
        None, description="The only collections it is for; all without."
    )
    expires_at: AwareDatetime | None = Field(
        None, description="When it ends, with a time zone.", examples=["2031-01-01T00:00:00Z"]
    )


class KeyAnswer(Answer):
    """A key, without its secret."""

    id: str
    name: str
    role: Literal["read", "enrol", "admin"]
    prefix: str = Field(description="Its first characters, to tell keys apart; empty for a key that was chosen.")
    collections: list[str] | None
    expires_at: datetime | None
    created_at: datetime | None = Field(description="Null with authentication off.")
    last_used_at: datetime | None = Field(description="To the minute.")


class IssuedKeyAnswer(KeyAnswer):
    """A new key with its secret, which is shown this once."""

    secret: str


class KeyList(Answer):
    """Every key, oldest first."""

    keys: list[KeyAnswer]


class AuditParameters(Strict):
    """Which entries."""

    limit: int = Field(100, ge=1, le=1000, description="Most entries to return.")
    cursor: str | None = Field(None, max_length=128, description="`next_cursor` of the part before.")
    collection: Identifier | None = Field(None, description="About this collection.")
    subject: Identifier | None = Field(None, description="About this subject, while it exists.")
    action: str | None = Field(None, max_length=64, description="Of this kind.", examples=["enrol"])
    key_id: str | None = Field(None, max_length=36, description="By this key.")


class AuditEntry(Answer):
    """Who did what, when, to whom. Of the erased only the numbers are left."""

    number: int
    at: datetime
    key_id: str | None
    actor: str
    action: str
    outcome: int = Field(description="HTTP status of the answer.")
    collection_key: int | None
    collection_id: str | None
    subject_key: int | None
    subject_id: str | None
    request_id: str
    details: dict[str, Any]


class AuditList(Answer):
    """Entries, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None


class AuditVerdict(Answer):
    """Whether the chain of digests holds from the first entry to the last."""

    intact: bool
    entries: int
    broken_at: int | None = Field(description="The first entry that does not fit.")
    reason: str | None
