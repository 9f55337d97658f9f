"""API keys: who holds which, made and revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Request

from service.api.calls import Caller, Reader
from service.api.dependencies import MayAdministerAll, authenticated
from service.errors import Problem
from service.schemas.security import IssuedKeyAnswer, KeyAnswer, KeyBody, KeyList
from service.security.audit import Event, append
from service.security.keys import ApiKey, IssuedKey, KeyNotFound, KeyRecord, KeyStore, LastAdminKey, extent
from service.security.roles import Role

router = APIRouter(prefix="/v1/keys", tags=["keys"])
KeyPath = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$", description="Its id, not the key itself.")]


def _keys(request: Request) -> KeyStore:
    keys: KeyStore = request.app.state.keys
    return keys


Keys = Annotated[KeyStore, Depends(_keys)]


@router.get("/self")
def get_own_key(keys: Keys, key: Annotated[ApiKey, Depends(authenticated)]) -> KeyAnswer:
    """Get what the key that is sent is, and what it is for."""
    try:
        return _answer(keys.get(key.id))
    except KeyNotFound:
        return KeyAnswer(**_fields(key), created_at=None, last_used_at=None)


@router.get("", dependencies=[MayAdministerAll])
def list_keys(keys: Keys) -> KeyList:
    """List every key, without the secrets."""
    return KeyList(keys=[_answer(record) for record in keys.all()])


@router.post("", status_code=201, dependencies=[MayAdministerAll])
def create_key(keys: Keys, caller: Reader, body: KeyBody) -> IssuedKeyAnswer:
    """Make a key. Its secret is in this answer and never again."""
    # Not by a Caller: what is kept to answer a repeated request alike would hold the secret.
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise Problem(400, "invalid_request", "expires_at: lies in the past")

    def audited(connection: sa.Connection, issued: IssuedKey) -> None:
        append(connection, caller.actor, Event("key.create", details=extent(issued.key)), 201)

    return _issued(keys.create(body.name, Role(body.role), body.collections, body.expires_at, then=audited))


@router.delete("/{key}", dependencies=[MayAdministerAll])
def revoke_key(key: KeyPath, keys: Keys, caller: Caller) -> KeyAnswer:
    """Revoke a key: its next use is refused."""
    if key == caller.key.id:
        raise Problem(409, "own_key", "a key cannot revoke itself; use another admin key")
    try:
        return _revoked(keys.revoke(key, then=caller.rider("key.revoke", _revoked, details=extent)))
    except KeyNotFound as error:
        raise Problem(404, "key_not_found", str(error)) from error
    except LastAdminKey as error:
        raise Problem(409, "last_admin_key", str(error)) from error


def _fields(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role.value,
        "prefix": key.prefix,
        "collections": None if key.collections is None else sorted(key.collections),
        "expires_at": key.expires_at,
    }


def _answer(record: KeyRecord) -> KeyAnswer:
    document = {**_fields(record.key), "created_at": record.created_at, "last_used_at": record.last_used_at}
    return KeyAnswer.model_validate(document)


def _revoked(key: ApiKey) -> KeyAnswer:
    return KeyAnswer.model_validate({**_fields(key), "created_at": None, "last_used_at": None})


def _issued(issued: IssuedKey) -> IssuedKeyAnswer:
    document = {**_fields(issued.key), "created_at": issued.created_at, "last_used_at": None, "secret": issued.secret}
    return IssuedKeyAnswer.model_validate(document)
