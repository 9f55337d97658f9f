"""The gallery's revision as the ETag of what is read from it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Response

from service.api.dependencies import Loaded
from service.api.early import Answered

_IF_NONE_MATCH = Header(max_length=1024, description="ETags of what the caller has; 304 if one is still true.")


def etag_of(revision: int) -> str:
    """The ETag of everything that was read at this revision, or after it and before the next."""
    return f'"{revision}"'


def lists(header: str, etag: str) -> bool:
    """Whether an If-Match or If-None-Match header names this ETag."""
    return header.strip() == "*" or etag in (entry.strip() for entry in header.split(","))


def lists_weakly(header: str, etag: str) -> bool:
    """The same, with weak ETags taken for strong ones: what a cache on the way may have made of ours."""
    return lists(header.replace("W/", ""), etag)


def fresh(services: Loaded, response: Response, if_none_match: Annotated[str | None, _IF_NONE_MATCH] = None) -> None:
    """Put the ETag on the answer. Raises Answered (304) if the caller has it already."""
    # Taken before the route reads, so the ETag may be older than what is read, but never newer.
    etag = etag_of(services.gallery.store.revision())
    if if_none_match is not None and lists_weakly(if_none_match, etag):
        raise Answered(Response(status_code=304, headers={"ETag": etag}))
    response.headers["ETag"] = etag


Fresh = Depends(fresh)
