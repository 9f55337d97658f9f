"""API keys: only their digests are stored, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from service.gallery.database import writing
from service.gallery.records import Then
from service.gallery.tables import api_keys
from service.security.roles import Role

_USE_IS_NOTED_EVERY = timedelta(minutes=1)  # a durable write for every request would be the slowest part of it
_SHOWN = 7  # characters of a key that lists may show, of the 46 of a generated one
_GENERATED_LENGTH = 46
_ROW = api_keys.c


@dataclass(frozen=True)
class ApiKey:
    """A key as the server knows it: everything but the key. prefix: its first characters, for people.

    collections: ids of those it is for, None for all. expires_at: None for never.
    """

    id: str
    name: str
    prefix: str
    role: Role
    collections: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and datetime.now(UTC) >= self.expires_at

    def opens(self, collection_id: str) -> bool:
        """Whether it is for this collection."""
        return self.collections is None or collection_id in self.collections


@dataclass(frozen=True)
class KeyRecord:
    """A key, and since when it is and was last used."""

    key: ApiKey
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class IssuedKey:
    """A new key together with its secret, which is shown this once."""

    key: ApiKey
    secret: str
    created_at: datetime


class KeyNotFound(Exception):
    """No key has this id."""


class LastAdminKey(Exception):
    """Without this key nobody could administer the service any more."""


class KeyStore:
    """API keys in the service's database. Safe to use from many threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def bootstrap(self, chosen: str | None) -> IssuedKey | None:
        """Make the first admin key, `chosen` or else random; None if there are keys already."""
        with writing(self._engine).begin() as connection:
            if connection.scalar(sa.select(sa.func.count()).select_from(api_keys)):
                return None
            return _issue(connection, _new("first admin key", Role.ADMIN), chosen)

    def create(
        self,
        name: str,
        role: Role,
        collections: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        then: Then[IssuedKey] | None = None,
    ) -> IssuedKey:
        """Make a random key. expires_at: with a time zone."""
        with writing(self._engine).begin() as connection:
            issued = _issue(connection, _new(name, role, collections, expires_at), None)
            if then is not None:
                then(connection, issued)
            return issued

    def all(self) -> list[KeyRecord]:
        """Every key, oldest first."""
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(api_keys).order_by(_ROW.created_at, _ROW.id))
            return [_record(row) for row in rows]

    def get(self, key_id: str) -> KeyRecord:
        """Raises KeyNotFound."""
        with self._engine.begin() as connection:
            return _found(connection, key_id)

    def revoke(self, key_id: str, then: Then[ApiKey] | None = None) -> ApiKey:
        """Remove a key; its next use is refused. Raises KeyNotFound, LastAdminKey."""
        with writing(self._engine).begin() as connection:
            key = _found(connection, key_id).key
            rows = connection.execute(sa.select(api_keys).where(_ROW.role == Role.ADMIN, _ROW.id != key_id))
            others = [_record(row).key for row in rows]
            lasting = [other for other in others if not other.expired and other.collections is None]
            if key.role is Role.ADMIN and key.collections is None and not lasting:
                raise LastAdminKey("this is the last admin key for all collections; make another one first")
            connection.execute(sa.delete(api_keys).where(_ROW.id == key_id))
            if then is not None:
                then(connection, key)
            return key

    def authenticate(self, secret: str) -> ApiKey | None:
        """The key with this secret, expired or not, or None; notes its use."""
        digest = digest_of(secret)
        with self._engine.begin() as connection:
            # The digest finds the row. It tells a timing attacker nothing: who cannot invert SHA-256
            # cannot steer it, and the rows found are compared in constant time.
            row = connection.execute(sa.select(api_keys).where(_ROW.digest == digest)).first()
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        key, now = _record(row).key, datetime.now(UTC)
        if not key.expired and (row.last_used_at is None or now - row.last_used_at > _USE_IS_NOTED_EVERY):
            with writing(self._engine).begin() as connection:
                connection.execute(sa.update(api_keys).where(_ROW.id == row.id).values(last_used_at=now))
        return key


def extent(key: ApiKey) -> dict[str, Any]:
    """Which key it is and what it opens, for the audit log."""
    return {
        "key_id": key.id,
        "role": key.role.value,
        "collections": None if key.collections is None else len(key.collections),
    }


def _generate() -> str:
    return "fm_" + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is stored of a key."""
    # A plain digest is enough for 256 random bits; slow hashing is for passwords.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _new(name: str, role: Role, collections: Sequence[str] | None = None, expires_at: datetime | None = None) -> ApiKey:
    scope = None if collections is None else tuple(sorted(set(collections)))
    return ApiKey(str(uuid.uuid4()), name, "", role, scope, expires_at)


def _issue(connection: sa.Connection, key: ApiKey, chosen: str | None) -> IssuedKey:
    secret = chosen or _generate()
    # A chosen key may be short, and then its beginning would tell too much of it.
    prefix = secret[:_SHOWN] if len(secret) >= _GENERATED_LENGTH else ""
    moment = datetime.now(UTC)
    connection.execute(
        sa.insert(api_keys).values(
            id=key.id,
            name=key.name,
            prefix=prefix,
            digest=digest_of(secret),
            role=key.role.value,
            collections=None if key.collections is None else list(key.collections),
            expires_at=key.expires_at,
            created_at=moment,
        )
    )
    stored = ApiKey(key.id, key.name, prefix, key.role, key.collections, key.expires_at)
    return IssuedKey(stored, secret, moment)


def _found(connection: sa.Connection, key_id: str) -> KeyRecord:
    row = connection.execute(sa.select(api_keys).where(_ROW.id == key_id)).first()
    if row is None:
        raise KeyNotFound("no key has this id")
    return _record(row)


def _record(row: sa.Row[tuple[object, ...]]) -> KeyRecord:
    scope = None if row.collections is None else tuple(row.collections)
    key = ApiKey(row.id, row.name, row.prefix, Role(row.role), scope, row.expires_at)
    return KeyRecord(key, row.created_at, row.last_used_at)
