"""Every route of the OpenAPI document, by every kind of key: a route that is not listed here fails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.security.keys import KeyStore
from service.security.roles import Role

PUBLIC = None
SUBJECTS = "/v1/collections/{collection}/subjects"
COMPREFACE = "/api/v1/recognition"
NEEDED: dict[str, Role | None] = {
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    **dict.fromkeys(("GET /metrics", "GET /v1/status", "GET /v1/model", "GET /v1/keys/self"), Role.READ),
    **dict.fromkeys((f"POST /v1/{verb}" for verb in ("verify", "identify", "detect", "embed")), Role.READ),
    **dict.fromkeys(("GET /v1/collections", "GET /v1/collections/{collection}"), Role.READ),
    "POST /v1/collections": Role.ADMIN,
    **dict.fromkeys((f"{verb} /v1/collections/{{collection}}" for verb in ("PUT", "PATCH", "DELETE")), Role.ADMIN),
    f"GET {SUBJECTS}": Role.READ,
    f"POST {SUBJECTS}": Role.ENROL,
    f"GET {SUBJECTS}/{{subject}}": Role.READ,
    **dict.fromkeys((f"{verb} {SUBJECTS}/{{subject}}" for verb in ("PUT", "PATCH", "DELETE")), Role.ENROL),
    f"POST {SUBJECTS}/{{subject}}/merge": Role.ENROL,
    f"POST {SUBJECTS}/{{subject}}/faces": Role.ENROL,
    f"GET {SUBJECTS}/{{subject}}/faces": Role.READ,
    f"GET {SUBJECTS}/{{subject}}/faces/{{face}}": Role.READ,
    f"DELETE {SUBJECTS}/{{subject}}/faces/{{face}}": Role.ENROL,
    f"GET {SUBJECTS}/{{subject}}/faces/{{face}}/crop": Role.READ,
    "POST /v1/collections/{collection}/import": Role.ENROL,
    "GET /v1/collections/{collection}/export": Role.ADMIN,
    **dict.fromkeys(("GET /v1/jobs", "GET /v1/jobs/{job}"), Role.READ),
    "POST /v1/jobs/{job}/cancel": Role.ENROL,
    **dict.fromkeys(("GET /v1/keys", "POST /v1/keys", "DELETE /v1/keys/{key}"), Role.ADMIN),
    **dict.fromkeys((f"GET /v1/audit{rest}" for rest in ("", "/export", "/verify")), Role.ADMIN),
    f"GET {COMPREFACE}/subjects": Role.READ,
    f"POST {COMPREFACE}/subjects": Role.ENROL,
    f"DELETE {COMPREFACE}/subjects": Role.ENROL,
    **dict.fromkeys((f"{verb} {COMPREFACE}/subjects/{{subject}}" for verb in ("PUT", "DELETE")), Role.ENROL),
    f"GET {COMPREFACE}/faces": Role.READ,
    **dict.fromkeys((f"{verb} {COMPREFACE}/faces" for verb in ("POST", "DELETE")), Role.ENROL),
    f"DELETE {COMPREFACE}/faces/{{image_id}}": Role.ENROL,
    f"POST {COMPREFACE}/faces/delete": Role.ENROL,
    f"GET {COMPREFACE}/faces/{{image_id}}/img": Role.READ,
    f"POST {COMPREFACE}/recognize": Role.READ,
    f"POST {COMPREFACE}/faces/{{image_id}}/verify": Role.READ,
    f"POST {COMPREFACE}/embeddings/recognize": Role.READ,
    f"POST {COMPREFACE}/embeddings/faces/{{image_id}}/verify": Role.READ,
    "POST /api/v1/verification/embeddings/verify": Role.READ,
    "POST /api/v1/verification/verify": Role.READ,
    "POST /api/v1/detection/detect": Role.READ,
}
FOR_ALL_COLLECTIONS = {route for route in NEEDED if re.match(r"\w+ /v1/(keys|audit)($|/(?!self))", route)}


@pytest.fixture(scope="module")
def routes(client: TestClient) -> list[str]:
    """What the document shows, and the other spellings of those that it does not."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    shown = [f"{verb.upper()} {path}" for path, verbs in document["paths"].items() for verb in verbs]
    return shown + [f"{verb} /api/v1{path}" for verb, path in hidden(client) if path.startswith("/recognition")]


def hidden(client: TestClient) -> list[tuple[str, str]]:
    """Verb and path of every route that the document does not show."""
    return list(_hidden(client.app.routes))  # type: ignore[attr-defined]


def _hidden(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _hidden(included.routes)
        elif not getattr(route, "include_in_schema", False):
            yield from ((verb, route.path) for verb in getattr(route, "methods", ["GET"]))


def needed_for(route: str) -> Role | None:
    """A path that ends with a slash is another spelling of the one without."""
    return NEEDED[route.rstrip("/")]


@pytest.fixture(scope="module")
def store(anonymous: TestClient) -> KeyStore:
    keys: KeyStore = anonymous.app.state.keys  # type: ignore[attr-defined]
    return keys


def call(anonymous: TestClient, route: str, secret: str | None) -> tuple[int, str | None]:
    """Status and code of a call that no route can carry out: it names nobody who exists, and sends no content."""
    verb, path = route.split(" ")
    path = path.replace("{collection}", "nowhere").replace("{subject}", "nobody")
    path = re.sub(r"\{\w+\}", "00000000-0000-0000-0000-000000000000", path)
    if route.rstrip("/") in (f"DELETE {COMPREFACE}/subjects", f"DELETE {COMPREFACE}/faces"):
        path += "?subject=nobody&unknown=refused"
    headers = {} if secret is None else {"X-API-Key": secret}
    answer = anonymous.request(verb, path, headers=headers)
    kind = answer.headers.get("content-type", "")
    return answer.status_code, str(answer.json().get("code")) if "json" in kind and answer.status_code >= 400 else None


def let_in(status: int, code: str | None) -> bool:
    return status not in (401, 403) or code == "urls_disabled"


def test_every_route_says_who_may_call_it(routes: list[str]) -> None:
    assert {route.rstrip("/") for route in routes} == set(NEEDED)


def test_only_the_page_and_second_spellings_are_not_in_the_document(client: TestClient) -> None:
    others = {path for _, path in hidden(client) if not path.startswith("/recognition/") or not path.endswith("/")}
    assert others == {"/", "/openapi.json", "/static"}


@pytest.mark.parametrize("secret", [None, "", "x", "fm_" + "A" * 43])
def test_without_a_key_that_is_known_only_the_public_routes_answer(
    anonymous: TestClient, routes: list[str], secret: str | None
) -> None:
    for number, route in enumerate(routes):
        # Each from an address of its own: who sends one wrong key after the other is soon told to wait.
        somebody = TestClient(anonymous.app, client=(f"192.0.2.{number}", 40000), raise_server_exceptions=False)
        status, _ = call(somebody, route, secret)
        assert (status == 401) is (needed_for(route) is not PUBLIC), route


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_it_includes_and_nothing_else(
    anonymous: TestClient, routes: list[str], store: KeyStore, role: Role
) -> None:
    secret = store.create(f"matrix {role}", role).secret
    for route in routes:
        if route.rstrip("/") == f"DELETE {COMPREFACE}/subjects":
            continue  # it would be carried out: everybody's erasure; see below
        needed = needed_for(route)
        status, code = call(anonymous, route, secret)
        assert let_in(status, code) is (needed is None or role.includes(needed)), (route, status, code)


@pytest.mark.parametrize("role", list(Role))
def test_everybodys_erasure_needs_what_one_persons_does(anonymous: TestClient, store: KeyStore, role: Role) -> None:
    secret = store.create(f"matrix {role}", role, ["nowhere"]).secret
    status, code = call(anonymous, f"DELETE {COMPREFACE}/subjects", secret)
    assert let_in(status, code) is role.includes(Role.ENROL)


def test_an_expired_key_opens_nothing(anonymous: TestClient, routes: list[str], store: KeyStore) -> None:
    secret = store.create("old", Role.ADMIN, None, datetime.now(UTC) - timedelta(seconds=1)).secret
    for route in routes:
        if needed_for(route) is not PUBLIC:
            status, code = call(anonymous, route, secret)
            assert status == 401, route
            assert route.split(" ")[1].startswith("/api/v1") or code == "key_expired", (route, code)


def test_a_key_for_another_collection_opens_no_collection(
    anonymous: TestClient, routes: list[str], store: KeyStore
) -> None:
    secret = store.create("elsewhere", Role.ADMIN, ["elsewhere"]).secret
    for route in routes:
        if "{collection}" in route or route in FOR_ALL_COLLECTIONS or route == "POST /v1/collections":
            status, code = call(anonymous, route, secret)
            assert (status, code) == (403, "forbidden_collection"), route


def test_a_scoped_key_sees_and_finds_only_its_own(client: TestClient, store: KeyStore, demo: Any) -> None:
    for collection in ("mine", "theirs"):
        client.put(f"/v1/collections/{collection}")
    photo = (demo / "obama.jpg").read_bytes()
    enrolled = client.post("/v1/collections/theirs/subjects/o/faces", files={"image": photo}).json()
    face_id = enrolled["indexed"][0]["face_id"]
    scoped = TestClient(client.app, headers={"X-API-Key": store.create("mine", Role.READ, ["mine"]).secret})
    assert [c["id"] for c in scoped.get("/v1/collections").json()["collections"]] == ["mine"]
    assert scoped.post("/v1/identify?collection=theirs", files={"image": photo}).status_code == 403
    assert scoped.post("/v1/identify?collection=mine", files={"image": photo}).status_code == 200
    reference = {"source": {"face_id": face_id}, "target": {"face_id": face_id}}
    assert scoped.post("/v1/verify", json=reference).json()["code"] == "face_not_found"
    assert client.post("/v1/verify", json=reference).json()["match"] is True
    for collection in ("mine", "theirs"):
        client.delete(f"/v1/collections/{collection}")
