"""What every source of face crops speaks of: keys, identities, decoding, and images that cannot be decoded."""

from __future__ import annotations

import bisect
import functools
import io
import itertools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

UNLABELLED = "_unlabelled"
"""Images below a folder of this name show no known identity; they take part in distillation alone."""

_THREADS, _AHEAD = 16, 8

Item = TypeVar("Item")

EXTENSIONS = (".webp", ".jpg", ".jpeg", ".png", ".bmp")


class DataError(ValueError):
    """Training data that cannot be used; the message names the file."""


class BrokenImage(DataError):
    """One image that cannot be decoded. `named` is the file or record."""

    def __init__(self, named: str, reason: object) -> None:
        super().__init__(f"{named}: not a readable image ({reason})")
        self.named, self.reason = named, str(reason)

    def __reduce__(self) -> tuple[type[BrokenImage], tuple[str, str]]:
        return BrokenImage, (self.named, self.reason)


class BrokenImagesWarning(UserWarning):
    """Images were skipped; the message counts and names them."""


class Source(Protocol):
    """N images of one origin, with a key and perhaps an identity each, known before any is decoded.

    name: what messages call it. keys: (N,) IDENTITY/NAME, all different, in the order of the images.
    identities: the names that occur. codes: (N,) int64 into `identities`, -1 for no known identity.
    """

    name: str
    keys: Sequence[str]
    identities: list[str]
    codes: NDArray[np.int64]

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """(position, (H, W, 3) uint8 RGB) of every image in order; BrokenImage in the place of one that is none."""
        ...


class RandomAccess(Source, Protocol):
    """A source of which any image can be read at any time, by several processes at once."""

    def image(self, position: int) -> NDArray[np.uint8]:
        """The image at a position, (H, W, 3) uint8 RGB. Raises BrokenImage."""
        ...


class Broken:
    """The broken images of one source: named, and more of them than `bound` are an error."""

    def __init__(self, source: str, bound: int) -> None:
        self.source, self.bound = source, bound
        self.names: list[str] = []
        self._known: set[str] = set()

    def add(self, error: BrokenImage) -> None:
        """Note one (once, however often it is met). Raises DataError beyond the bound."""
        if error.named in self._known:
            return
        self._known.add(error.named)
        self.names.append(error.named)
        if not self.bound:
            raise DataError(f"{error}; mend or remove it, or allow some by max_broken") from error
        if len(self.names) > self.bound:
            raise DataError(
                f"{self.source}: more than max_broken = {self.bound} broken images, "
                f"the first of them {', '.join(self.names[:3])}"
            ) from error

    def report(self) -> None:
        """Warn once, on stderr, of what was skipped."""
        if self.names:
            more = f" and {len(self.names) - 5} more" if len(self.names) > 5 else ""
            warnings.warn(
                f"{self.source}: {len(self.names)} broken images skipped: {', '.join(self.names[:5])}{more}",
                BrokenImagesWarning,
                stacklevel=2,
            )


class LazySequence(Sequence[str]):
    """Strings made when they are asked for: the keys of millions of images need no memory."""

    def __init__(self, length: int, at: Callable[[int], str]) -> None:
        self._length, self._at = length, at

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self._at(number) for number in range(*position.indices(self._length))]
        number = int(position) + (self._length if position < 0 else 0)
        if not 0 <= number < self._length:
            raise IndexError(f"position {position} of {self._length}")
        return self._at(number)

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(self._length))


def joined(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Sequences end to end, without a copy."""
    if len(parts) == 1:
        return parts[0]
    ends = list(itertools.accumulate(len(part) for part in parts))
    return LazySequence(ends[-1] if ends else 0, functools.partial(_at, parts, ends))


def _at(parts: Sequence[Sequence[str]], ends: list[int], position: int) -> str:
    part = bisect.bisect_right(ends, position)
    return parts[part][position - (ends[part - 1] if part else 0)]


def identity_of(key: str) -> str | None:
    """The identity a key IDENTITY/NAME names, or None for `_unlabelled/NAME`. Raises DataError for a bare NAME."""
    name = key.rpartition("/")[0].rpartition("/")[2]
    if not name:
        raise DataError(f"{key}: lies in no identity's folder; expected IDENTITY/NAME, or {UNLABELLED}/NAME")
    return None if name == UNLABELLED else name


def prefixed(key: str, prefix: str) -> str:
    """The key with a prefix to its identity (or to its name where there is none)."""
    folder, _, name = key.rpartition("/")
    if identity_of(key) is None:
        return f"{folder}/{prefix}{name}"
    above, slash, identity = folder.rpartition("/")
    return f"{above}{slash}{prefix}{identity}/{name}"


def with_prefix(keys: Sequence[str], prefix: str) -> Sequence[str]:
    """All keys with a prefix to their identities, without a copy."""
    return LazySequence(len(keys), functools.partial(_prefixed_at, keys, prefix)) if prefix else keys


def _prefixed_at(keys: Sequence[str], prefix: str, position: int) -> str:
    return prefixed(keys[position], prefix)


def coded(keys: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The identities that keys name, sorted, and each key's position among them, (N,) int64, -1 for none."""
    named = [identity_of(key) for key in keys]
    identities = sorted({name for name in named if name is not None})
    codes = {name: number for number, name in enumerate(identities)}
    return identities, np.array([-1 if name is None else codes[name] for name in named], dtype=np.int64)


def refuse_doubles(keys: Sequence[str], source: str) -> None:
    """Raises DataError when a key occurs twice, or when there is none."""
    if not len(keys):
        raise DataError(f"{source}: no images found; expected IDENTITY/NAME.webp|jpg|png")
    if len(set(keys)) == len(keys):
        return
    seen: set[str] = set()
    double = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise DataError(f"{source}: two images have the same key {double}; rename one")


def decode(data: bytes | memoryview, named: str) -> NDArray[np.uint8]:
    """Encoded bytes -> (H, W, 3) uint8 RGB. Raises BrokenImage."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenImage(named, error) from error


def in_order(source: RandomAccess) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
    """All images of a random-access source, one after the other."""
    return decode_ahead(range(len(source.keys)), source.image)


def decode_ahead(
    items: Iterable[Item], image: Callable[[Item], NDArray[np.uint8]]
) -> Iterator[tuple[Item, NDArray[np.uint8] | BrokenImage]]:
    """Each item with its image, in order, decoded a little ahead by a thread for every core (up to _THREADS)."""

    def attempt(item: Item) -> NDArray[np.uint8] | BrokenImage:
        try:
            return image(item)
        except BrokenImage as error:
            return error

    threads = min(os.cpu_count() or 1, _THREADS)
    waiting: deque[tuple[Item, Future[NDArray[np.uint8] | BrokenImage]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(attempt, item)))
                if len(waiting) > _AHEAD * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        finally:  # whoever stops early does not wait for the rest
            for _, future in waiting:
                future.cancel()
