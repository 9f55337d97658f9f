"""API keys: only their digests are stored, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.gallery.database import writing
from service.gallery.tables import api_keys
from service.security.roles import Role

_USE_IS_NOTED_EVERY = timedelta(minutes=1)  # a durable write for every request would be the slowest part of it
_SHOWN = 7  # characters of a key that lists may show, of the 46 of a generated one
_GENERATED_LENGTH = 46


@dataclass(frozen=True)
class ApiKey:
    """A key as the server knows it: everything but the key. prefix: its first characters, for people."""

    id: str
    name: str
    prefix: str
    role: Role


@dataclass(frozen=True)
class IssuedKey:
    """A new key together with its secret, which is shown this once."""

    key: ApiKey
    secret: str


class KeyStore:
    """API keys in the service's database. Safe to use from many threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def bootstrap(self, chosen: str | None) -> IssuedKey | None:
        """Make the first admin key, `chosen` or else random; None if there are keys already."""
        with writing(self._engine).begin() as connection:
            if connection.scalar(sa.select(sa.func.count()).select_from(api_keys)):
                return None
            return _issue(connection, "first admin key", Role.ADMIN, chosen or _generate())

    def create(self, name: str, role: Role) -> IssuedKey:
        """Make a random key."""
        with writing(self._engine).begin() as connection:
            return _issue(connection, name, role, _generate())

    def authenticate(self, secret: str) -> ApiKey | None:
        """The key with this secret, or None; notes its use."""
        digest = _digest(secret)
        with self._engine.begin() as connection:
            # The digest finds the row. It tells a timing attacker nothing: who cannot invert SHA-256
            # cannot steer it, and the rows found are compared in constant time.
            row = connection.execute(sa.select(api_keys).where(api_keys.c.digest == digest)).first()
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        now = datetime.now(UTC)
        if row.last_used_at is None or now - row.last_used_at > _USE_IS_NOTED_EVERY:
            with writing(self._engine).begin() as connection:
                connection.execute(sa.update(api_keys).where(api_keys.c.id == row.id).values(last_used_at=now))
        return ApiKey(row.id, row.name, row.prefix, Role(row.role))


def _generate() -> str:
    return "fm_" + secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    # A plain digest is enough for 256 random bits; slow hashing is for passwords.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _issue(connection: sa.Connection, name: str, role: Role, secret: str) -> IssuedKey:
    # A chosen key may be short, and then its beginning would tell too much of it.
    prefix = secret[:_SHOWN] if len(secret) >= _GENERATED_LENGTH else ""
    key = ApiKey(str(uuid.uuid4()), name, prefix, role)
    connection.execute(
        sa.insert(api_keys).values(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            digest=_digest(secret),
            role=key.role.value,
            created_at=datetime.now(UTC),
        )
    )
    return IssuedKey(key, secret)
