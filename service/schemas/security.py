"""Requests and answers about keys and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

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


class AuditNoted(Strict):
    """A `head` of an earlier day, as it was noted elsewhere."""

    number: int | None = Field(None, ge=1, le=2**63 - 1, description="The entry's number, together with `digest`.")
    digest: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="The entry's digest.")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.number is None) is not (self.digest is None):
            raise ValueError("number and digest go together")
        return self


class AuditHead(Answer):
    """The newest entry. Noted elsewhere, it proves later that nothing up to it was altered."""

    number: int
    digest: str


class AuditVerdict(Answer):
    """Whether the chain of digests holds from the first entry to the last."""

    intact: bool
    entries: int
    broken_at: int | None = Field(description="The first entry that does not fit.")
    reason: str | None
    head: AuditHead | None = Field(description="Null for an empty log.")
