"""JSON into the data classes of `answers`."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from facemargin.errors import UnexpectedAnswer

T = TypeVar("T")


def reads(kind: type[T]) -> Callable[[bytes], T]:
    """What makes a `kind`, a data class, of an answer's body. Members it does not know are passed over."""

    def read(body: bytes) -> T:
        made: T = decoded(kind, document_of(body))
        return made

    return read


def document_of(body: bytes) -> Any:
    """The JSON of a body. Raises UnexpectedAnswer."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise UnexpectedAnswer("the answer is no JSON: is this the address of the service?") from error


def decoded(kind: Any, value: Any) -> Any:
    """A JSON value as the type `kind`: data classes, tuples, mappings, optional values, times, plain values.

    Raises UnexpectedAnswer.
    """
    if dataclasses.is_dataclass(kind):
        return _made(kind, value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else decoded(arguments[0], value)
    if origin is tuple:
        return tuple(decoded(arguments[0], item) for item in _of(list, value))
    if origin is Mapping:
        return {name: decoded(arguments[1], item) for name, item in _of(dict, value).items()}
    if kind is datetime:
        return datetime.fromisoformat(_of(str, value))
    return float(value) if kind is float and isinstance(value, int) else value


def _made(kind: Any, value: Any) -> Any:
    given, hints = _of(dict, value), _hints(kind)
    missing = [name for name in hints if name not in given]
    if missing:
        raise UnexpectedAnswer(f"the answer lacks `{missing[0]}`: the service is of another version than the client")
    return kind(**{name: decoded(hint, given[name]) for name, hint in hints.items()})


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _of(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise UnexpectedAnswer(f"the answer has {type(value).__name__} where {kind.__name__} belongs")
    return value
