"""The name of a request's route, which, unlike its path, holds no ids of people."""

from __future__ import annotations

from starlette.types import Scope

UNMATCHED = "unmatched"


def route_of(scope: Scope) -> str:
    """The template of the route that a served request took, as `/v1/collections/{collection}`."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return "/static" if str(scope.get("path", "")).startswith("/static/") else UNMATCHED
