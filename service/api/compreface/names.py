"""Subjects as CompreFace names them: any text, where our ids are plain."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import Field

_PLAIN = re.compile(r"[A-Za-z0-9._\- ]{1,128}")
_PATHS = (".", "..")  # plain by our rule, but no address can end in one
_PREFIX = "cf-"


def subject_id(name: str) -> str:
    """The id of the subject with this name: the name itself if it may be an id, else derived from it.

    The same name gives the same id, always, so two clients that enrol one name meet in one subject.
    """
    if _PLAIN.fullmatch(name) and name not in _PATHS:
        return name
    return _PREFIX + hashlib.sha256(name.encode()).hexdigest()[:32]


def subject_name(identifier: str, stored_name: str) -> str:
    """What CompreFace calls this subject: `subject_id` of it is always `identifier`.

    That is the id, unless the id was derived from the name that is stored beside it.
    """
    return stored_name if subject_id(stored_name) == identifier else identifier


SubjectName = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f/\\;%]{1,200}$",
        description=r"1 to 200 characters, none of them a control character or one of `/ \ ; %`.",
        examples=["Ada Lovelace"],
    ),
]
"""The name of a subject, as a request may give it."""
