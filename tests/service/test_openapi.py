"""The service keeps to its OpenAPI document, whatever a client sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

Document = dict[str, Any]
PUBLIC = {"healthz", "readyz"}
BUDGET = settings(
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CORNERS = 40


@schemathesis.serializer("application/x-ndjson", "application/zip")
def _as_it_is(_: schemathesis.SerializationContext, value: Any) -> Any:
    """A file of an import is sent as it was drawn."""
    return value.encode() if isinstance(value, str) else bytes(value)


@pytest.fixture(scope="module")
def document(client: TestClient) -> Document:
    """The document as it is served."""
    served: Document = client.get("/openapi.json").json()
    return served


@pytest.fixture(scope="module")
def described(client: TestClient) -> schemathesis.BaseSchema:
    """The document together with the running application."""

    async def running(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("the application runs already")
        await client.app(scope, receive, send)

    return schemathesis.openapi.from_asgi("/openapi.json", running)


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


# The first is asked below, by code; the second by the matrix of keys and routes: many wrong keys in a row get 429.
ASKED_ELSEWHERE = [positive_data_acceptance, ignored_auth]
# These paths fit a second template, whose method `Allow` names as well.
TWO_NAMES = {
    ("GET /v1/keys/self", "Allow header mismatch"),
    ("POST /api/v1/recognition/faces/delete", "Allow header mismatch"),
}
UNFORESEEABLE = {
    # What no schema can say of a request that is otherwise right.
    "invalid_cursor",
    "invalid_embedding",
    "invalid_import",
    "invalid_archive",
    "malformed_image",
    "malformed_request",
    "unsupported_format",
    "no_face",
    "urls_disabled",
    "revision_mismatch",
    "idempotency_key_reused",
    "collection_permanent",
    "crop_not_kept",
    "same_subject",
}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nothing_sent_breaks_the_contract(
    described: schemathesis.BaseSchema, client: TestClient, mode: GenerationMode
) -> None:
    """No 5xx, every answer as described, what is invalid refused as a problem, what is valid accepted."""
    found: dict[tuple[str, str], str] = {}
    for result in described.get_all_operations():
        operation = result.ok()

        @BUDGET
        @given(operation.as_strategy(generation_mode=mode))
        def send_drawn(case: schemathesis.Case) -> None:
            found.update(faults(case, client))

        with suppress(Unsatisfiable):  # a route without parameters has no invalid request
            send_drawn()
        generation = described.config.generation
        corners = described.iter_coverage_cases(operation, generation_modes=[mode], generation_config=generation)
        for case in islice(corners, CORNERS):
            found.update(faults(case, client))
    assert not found, "\n\n".join(f"{' '.join(what)}\n{how}" for what, how in found.items())


def faults(case: schemathesis.Case, client: TestClient) -> dict[tuple[str, str], str]:
    """Send a request and hold the answer against the document: what is wrong, and how to see it again."""
    label = case.operation.label
    headers = {"X-API-Key": client.headers["X-API-Key"]}
    try:
        response = case.call_and_validate(headers=headers, excluded_checks=ASKED_ELSEWHERE)
    except FailureGroup as group:
        failures = {(label, failure.title): failure.message for failure in group.exceptions}
        return {
            what: f"{message}\n{case.as_curl_command()}" for what, message in failures.items() if what not in TWO_NAMES
        }
    if response.status_code < 400 or case.method == "HEAD":
        return {}
    if case.path.startswith("/api/v1/"):
        return {}  # told as CompreFace does, which the document says and the check above has held it to
    if label.partition("/")[2].startswith("api/"):
        return {}  # CompreFace tells its errors otherwise
    if response.headers["content-type"] != ["application/problem+json"]:
        return {(label, "no problem document"): case.as_curl_command()}
    problem = response.json()
    valid = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if valid and not may_be_refused(case, problem["code"]):
        return {(label, f"a valid request is refused as {problem['code']}"): f"{problem}\n{case.as_curl_command()}"}
    return {}


def may_be_refused(case: schemathesis.Case, code: str) -> bool:
    """Whether a request may fit its schema and still be refused so: no schema says what exists, or is a photo."""
    takes_photos = "multipart/form-data" in case.operation.get_request_payload_content_types()
    # Of `far` and `threshold`, and of the ways to name a face, only one may be given, in query and body together;
    # a key must not have expired before it is made; and an entry is checked by number and digest together.
    by_more_than_schema = takes_photos or case.operation.label in ("POST /v1/keys", "GET /v1/audit/verify")
    return code in UNFORESEEABLE or code.endswith("_not_found") or (by_more_than_schema and code == "invalid_request")


def test_every_operation_is_described(document: Document) -> None:
    seen = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["operationId"] not in seen, where
        seen.add(operation["operationId"])
        assert operation["summary"], where
        assert operation["description"].strip(), where
        assert operation["tags"], where
        assert ("security" in operation) == (operation["operationId"] not in PUBLIC), where
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                assert f"{{{parameter['name']}}}" in path, where
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} <= tags


def test_every_problem_is_described(document: Document) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status[0] in "45":
                assert "application/problem+json" in response["content"], (method, path, status)
        assert {"4XX", "5XX"} <= operation["responses"].keys()


def contents(operation: Document) -> Iterator[tuple[str, Document]]:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            for kind, content in response.get("content", {}).items():
                yield kind, content
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield kind, content


def test_every_json_has_an_example_that_fits_its_schema(document: Document) -> None:
    for method, path, operation in operations(document):
        for kind, content in contents(operation):
            if kind != "application/json":
                continue
            named = content.get("examples", {"": {"value": content["example"]}} if "example" in content else {})
            assert named, f"no example: {method} {path}"
            validator = jsonschema_rs.Draft202012Validator({"components": document["components"], **content["schema"]})
            for example in named.values():
                validator.validate(example["value"])


def test_the_document_is_valid_openapi(described: schemathesis.BaseSchema, document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    described.validate()
