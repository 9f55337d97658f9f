"""One description of every call for both clients: a builder of requests becomes a method of either.

`verify = Call(recognition.verify)` takes the arguments of `recognition.verify`; in `Client` it returns what the answer
holds, in `AsyncClient` it is awaited. Type checkers see exactly that.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from facemargin.asking import Ask, Download, Listing

if TYPE_CHECKING:
    from facemargin.asynchronous import AsyncClient
    from facemargin.client import Client

P = ParamSpec("P")
T = TypeVar("T")


class Call(Generic[P, T]):
    """A request and its answer."""

    def __init__(self, build: Callable[P, Ask[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, client: Client, owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type[Any]) -> Callable[P, Ask[T]]: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        return self._build if client is None else _bound(client._perform, self._build)


class Entries(Generic[P, T]):
    """A list, fetched part by part while it is iterated."""

    def __init__(self, build: Callable[P, Listing[T]]) -> None:
        self._build = build

    @overload
    def __get__(self, client: Client, owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type[Any]) -> Callable[P, Listing[T]]: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        return self._build if client is None else _bound(client._iterate, self._build)


class Pieces(Generic[P]):
    """A file, received piece by piece."""

    def __init__(self, build: Callable[P, Download]) -> None:
        self._build = build

    @overload
    def __get__(self, client: Client, owner: type[Any]) -> Callable[P, Iterator[bytes]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Any]) -> Callable[P, AsyncIterator[bytes]]: ...
    @overload
    def __get__(self, client: None, owner: type[Any]) -> Callable[P, Download]: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        return self._build if client is None else _bound(client._download, self._build)


def _bound(perform: Callable[..., Any], build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def method(*arguments: Any, **options: Any) -> Any:
        return perform(functools.partial(build, *arguments, **options))

    return method
