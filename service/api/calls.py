"""A call by somebody: what it leaves in the audit log, and how it is answered only once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from weakref import WeakValueDictionary

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header

from service.api.dependencies import authenticated, check_collection, loaded
from service.api.early import Answered
from service.api.etags import etag_of, lists
from service.errors import Problem
from service.gallery.records import Collection, Enrolled, Erased, Merged, Subject, Then
from service.idempotency import Remembered, TokenedRequest, TokenReused, recall, remember
from service.security.audit import Actor, AuditLog, Event, append
from service.security.keys import ApiKey

R = TypeVar("R")
Details = Mapping[str, Any]

_TOKEN = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=255,
    pattern=r"^[\x21-\x7e]+$",
    description="Any token of the caller's. The same request with the same token is done once, and answered alike "
    "for 24 hours (then with `Idempotency-Replayed: true`).",
    examples=["3f0c9c1e-enrol-ada"],
)
_IF_MATCH = Header(
    alias="If-Match",
    max_length=1024,
    description="The ETag of a read: the write is refused (412) if the gallery has changed since.",
)


class Turns:
    """Lets the requests that carry the same token pass one after the other."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, key_id: str, token: str) -> asyncio.Lock:
        """The lock of a token. Hold on to it: it is forgotten with the last who does."""
        return self._locks.setdefault((key_id, token), asyncio.Lock())


@dataclass(frozen=True)
class Call:
    """A request by the holder of a key.

    tokened: set if it is to be done once. unchanged: raises Problem (412) if the gallery is not as required.
    """

    key: ApiKey
    actor: Actor
    audit: AuditLog
    tokened: TokenedRequest | None = None
    unchanged: Callable[[], None] | None = None

    def rider(
        self,
        action: str,
        answer: Callable[[R], BaseModel],
        status: int | Callable[[R], int] = 200,
        details: Callable[[R], Details] = lambda _: {},
    ) -> Then[R]:
        """What rides in the transaction of a write: its audit entry, and its answer if it carries a token.

        answer, status: what the caller will get for the write's result. details: numbers for the log, no
        names. In the transaction it raises Problem (412, 422), or Answered if the write was done before.
        """

        def ride(connection: sa.Connection, result: R) -> None:
            if self.unchanged is not None:
                self.unchanged()
            code = status if isinstance(status, int) else status(result)
            collection_key, subject_key = _numbers(result)
            append(connection, self.actor, Event(action, collection_key, subject_key, details(result)), code)
            if self.tokened is not None:
                _replay(_recalled(connection, self.tokened))
                remembered = Remembered(code, answer(result).model_dump_json().encode())
                remember(connection, self.tokened, remembered, collection_key, subject_key)

        return ride

    async def check_collection(self, collection_id: str) -> None:
        """Whether the key is for a collection that is named elsewhere than in the path. Raises Problem (403)."""
        try:
            check_collection(self.key, collection_id)
        except Problem as problem:
            await self.record(Event("denied", details={"code": problem.code}), problem.status_code)
            raise

    async def record(self, event: Event, outcome: int = 200) -> None:
        """Put a call that changes nothing in the audit log; on return it is durable."""
        await run_in_threadpool(self.audit.record, self.actor, event, outcome)


def reader(request: Request, key: Annotated[ApiKey, Depends(authenticated)]) -> Call:
    """A call that changes nothing."""
    return Call(key, Actor(key.id, key.name, request.state.request_id), request.app.state.audit)


async def call(
    request: Request,
    reading: Annotated[Call, Depends(reader)],
    token: Annotated[str | None, _TOKEN] = None,
    if_match: Annotated[str | None, _IF_MATCH] = None,
) -> AsyncIterator[Call]:
    """A call that may change something. Raises Answered if it has been answered before, Problem (422)."""
    unchanged = None if if_match is None else _requires(request, if_match)
    if token is None:
        yield Call(reading.key, reading.actor, reading.audit, None, unchanged)
        return
    tokened = TokenedRequest(reading.key.id, token, await _content(request))
    turns: Turns = request.app.state.turns
    async with turns.of(tokened.key_id, token):
        await run_in_threadpool(_replay_stored, request.app.state.engine, tokened)
        yield Call(reading.key, reading.actor, reading.audit, tokened, unchanged)


Reader = Annotated[Call, Depends(reader)]
Caller = Annotated[Call, Depends(call)]


def install_calls(app: FastAPI, engine: sa.Engine) -> None:
    """What calls need of the application."""
    app.state.engine = engine
    app.state.turns = Turns()


def _numbers(result: object) -> tuple[int | None, int | None]:
    """The database's numbers of the collection and the subject that a write was about, as far as there are such."""
    match result:
        case (Collection() | Subject()) as stored, bool():
            return _numbers(stored)
        case Collection():
            return result.key, None
        case Subject():
            return result.collection_key, result.key
        case Enrolled() | Erased() | Merged():
            return result.collection_key, result.subject_key
        case _:
            return None, None


def _requires(request: Request, if_match: str) -> Callable[[], None]:
    store = loaded(request).gallery.store

    def check() -> None:
        # Asked through another connection than the change's, which is not committed yet: writes are done
        # one after the other, so this is the revision that the change was made on.
        if not lists(if_match, etag_of(revision := store.revision())):
            detail = f"the gallery has changed: it is at revision {revision}, and If-Match asks for {if_match}"
            raise Problem(412, "revision_mismatch", detail, gallery_revision=revision)

    return check


async def _content(request: Request) -> bytes:
    """A digest of what the request asks: the same however its form is divided."""
    body = await request.body()
    kind, options = parse_options_header(request.headers.get("content-type"))
    if boundary := options.get(b"boundary"):
        # Clients draw a new boundary each time, also when they send the same form again.
        body = body.replace(boundary, b"")
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], kind, body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _replay_stored(engine: sa.Engine, tokened: TokenedRequest) -> None:
    with engine.begin() as connection:
        _replay(_recalled(connection, tokened))


def _recalled(connection: sa.Connection, tokened: TokenedRequest) -> Remembered | None:
    try:
        return recall(connection, tokened)
    except TokenReused as error:
        detail = "this Idempotency-Key was sent before with another request; take a new one for each request"
        raise Problem(422, "idempotency_key_reused", detail) from error


def _replay(remembered: Remembered | None) -> None:
    if remembered is not None:
        headers = {"Idempotency-Replayed": "true"}
        raise Answered(Response(remembered.answer, remembered.status, headers, "application/json"))
