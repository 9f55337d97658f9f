"""What is asked of the service, as values: nothing is sent here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote

from facemargin.answers import Page
from facemargin.decoding import decoded, document_of
from facemargin.errors import UnexpectedAnswer
from facemargin.retrying import Repeat

T = TypeVar("T")
Query = Mapping[str, str | int | float | bool | None]
_CHUNK = 1 << 18


@runtime_checkable
class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; all that is left for -1; none at the end."""


Source = str | os.PathLike[str] | bytes | Readable
"""A file by its path, by its content, or open for reading."""


@dataclass(frozen=True)
class Upload:
    """A body that is sent piece by piece. content: a file, or any pieces of bytes, which can be sent once only."""

    content: Source | Iterable[bytes]

    @property
    def restartable(self) -> bool:
        """Whether it can be sent again."""
        return isinstance(self.content, str | bytes | os.PathLike)

    def pieces(self) -> Iterator[bytes]:
        """The body from its beginning, or from where an open file stands."""
        if isinstance(self.content, bytes):
            yield self.content
        elif isinstance(self.content, str | os.PathLike):
            with Path(self.content).open("rb") as file:
                yield from _read(file)
        elif isinstance(self.content, Readable):
            yield from _read(self.content)
        else:
            yield from self.content


@dataclass(frozen=True)
class Ask(Generic[T]):
    """A request, and what to make of its answer's body. files: (field, content). repeat: when it may be sent again."""

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Query = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    files: Sequence[tuple[str, bytes]] = ()
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: Repeat = Repeat.ALWAYS

    def options(self) -> dict[str, Any]:
        """What httpx needs to know besides method, path and a body that is uploaded."""
        options: dict[str, Any] = {
            "params": {name: value for name, value in self.query.items() if value is not None},
            "headers": dict(self.headers),
        }
        if self.json is not None:
            options["json"] = self.json
        if self.files:
            options["files"] = [(name, ("photo", content)) for name, content in self.files]
        return options


@dataclass(frozen=True)
class Listing(Generic[T]):
    """A list that comes in parts: how to ask for the part at a cursor."""

    part: Callable[[str | None], Ask[Page[T]]]


@dataclass(frozen=True)
class Download:
    """A file to receive piece by piece."""

    path: str


def path_of(*parts: str) -> str:
    """The path of these parts below /v1. Raises ValueError for an empty part."""
    if "" in parts:
        raise ValueError("an id must not be empty")
    # A client would resolve `.` and `..` as folders.
    escaped = (part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="") for part in parts)
    return "/v1/" + "/".join(escaped)


def once() -> dict[str, str]:
    """The header by which the service does a write once, however often it is sent."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def given(**members: Any) -> dict[str, Any]:
    """The members of a JSON document that were given."""
    return {name: value for name, value in members.items() if value is not None}


def listing(path: str, member: str, kind: type[T], query: Query) -> Listing[T]:
    """The list of `kind` that comes in the member of this name."""

    def read(body: bytes) -> Page[T]:
        document = document_of(body)
        try:
            return Page(tuple(decoded(kind, item) for item in document[member]), document["next_cursor"])
        except (KeyError, TypeError) as error:
            raise UnexpectedAnswer(f"the answer lacks the list `{member}`") from error

    return Listing(lambda cursor: Ask("GET", path, read, {**query, "cursor": cursor}))


def _read(file: Readable) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece
