"""The audit log: who did what, when, to whom. Append-only, each entry's digest covering the one before.

People appear by their database numbers, which mean nothing once they are erased; no names, no biometrics.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from service.gallery import tables
from service.gallery.cursors import decode_cursor, encode_cursor
from service.gallery.database import writing
from service.gallery.records import Page

_LOG = tables.audit.c
_FIRST: Final = "0" * 64
_STREAMED_ROWS: Final = 1000


@dataclass(frozen=True)
class Actor:
    """Who calls: the key's id (None without a valid one) and name, and the request's id."""

    key_id: str | None
    name: str
    request_id: str


@dataclass(frozen=True)
class Event:
    """What is done to whom. details: numbers and flags, never names."""

    action: str
    collection_key: int | None = None
    subject_key: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """An entry as it is read. collection_id, subject_id: None for nobody, and for who is erased."""

    number: int
    at: datetime
    key_id: str | None
    actor: str
    action: str
    outcome: int
    collection_key: int | None
    collection_id: str | None
    subject_key: int | None
    subject_id: str | None
    request_id: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Filters:
    """Which entries to read; None takes all."""

    collection: str | None = None
    subject: str | None = None
    action: str | None = None
    key_id: str | None = None


@dataclass(frozen=True)
class Head:
    """The newest entry at some moment. digest: SHA-256 in hex; it covers every entry up to this one."""

    number: int
    digest: str


@dataclass(frozen=True)
class Broken:
    """Where the chain first breaks."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"entry {self.number} {self.reason}"


def append(connection: sa.Connection, actor: Actor, event: Event, outcome: int) -> int:
    """Add an entry in the transaction of a write (one that `writing` opened); its number.

    outcome: the HTTP status of the answer.
    """
    head = _head(connection)
    number, previous = (1, _FIRST) if head is None else (head.number + 1, head.digest)
    row = {
        "number": number,
        "at": datetime.now(UTC),
        "key_id": actor.key_id,
        "actor": actor.name,
        "action": event.action,
        "outcome": outcome,
        "collection_key": event.collection_key,
        "subject_key": event.subject_key,
        "request_id": actor.request_id,
        "details": dict(event.details),
        "previous": previous,
    }
    newest = {"number": number, "digest": _digest(row)}
    connection.execute(sa.insert(tables.audit).values(**row, digest=newest["digest"]))
    connection.execute((sa.insert if head is None else sa.update)(tables.audit_head).values(newest))
    return number


class AuditLog:
    """The log of a database. Safe to use from many threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Actor, Event, int, Future[None]]] = []
        self._queue = threading.Lock()
        self._writer = threading.Lock()

    def record(self, actor: Actor, event: Event, outcome: int) -> None:
        """Add an entry; on return it is durable. Entries that wait together share one transaction."""
        written: Future[None] = Future()
        with self._queue:
            self._waiting.append((actor, event, outcome, written))
        with self._writer:
            # Whoever held the lock before may have written this one too.
            if not written.done():
                self._write()
        written.result()

    def entries(self, cursor: str | None, limit: int, filters: Filters) -> Page[Entry]:
        """Newest first. Raises InvalidCursor."""
        before = decode_cursor("audit", cursor)
        query = _select(filters).order_by(_LOG.number.desc()).limit(limit + 1)
        if before:
            query = query.where(_LOG.number < before)
        with self._engine.begin() as connection:
            found = [Entry(**row) for row in connection.execute(query).mappings()]
        more = len(found) > limit
        return Page(found[:limit], encode_cursor("audit", found[limit - 1].number) if more else None)

    def count(self) -> int:
        """How many entries there are."""
        with self._engine.begin() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(tables.audit)) or 0

    def export(self) -> Iterator[str]:
        """Every entry with its digests as a line of JSON, oldest first: what can be verified elsewhere."""
        for row in self._rows():
            yield json.dumps({**_content(row), "digest": row["digest"]}, sort_keys=True) + "\n"

    def head(self) -> Head | None:
        """The newest entry; None of an empty log. Noted elsewhere, it proves later what came before it."""
        with self._engine.begin() as connection:
            return _head(connection)

    def verify(self, noted: Head | None = None) -> Broken | None:
        """Follow the chain from the first entry; where it breaks: an entry changed, removed or put in.

        noted: a head of an earlier day. Who may write the whole database can write the whole log anew, and only
        a head that was noted elsewhere tells.
        """
        heads = [head for head in (self.head(), noted) if head is not None]
        previous, expected = _FIRST, 1
        for row in self._rows():
            if row["number"] != expected:
                return Broken(expected, "is missing")
            if row["previous"] != previous:
                return Broken(expected, "does not follow the one before it")
            if row["digest"] != _digest(row):
                return Broken(expected, "was changed")
            if any(head.number == expected and head.digest != row["digest"] for head in heads):
                return Broken(expected, "is not the one that was noted")
            previous, expected = row["digest"], expected + 1
        return Broken(expected, "is missing") if any(head.number >= expected for head in heads) else None

    def _write(self) -> None:
        with self._queue:
            batch, self._waiting = self._waiting, []
        try:
            with writing(self._engine).begin() as connection:
                for actor, event, outcome, _ in batch:
                    append(connection, actor, event, outcome)
        except BaseException as error:  # noqa: BLE001 - it belongs to everybody who waits
            for *_, written in batch:
                written.set_exception(error)
            return
        for *_, written in batch:
            written.set_result(None)

    def _rows(self) -> Iterator[sa.RowMapping]:
        """Every entry, oldest first; none is held back while somebody slow takes them."""
        last = 0
        while True:
            query = sa.select(tables.audit).where(_LOG.number > last).order_by(_LOG.number).limit(_STREAMED_ROWS)
            with self._engine.begin() as connection:
                rows = connection.execute(query).mappings().all()
            yield from rows
            if not rows:
                return
            last = rows[-1]["number"]


def _head(connection: sa.Connection) -> Head | None:
    row = connection.execute(sa.select(tables.audit_head)).first()
    return None if row is None else Head(row.number, row.digest)


def _select(filters: Filters) -> sa.Select[Any]:
    collections, subjects = tables.collections, tables.subjects
    joined = tables.audit.outerjoin(collections, collections.c.key == _LOG.collection_key).outerjoin(
        subjects, subjects.c.key == _LOG.subject_key
    )
    chosen = [column for column in _LOG if column.name not in ("previous", "digest")]
    query = sa.select(*chosen, collections.c.id.label("collection_id"), subjects.c.id.label("subject_id")).select_from(
        joined
    )
    wanted = (
        (collections.c.id, filters.collection),
        (subjects.c.id, filters.subject),
        (_LOG.action, filters.action),
        (_LOG.key_id, filters.key_id),
    )
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return query


def _content(row: Mapping[Any, Any]) -> dict[str, Any]:
    """What a digest covers."""
    content = {name: row[name] for name in _LOG.keys() if name not in ("digest", "at")}  # noqa: SIM118 - not a dict
    return {**content, "at": row["at"].astimezone(UTC).isoformat(timespec="microseconds")}


def _digest(row: Mapping[Any, Any]) -> str:
    return hashlib.sha256(json.dumps(_content(row), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
