"""Photos in requests: files of a multipart form, or base64 in a JSON document."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import Problem, invalid_request

Body = TypeVar("Body", bound=BaseModel)
_MAX_TEXT_FIELD = 4096


@dataclass(frozen=True)
class Upload(Generic[Body]):
    """A request's content: either its JSON document, or the bytes of its files by field."""

    document: Body | None
    files: Mapping[str, list[bytes]]


async def read_upload(request: Request, document: type[Body], fields: Mapping[str, int]) -> Upload[Body]:
    """Read a JSON document, or a form with these file fields, each required and at most so often.

    Raises Problem (400, 413, 415).
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return Upload(parse_document(document, await request.body()), {})
    if kind == "multipart/form-data":
        return Upload(None, await _read_form(request, fields))
    raise Problem(415, "unsupported_media_type", "send multipart/form-data, or application/json with base64")


def merged(query: Body, document: BaseModel | None) -> Body:
    """Parameters of the query, overridden by those of the same names in the JSON document.

    Raises Problem (400) when the two contradict each other.
    """
    if document is None:
        return query
    given = document.model_dump(include=set(type(query).model_fields), exclude_unset=True)
    try:
        return type(query).model_validate({**query.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        raise invalid_request(error.errors()) from error


def decode_base64(field: str, text: str) -> bytes:
    """Raises Problem (400), naming the field."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Problem(400, "invalid_request", f"{field}: not valid base64") from error


def form_or_json(document: type[BaseModel], fields: Mapping[str, int]) -> dict[str, Any]:
    """The OpenAPI request body of a route that reads with `read_upload`."""
    photo = {"type": "string", "format": "binary"}
    several = {"type": "array", "items": photo, "minItems": 1}
    properties = {name: photo if most == 1 else several for name, most in fields.items()}
    form = {"type": "object", "properties": properties, "required": list(fields)}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": _inlined(document)},
            },
        }
    }


def parse_document(document: type[Body], data: bytes) -> Body:
    """A JSON document. Raises Problem (400)."""
    try:
        return document.model_validate_json(data)
    except ValidationError as error:
        errors = [{**found, "loc": ("body", *found["loc"])} for found in error.errors()]
        raise invalid_request(errors) from error


async def _read_form(request: Request, fields: Mapping[str, int]) -> dict[str, list[bytes]]:
    most = sum(fields.values())
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=most, max_fields=most, max_part_size=_MAX_TEXT_FIELD
    )
    # The body is bounded already, so keep it in memory: a photo must not reach a disk.
    parser.spool_max_size = 2**62
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError) as error:
        raise Problem(400, "malformed_request", f"the form cannot be read: {error}") from error
    try:
        files: dict[str, list[bytes]] = {}
        for name, value in form.multi_items():
            if name not in fields:
                expected = " and ".join(f"`{field}`" for field in fields)
                detail = f"{name}: unexpected field; the form takes {expected}, the query everything else"
                raise Problem(400, "invalid_request", detail)
            if not isinstance(value, UploadFile):
                raise Problem(400, "invalid_request", f"{name}: must be a file (`-F {name}=@photo.jpg`)")
            files.setdefault(name, []).append(await value.read())
    finally:
        await form.close()
    for name, most in fields.items():
        if not 1 <= len(files.get(name, [])) <= most:
            count = "one file" if most == 1 else f"1 to {most} files"
            raise Problem(400, "invalid_request", f"{name}: expected {count}, got {len(files.get(name, []))}")
    return files


def _inlined(document: type[BaseModel]) -> dict[str, Any]:
    """A schema without `$defs`, which OpenAPI would look for elsewhere."""
    schema = document.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[1]])
        return {name: resolve(value) for name, value in node.items()}

    resolved: dict[str, Any] = resolve(schema)
    return resolved
