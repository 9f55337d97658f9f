"""Photos on their way in: where they come from, and whose they are."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

_PLAIN: Final = re.compile(r"[A-Za-z0-9._\- ]{1,128}")
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class SubjectName:
    """The id and the name of the subject that a folder, or another system, calls by any text."""

    id: str
    name: str


@dataclass(frozen=True)
class ImportedPhoto:
    """A photo to enrol. label: what a report calls it. read: its bytes, read late; raises Unreadable."""

    label: str
    subject: SubjectName
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Unusable:
    """Something that is no photo to enrol, and why, by a stable word."""

    label: str
    reason: str


class Unreadable(Exception):
    """A photo's bytes cannot be had. The message is the reason, a stable word."""


class PhotoSource(Protocol):
    """Photos by subject. Iterating twice gives the same."""

    def __len__(self) -> int:
        """How many entries an iteration gives."""

    def __iter__(self) -> Iterator[ImportedPhoto | Unusable]:
        """Photos, and what is left out."""


def subject_named(text: str) -> SubjectName | None:
    """The subject for any text, None if nothing can be read of it.

    A text that is a valid id is the id. Another (`José`, `a/b`) becomes its plain letters and eight digits of its
    SHA-256, so that two never meet; as a name it stays as it is.
    """
    text = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text) or not text.strip():
        return None
    if _PLAIN.fullmatch(text):
        return SubjectName(text, text)
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._ ]+", "-", letters).strip("- ")[:100]
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return SubjectName(f"{plain}-{digest}" if plain else digest, text[:_LONGEST_NAME])


class PhotoFolder:
    """The files FOLDER/SUBJECT/PHOTO; hidden ones are passed over. Raises OSError if it cannot be listed."""

    def __init__(self, folder: Path, largest: int) -> None:
        self._folder = folder
        self._largest = largest
        self._files = [
            (subject, photo)
            for subject in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not hidden(entry.name))
            for photo in sorted(subject.rglob("*"))
            if photo.is_file() and not hidden(photo.name)
        ]

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._files)

    def __iter__(self) -> Iterator[ImportedPhoto | Unusable]:
        """By subject, in the order of names."""
        for subject, photo in self._files:
            label = photo.relative_to(self._folder).as_posix()
            name = subject_named(subject.name)
            if photo.parent != subject:
                yield Unusable(label, "nested_path")
            elif name is None:
                yield Unusable(label, "invalid_subject")
            else:
                yield ImportedPhoto(label, name, lambda photo=photo: _read(photo, self._largest))  # type: ignore[misc]


def hidden(name: str) -> bool:
    """Whether an operating system or a person hid this file, such as `.DS_Store`."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def _read(photo: Path, largest: int) -> bytes:
    try:
        with photo.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise Unreadable("unreadable") from error
    if len(data) > largest:
        raise Unreadable("too_many_bytes")
    return data
