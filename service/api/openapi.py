"""The OpenAPI document: what FastAPI generates, completed with problems, headers and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api.compreface import documented as compreface
from service.api.examples import EXAMPLES
from service.errors import PROBLEM_ANSWER, PROBLEM_SCHEMA

Operation = dict[str, Any]
TAGS = [
    {"name": "recognition", "description": "Faces found, embedded, compared and searched for."},
    {"name": "gallery", "description": "Collections, subjects and their faces."},
    {"name": "bulk", "description": "Many faces at once, in and out of a collection."},
    {"name": "jobs", "description": "Bulk work that outlasts its request."},
    {"name": "keys", "description": "API keys: made, listed, revoked."},
    {"name": "audit", "description": "Who did what, when, to whom."},
    {"name": "system", "description": "The service itself."},
    compreface.TAG,
]
_PATH_CODES = {"collection": "collection_not_found", "subject": "subject_not_found", "face": "face_not_found"}
_PHOTO_CODES = {
    400: ("malformed_request", "malformed_image", "url_refused"),
    403: ("urls_disabled",),
    413: ("too_many_bytes", "too_many_pixels"),
    415: ("unsupported_media_type", "unsupported_format"),
    422: ("url_failed",),
}


def operation_id(route: APIRoute) -> str:
    """The name of a route's function, and for the compatible routes with a prefix."""
    return f"compreface_{route.name}" if route.path.startswith("/api/") else route.name


def install_openapi(app: FastAPI) -> None:
    """Make the application answer the completed document at /openapi.json."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            complete(generate())
        assert app.openapi_schema is not None  # `generate` stores what it returns
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(document: dict[str, Any]) -> None:
    """Add to the generated document, in place."""
    document["tags"] = TAGS + [tag for tag in document.get("tags", []) if tag not in TAGS]
    document["components"].setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    for path, operation in _operations(document):
        _drop_nulls(operation)
        _add_problems(path, operation)
        _add_headers(operation)
        _add_example(operation)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _drop_nulls(operation: Operation) -> None:
    """A parameter that is left out is absent: neither the query nor a header can hold a null."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])


def _add_problems(path: str, operation: Operation) -> None:
    """Name the codes of each status that the route's parts can answer; 4XX and 5XX stay for the rest."""
    codes: dict[int, list[str]] = {}
    for status, name in _codes(path, operation):
        codes.setdefault(status, []).append(name)
    for status, listed in codes.items():
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(listed))
        operation["responses"].setdefault(str(status), {**PROBLEM_ANSWER, "description": f"A problem: {names}."})


def _codes(path: str, operation: Operation) -> Iterator[tuple[int, str]]:
    """Statuses and codes, by what the route takes."""
    parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
    body = operation.get("requestBody", {}).get("content", {})
    if parameters or body:
        yield 400, "invalid_request"
    if body:
        yield 413, "request_too_large"
        yield 503, "overloaded"
    if operation.get("security"):
        yield 401, "unauthenticated"
        yield 403, "forbidden"
        yield 429, "rate_limited"
    for name, code in _PATH_CODES.items():
        if f"{{{name}}}" in path:
            yield 404, code
    if "{collection}" in path:
        yield 400, "invalid_id"
        yield 403, "forbidden_collection"
    if "cursor" in parameters:
        yield 400, "invalid_cursor"
    if "Idempotency-Key" in parameters:
        yield 422, "idempotency_key_reused"
    if "If-Match" in parameters:
        yield 412, "revision_mismatch"
    if "multipart/form-data" in body:
        for status, names in _PHOTO_CODES.items():
            for name in names:
                yield status, name


def _add_headers(operation: Operation) -> None:
    parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
    if "If-None-Match" in parameters:
        etag = {"description": "The gallery's revision.", "schema": {"type": "string"}, "example": '"117"'}
        for response in _successes(operation):
            response.setdefault("headers", {})["ETag"] = etag
        operation["responses"]["304"] = {
            "description": "The gallery has not changed since the ETag given.",
            "headers": {"ETag": etag},
        }
    if "Idempotency-Key" in parameters:
        replayed = {"description": "`true` if this was answered before.", "schema": {"type": "string"}}
        for response in _successes(operation):
            response.setdefault("headers", {})["Idempotency-Replayed"] = replayed


def _add_example(operation: Operation) -> None:
    example = EXAMPLES.get(operation["operationId"]) or compreface.EXAMPLES.get(operation["operationId"])
    if example is None:
        return
    for response in _successes(operation):
        response["content"]["application/json"].setdefault("example", example.answer)
    if example.request is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.request


def _successes(operation: Operation) -> list[dict[str, Any]]:
    return [response for status, response in operation["responses"].items() if status.startswith("2")]
