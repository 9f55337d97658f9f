"""Every error leaves the service as RFC 9457 problem+json with a stable `code`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.gallery.errors import (
    CollectionNotFound,
    CollectionPermanent,
    FaceNotFound,
    GalleryError,
    InvalidCursor,
    InvalidEmbedding,
    ModelMismatch,
    SameSubject,
    SubjectNotFound,
    ThresholdUnknown,
)
from service.recognition.errors import ImageError, Overloaded

logger = logging.getLogger(__name__)

_GALLERY_STATUS: Mapping[type[GalleryError], int] = {
    CollectionNotFound: 404,
    SubjectNotFound: 404,
    FaceNotFound: 404,
    CollectionPermanent: 409,
    ModelMismatch: 409,
    SameSubject: 409,
    ThresholdUnknown: 409,
    InvalidCursor: 400,
    InvalidEmbedding: 400,
}
ID_RULE = "an id has 1 to 128 characters of letters, digits, `._-` and space"
_IDENTIFIERS = ("collection", "subject")
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_CODES = {404: "not_found", 405: "method_not_allowed"}


PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong, after RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong with this request."},
        "code": {"type": "string", "description": "What kind of problem it is; stable."},
        "field": {"type": "string", "description": "The photo it is about."},
        "errors": {
            "type": "array",
            "description": "Every field that is wrong.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "rejected": {"type": "array", "description": "Faces not enrolled, and why.", "items": {"type": "object"}},
        "request_id": {"type": "string", "description": "Under which the server's log says more."},
    },
    "example": {
        "type": "urn:facemargin:problem:subject_not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "the collection has no subject 'ada'",
        "code": "subject_not_found",
    },
}
PROBLEM_ANSWER: dict[str, Any] = {
    "description": "A problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {"4XX": PROBLEM_ANSWER, "5XX": PROBLEM_ANSWER}
"""What OpenAPI says of every route's errors."""


class Problem(HTTPException):
    """An error to tell the caller: HTTP status, stable code, what is wrong, and further members."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.members = members


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"


def problem_response(problem: Problem) -> ProblemResponse:
    """The response that tells a problem."""
    document = {
        "type": f"urn:facemargin:problem:{problem.code}",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        "code": problem.code,
        **problem.members,
    }
    return ProblemResponse(document, problem.status_code, problem.headers)


def unexpected(request_id: str) -> ProblemResponse:
    """The response to a bug: the log has the trace under this id, the caller learns nothing of it."""
    detail = "the server failed; its log says more under this request id"
    return problem_response(Problem(500, "internal_error", detail, request_id=request_id))


def install_handlers(app: FastAPI) -> None:
    """Make the application answer every foreseen exception with a problem document."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> ProblemResponse:
        if isinstance(error, Problem):
            return problem_response(error)
        if error.status_code == 405:
            error.headers = {"Allow": ", ".join(_allowed(app, request))}
        code = _CODES.get(error.status_code, "malformed_request")
        return problem_response(Problem(error.status_code, code, str(error.detail), error.headers))

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> ProblemResponse:
        return problem_response(invalid_request(error.errors()))

    @app.exception_handler(GalleryError)
    async def _gallery(_: Request, error: GalleryError) -> ProblemResponse:
        return problem_response(Problem(_GALLERY_STATUS[type(error)], error.code, str(error)))

    @app.exception_handler(ImageError)
    async def _image(_: Request, error: ImageError) -> ProblemResponse:
        return problem_response(Problem(error.status, error.code, str(error)))

    @app.exception_handler(Overloaded)
    async def _overloaded(_: Request, error: Overloaded) -> ProblemResponse:
        headers = {"Retry-After": str(error.retry_after)}
        return problem_response(Problem(error.status, error.code, str(error), headers))

    @app.exception_handler(sa.exc.OperationalError)
    async def _database(_: Request, error: sa.exc.OperationalError) -> ProblemResponse:
        # A full disk, a server that is away or restarts: nothing the caller can put right but by asking again.
        logger.error("the database failed: %s", error.orig)
        detail = "the gallery's database does not answer; try again"
        return problem_response(Problem(503, "database_unavailable", detail, {"Retry-After": "5"}))


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods that a path takes: the router names those of the first route that fits the path alone."""
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    ]


def invalid_request(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """The problem for a request that pydantic refused: names the fields, repeats no value."""
    fields = [_field(error) for error in errors]
    identifiers = any(field["field"].rpartition(".")[2] in _IDENTIFIERS for field in fields)
    code = "invalid_id" if identifiers else "invalid_request"
    return Problem(400, code, f"{fields[0]['field']}: {fields[0]['detail']}", errors=fields)


def _field(error: Mapping[str, Any]) -> dict[str, str]:
    name = ".".join(str(part) for part in error["loc"])
    misspelt = error["loc"] and error["loc"][-1] in _IDENTIFIERS and error["type"] == "string_pattern_mismatch"
    return {"field": name, "detail": ID_RULE if misspelt else str(error["msg"])}
