"""What a write answered, kept for a day, so that the same request sent again gets the same answer.

The answer is sealed under the token and the request it was given for: only who repeats both can read it,
so what the database keeps of it tells nobody of whom it spoke.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.gallery.tables import idempotency

KEPT: Final = timedelta(hours=24)
_NONCE_BYTES: Final = 12
_ROW = idempotency.c


class TokenReused(Exception):
    """The token was sent before, with another request."""


@dataclass(frozen=True)
class TokenedRequest:
    """A request that carries an idempotency key: whose it is, the key, and a digest of what it asks."""

    key_id: str
    token: str
    content: bytes

    @property
    def name(self) -> str:
        """What the token is stored as."""
        return self._derived("name")

    @property
    def fingerprint(self) -> str:
        """Tells this request from another with the same token."""
        return self._derived("fingerprint", self.content)

    def seal(self, answer: bytes) -> bytes:
        """The answer as it is stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._secret).encrypt(nonce, answer, None)

    def open(self, stored: bytes) -> bytes:
        """What `seal` sealed."""
        return AESGCM(self._secret).decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], None)

    @property
    def _secret(self) -> bytes:
        return bytes.fromhex(self._derived("secret", self.content))

    def _derived(self, purpose: str, content: bytes = b"") -> str:
        parts = (purpose.encode(), self.key_id.encode(), self.token.encode(), content)
        return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


@dataclass(frozen=True)
class Remembered:
    """An answer given: its HTTP status and its JSON."""

    status: int
    answer: bytes


def recall(connection: sa.Connection, request: TokenedRequest) -> Remembered | None:
    """The answer that this request has had in the last day, if any. Raises TokenReused."""
    query = sa.select(idempotency).where(_ROW.key_id == request.key_id, _ROW.token == request.name)
    row = connection.execute(query.where(_ROW.at > datetime.now(UTC) - KEPT)).first()
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise TokenReused
    return Remembered(row.status, request.open(row.answer))


def remember(
    connection: sa.Connection,
    request: TokenedRequest,
    remembered: Remembered,
    collection_key: int | None,
    subject_key: int | None,
) -> None:
    """Keep an answer, inside the transaction of the change it tells of; forget those older than a day."""
    now = datetime.now(UTC)
    connection.execute(sa.delete(idempotency).where(_ROW.at <= now - KEPT))
    connection.execute(
        sa.insert(idempotency).values(
            key_id=request.key_id,
            token=request.name,
            fingerprint=request.fingerprint,
            status=remembered.status,
            answer=request.seal(remembered.answer),
            collection_key=collection_key,
            subject_key=subject_key,
            at=now,
        )
    )
