"""Lines out of a stream of chunks, with no more in memory than a line may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_END: Final = b"\n"


class LineSplitter:
    """Feed chunks, take lines. A line above `longest` bytes comes out as None and is not held."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = b""
        self._overlong = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that this chunk completes, without their ends."""
        first, *others = chunk.split(_END)
        if not others:
            self._hold(first)
            return
        self._hold(first)
        yield from self._take()
        *complete, last = others
        for line in complete:
            yield line if len(line) <= self._longest else None
        self._hold(last)

    def finish(self) -> Iterator[bytes | None]:
        """The last line, if it had no end."""
        if self._held or self._overlong:
            yield from self._take()

    def _hold(self, part: bytes) -> None:
        if self._overlong or len(self._held) + len(part) > self._longest:
            self._overlong, self._held = True, b""
        else:
            self._held += part

    def _take(self) -> Iterator[bytes | None]:
        yield None if self._overlong else self._held
        self._overlong, self._held = False, b""
