"""Errors as CompreFace tells them: `{message, code}`, with its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from service.api.early import Answered
from service.errors import PROBLEM_ANSWER

_UNDEFINED, _MODEL_NOT_FOUND, _MISSING_HEADER, _FILE, _CONSTRAINT = 0, 10, 20, 21, 26
_MISSING_PARAMETER, _MISSING_PART, _SERVICE = 33, 34, 41
_NUMBERS: dict[str, tuple[int, int | None]] = {
    # our code: (CompreFace's number, its HTTP status where it is another than ours)
    "no_face": (28, 400),
    "low_quality": (28, 400),
    "multiple_faces": (31, 400),
    "subject_not_found": (42, None),
    "subject_exists": (43, 400),
    "face_not_found": (44, None),
    "crop_not_kept": (11, None),
    "collection_not_found": (_MODEL_NOT_FOUND, None),
    "unauthenticated": (_MODEL_NOT_FOUND, None),
    "forbidden": (32, None),
    "forbidden_collection": (32, None),
    "unsupported_format": (_FILE, 400),
    "malformed_image": (_FILE, 400),
    "too_many_bytes": (_CONSTRAINT, None),
    "too_many_pixels": (_CONSTRAINT, None),
    "request_too_large": (_CONSTRAINT, None),
    "invalid_request": (_CONSTRAINT, None),
    "invalid_id": (_CONSTRAINT, None),
    "invalid_embedding": (37, None),
    "overloaded": (_SERVICE, None),
    "loading": (_SERVICE, None),
    "internal_error": (_SERVICE, None),
}
_REFUSAL = {
    "type": "object",
    "required": ["message", "code"],
    "properties": {"message": {"type": "string"}, "code": {"type": "integer"}},
}
_STATUSES = (400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503, "4XX", "5XX")
_ANSWER = {
    "description": "An error.",
    "content": {"application/json": {"schema": _REFUSAL}, **PROBLEM_ANSWER["content"]},
}
RESPONSES: dict[int | str, dict[str, Any]] = dict.fromkeys(_STATUSES, _ANSWER)
"""What OpenAPI says of these routes' errors. What never reaches a route is told as a problem document."""


class CompreFaceRoute(APIRoute):
    """A route whose errors are told as CompreFace tells them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with its errors translated."""
        handle = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handle(request)
            except Answered:
                raise
            except Exception as error:
                tell = _handler(request, error)
                if tell is None:
                    raise
                return _translated(request, error, await tell(request, error))

        return translated


def _handler(request: Request, error: Exception) -> Callable[[Request, Exception], Any] | None:
    """How the application would tell this error."""
    handlers: dict[Any, Callable[[Request, Exception], Any]] = request.app.exception_handlers
    return next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)


def _translated(request: Request, error: Exception, problem: Response) -> Response:
    document: dict[str, Any] = json.loads(bytes(problem.body))
    number, status = _NUMBERS.get(document["code"], (_UNDEFINED, None))
    if isinstance(error, RequestValidationError) and error.errors()[0]["type"] == "missing":
        number = _MISSING_PARAMETER if error.errors()[0]["loc"][0] == "query" else _MISSING_PART
    if document["code"] == "unauthenticated" and not {"x-api-key", "authorization"} & set(request.headers):
        number = _MISSING_HEADER
    kept = {name: value for name, value in problem.headers.items() if name in ("retry-after", "www-authenticate")}
    refusal = {"message": document["detail"], "code": number}
    return JSONResponse(refusal, status or problem.status_code, kept)
