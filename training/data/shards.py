"""WebDataset shards: tars of IDENTITY/NAME.webp, or of NAME.webp with the identity in NAME.cls beside it."""

from __future__ import annotations

import glob
import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.samples import (
    EXTENSIONS,
    BrokenImage,
    DataError,
    coded,
    decode,
    decode_ahead,
    joined,
    refuse_doubles,
)
from training.data.streams import is_remote, open_stream

LABEL = ".cls"

_NO_HEADER = (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Encoded:
    """An image as it lies in a shard: its position in the source, its key, its bytes."""

    position: int
    key: str
    data: bytes


class ShardSource:
    """Shards that are read from front to end.

    Keys and counts come from `listing`, a file (or URL) that `inspect --classes` writes, or else from one pass
    over all shards: cheap for local tars, a whole download for others. Every image is held against its listed
    key as it is read, so that a listing of other shards cannot give wrong labels.
    """

    def __init__(self, pattern: str, listing: str | None = None) -> None:
        self.name = pattern
        self.urls = expand(pattern)
        self.members = _listed(listing, len(self.urls)) if listing else list_shards(self.urls)
        self.keys = joined(self.members)
        refuse_doubles(self.keys, pattern)
        self.identities, self.codes = coded(self.keys)
        self.starts = [0, *itertools.accumulate(len(keys) for keys in self.members)]

    def encoded(self, shard: int, first: int, last: int) -> Iterator[Encoded]:
        """Images `first` to `last` (exclusive) of a shard, not decoded. Raises DataError naming the shard."""
        url, keys = self.urls[shard], self.members[shard]
        number = -1
        for number, (key, data) in enumerate(read_tar(url)):
            if keys[number] != key:
                raise DataError(f"{url}: holds {key} where {keys[number]} is listed; make the listing anew")
            if number >= first:
                yield Encoded(self.starts[shard] + number, key, data)
            if number + 1 == last:
                return
        raise DataError(f"{url}: truncated, holds {number + 1} of {len(keys)} listed images")

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """All images, shard by shard."""
        entries = (
            entry for shard, keys in enumerate(self.members) if keys for entry in self.encoded(shard, 0, len(keys))
        )
        for entry, image in decode_ahead(entries, self.decoded):
            yield entry.position, image

    def decoded(self, entry: Encoded) -> NDArray[np.uint8]:
        """The pixels of an encoded image, (H, W, 3) uint8 RGB. Raises BrokenImage."""
        return decode(entry.data, f"{self.name}: {entry.key}")


def expand(pattern: str) -> list[str]:
    """The shards a pattern names: braces as in a shell ({000..127}, {a,b}), then a glob for local files.

    Raises DataError when a local pattern matches nothing.
    """
    urls = []
    for one in [pattern] if pattern.startswith("pipe:") and ".." not in pattern else expand_braces(pattern):
        found = [one] if is_remote(one) else sorted(glob.glob(one))  # noqa: PTH207 - the pattern may be absolute
        if not found:
            raise DataError(f"{one}: no such shard")
        urls += found
    return urls


def expand_braces(pattern: str) -> list[str]:
    """{a,b} and {08..11} as a shell expands them (no nesting); other braces stay as they are."""
    before, opened, rest = pattern.partition("{")
    body, closed, after = rest.partition("}")
    if not opened or not closed:
        return [pattern]
    low, dots, high = body.partition("..")
    if dots and low.isdecimal() and high.isdecimal():
        step = 1 if int(low) <= int(high) else -1
        padded = any(len(end) > 1 and end.startswith("0") for end in (low, high))
        width = max(len(low), len(high)) if padded else 0
        choices = [f"{number:0{width}}" for number in range(int(low), int(high) + step, step)]
    elif "," in body:
        choices = body.split(",")
    else:
        choices = [f"{{{body}}}"]
    return [before + choice + tail for choice in choices for tail in expand_braces(after)]


def list_shards(urls: list[str]) -> list[list[str]]:
    """The keys in each shard, by one pass over all of them. Raises DataError naming a shard that cannot be read."""
    remote = any(is_remote(url) for url in urls)
    shown = tqdm(urls, desc="listing shards", unit="shard", disable=None if remote else True)
    return [[key for key, _ in read_tar(url, names_only=True)] for url in shown]


def read_tar(url: str, *, names_only: bool = False) -> Iterator[tuple[str, bytes]]:
    """Key and bytes of every image of a tar (compressed or not), in order; no bytes for `names_only`."""
    try:
        with open_stream(url) as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive:
            for stem, group in itertools.groupby(_files(archive), key=lambda m: m.name.rsplit(".", 1)[0]):
                yield from _group(url, archive, stem, group, names_only)
    except (tarfile.TarError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{url}: not a readable tar ({error})") from error


class _Member(tarfile.TarInfo):
    """Makes an error of what tarfile takes for the end: a tar is whole only when it ends with zeros."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except _NO_HEADER as error:
            raise tarfile.ReadError(f"truncated or damaged at byte {tarfile_.offset}: {error}") from error


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        if member.isfile():
            yield member
        archive.members = []  # type: ignore[attr-defined] # else a long shard's members all stay in memory


def _group(
    url: str, archive: tarfile.TarFile, stem: str, group: Iterator[tarfile.TarInfo], names_only: bool
) -> Iterator[tuple[str, bytes]]:
    """The image of the files that share a stem, its key taken from a .cls file among them if there is one."""
    images, label = [], None
    for member in group:
        suffix = PurePosixPath(member.name).suffix.lower()
        if suffix in EXTENSIONS:
            images.append(b"" if names_only else _content(archive, member))
        elif suffix == LABEL:
            label = _content(archive, member).decode(errors="replace").strip()
    if not images:
        return
    if label is not None:
        if not label or "/" in label:
            raise DataError(f"{url}: {stem}{LABEL} holds {label!r}, not the name or number of an identity")
        label = "_unlabelled" if label == "-1" else label
    key = stem.removeprefix("./")
    for data in images:
        yield (key if label is None else f"{label}/{key.replace('/', '_')}"), data


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _listed(listing: str, shards: int) -> list[list[str]]:
    """`shards` of a class map: [{"name": …, "keys": [IDENTITY/NAME, …]}, …], in the order of the pattern."""
    try:
        with open_stream(listing) as stream:
            document = json.load(stream)
        members = [[str(key) for key in shard["keys"]] for shard in document["shards"]]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{listing}: not a listing of shards ({error!r}); inspect --classes writes one") from error
    if len(members) != shards:
        raise DataError(f"{listing}: lists {len(members)} shards where the pattern names {shards}")
    return members
