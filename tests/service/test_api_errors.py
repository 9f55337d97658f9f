"""Every error is problem+json with a stable code, and the service goes on."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from httpx import Response
from PIL import Image
from starlette.testclient import TestClient

from service.security.roles import Role
from service.settings import Settings


def problem(response: Response, status: int, code: str) -> dict[str, object]:
    document: dict[str, object] = response.json()
    assert (response.status_code, document.get("code")) == (status, code), document
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= document.keys()
    assert document["status"] == status
    assert response.headers["x-request-id"]
    return document


def png(width: int, height: int) -> bytes:
    """A PNG whose header names a size, and whose data do not bear it out."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999))


def grey() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (320, 240), "grey").save(data, "PNG")
    return data.getvalue()


BAD_IMAGES = {
    "pickle": (pickle.dumps({"weights": [1, 2, 3]}), 415, "unsupported_format"),
    "zip-bomb": (png(50_000, 50_000), 413, "too_many_pixels"),
    "empty": (b"", 400, "malformed_image"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n%%EOF\n", 415, "unsupported_format"),
    "text": (b"All work and no play makes Jack a dull boy.\n" * 232_000, 415, "unsupported_format"),
    "truncated": (grey()[:60], 400, "malformed_image"),
    "too-long": (b"\xff\xd8" + bytes(12_000_001), 413, "too_many_bytes"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize(
    "path", ["/v1/detect", "/v1/embed", "/v1/identify", "/v1/collections/default/subjects/x/faces"]
)
def test_a_bad_image_is_named_and_the_service_goes_on(client: TestClient, name: str, path: str) -> None:
    data, status, code = BAD_IMAGES[name]
    problem(client.post(path, files={"image": data}), status, code)
    assert client.get("/readyz").status_code == 200


def test_verify_says_which_photo_is_bad(client: TestClient) -> None:
    answer = client.post("/v1/verify", files={"source": BAD_IMAGES["pdf"][0], "target": grey()})
    assert problem(answer, 415, "unsupported_format")["field"] == "source"
    assert problem(client.post("/v1/verify", files={"source": grey(), "target": grey()}), 422, "no_face")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/collections/", 404, "not_found"),
        ("GET", "/static/../settings.py", 404, "not_found"),
        ("GET", "/v1/verify", 405, "method_not_allowed"),
        ("GET", "/v1/collections/absent", 404, "collection_not_found"),
        ("GET", "/v1/collections/absent/subjects", 404, "collection_not_found"),
        ("GET", "/v1/collections/default/subjects/absent", 404, "subject_not_found"),
        ("DELETE", "/v1/collections/default/subjects/absent", 404, "subject_not_found"),
        ("DELETE", "/v1/collections/default", 409, "collection_permanent"),
        ("PUT", "/v1/collections/a*b", 400, "invalid_id"),
        ("PUT", "/v1/collections/a%2Fb", 400, "invalid_id"),
        ("PUT", "/v1/collections/%2e%2e%2f%2e%2e%2fetc", 400, "invalid_id"),
        ("PUT", f"/v1/collections/{'x' * 129}", 400, "invalid_id"),
        ("PUT", "/v1/collections/default/subjects/%00", 400, "invalid_id"),
        ("PUT", "/v1/collections/default/subjects/%FF", 400, "invalid_id"),
        ("PUT", "/v1/collections/default/subjects/Zo%C3%AB", 400, "invalid_id"),
        ("PUT", "/v1/collections/default/subjects/x%0A", 400, "invalid_id"),
        ("GET", "/v1/collections?limit=0", 400, "invalid_request"),
        ("GET", "/v1/collections?limit=many", 400, "invalid_request"),
        ("GET", "/v1/collections?page=2", 400, "invalid_request"),
        ("GET", "/v1/collections?cursor=!!", 400, "invalid_cursor"),
    ],
)
def test_a_wrong_address(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    problem(client.request(method, path), status, code)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("top_k=0", "top_k"),
        ("top_k=101", "top_k"),
        ("far=0", "far"),
        ("far=1", "far"),
        ("far=nan", "far"),
        ("threshold=1.5", "threshold"),
        ("far=0.1&threshold=0.5", "query"),
        ("max_faces=100000", "max_faces"),
        ("topk=3", "topk"),
        ("collection=a/b", "collection"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, query: str, field: str) -> None:
    answer = client.post(f"/v1/identify?{query}", files={"image": grey()})
    assert answer.status_code == 400
    assert field in str(problem(answer, 400, answer.json()["code"])["detail"])


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_request"),
        (b"[]", "application/json", 400, "invalid_request"),
        (b"{}", "application/json", 400, "invalid_request"),
        (b'{"image": 5}', "application/json", 400, "invalid_request"),
        (b'{"image": "not base64!"}', "application/json", 400, "invalid_request"),
        (b'{"image": "", "far": 0.1, "threshold": 0.1}', "application/json", 400, "invalid_request"),
        (b'{"image": "AAAA", "unknown": 1}', "application/json", 400, "invalid_request"),
        (b"[" * 100_000, "application/json", 400, "invalid_request"),
        (b"\xff\xfe", "application/json", 400, "invalid_request"),
        (b"hello", "text/plain", 415, "unsupported_media_type"),
        (b"hello", "multipart/form-data", 400, "malformed_request"),
        (b"hello", "multipart/form-data; boundary=x", 400, "malformed_request"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "invalid_request"),
    ],
)
def test_a_body_that_cannot_be_read(client: TestClient, content: bytes, kind: str, status: int, code: str) -> None:
    answer = client.post("/v1/identify", content=content, headers={"content-type": kind})
    problem(answer, status, code)


def test_a_form_takes_its_own_files_and_no_others(client: TestClient) -> None:
    detail = problem(client.post("/v1/identify", files={"photo": grey()}), 400, "invalid_request")["detail"]
    assert "photo" in str(detail)
    assert "`image`" in str(detail)
    twice = [("source", grey()), ("source", grey())]
    assert client.post("/v1/verify", files=twice).status_code == 400
    text = client.post("/v1/identify", files={"image": (None, "just text")})
    assert "file" in str(problem(text, 400, "invalid_request")["detail"])


def test_too_large_a_body_is_refused_announced_or_not(client: TestClient, settings: Settings) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(settings.max_request_bytes // 2**20 + 2):
            yield bytes(2**20)

    announced = client.post("/v1/identify", content=bytes(settings.max_request_bytes + 1))
    problem(announced, 413, "request_too_large")
    headers = {"content-type": "application/json"}
    problem(client.post("/v1/identify", content=chunks(), headers=headers), 413, "request_too_large")
    problem(client.put("/v1/collections/x", content=chunks(), headers=headers), 413, "request_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": ""}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"metadata": {"a": NaN}}',
        b'{"metadata": {"a": "\\u0000"}}',
        b'{"metadata": {"a": "\\ud800"}}',
        b'{"metadata": []}',
        b'{"metadata": {"a": "' + b"x" * 17_000 + b'"}}',
        b'{"nmae": "x"}',
        b"{",
    ],
)
def test_a_description_that_cannot_be_stored(client: TestClient, body: bytes) -> None:
    answer = client.put("/v1/collections/y", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert client.get("/v1/collections/y").status_code == 404


def test_a_bug_tells_the_caller_nothing(client: TestClient, settings: Settings) -> None:
    """The bug is made by damaging a row that the running service reads."""
    database = sa.create_engine(settings.gallery_url)

    def set_metadata(text: str) -> None:
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE collections SET metadata = ? WHERE id = 'default'", (text,))

    set_metadata("{damaged")
    try:
        answer = client.get("/v1/collections", headers={"X-Request-ID": "my-request.7"})
    finally:
        set_metadata("{}")
        database.dispose()
    document = problem(answer, 500, "internal_error")
    assert document["request_id"] == answer.headers["x-request-id"] == "my-request.7"
    assert not any(word in answer.text for word in ("sqlite", "damaged", "Traceback", "service/"))
    assert client.get("/v1/collections").status_code == 200


def test_a_failing_database_tells_the_caller_nothing_and_may_be_tried_again(
    client: TestClient, settings: Settings
) -> None:
    database = sa.create_engine(settings.gallery_url)
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE collections RENAME TO hidden_collections")
    try:
        answer = client.get("/v1/collections")
    finally:
        with database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden_collections RENAME TO collections")
        database.dispose()
    problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"]
    assert "collections" not in answer.text
    assert client.get("/v1/collections").status_code == 200


def test_a_request_id_is_taken_only_if_it_is_harmless(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    odd = client.get("/healthz", headers={"X-Request-ID": "a b\tc" * 40}).headers["x-request-id"]
    assert odd.isalnum()


def test_every_route_documents_its_problems(anonymous: TestClient) -> None:
    for path, methods in anonymous.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert "application/problem+json" in operation["responses"]["4XX"]["content"], (method, path)
            assert "HTTPValidationError" not in str(operation["responses"]), (method, path)


def test_a_key_may_be_a_bearer_token(anonymous: TestClient, keys: dict[Role, str]) -> None:
    headers = {"Authorization": f"Bearer {keys[Role.READ]}"}
    assert anonymous.get("/v1/model", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/v1/collections", Role.READ),
        ("GET", "/v1/collections/default/subjects", Role.READ),
        ("PUT", "/v1/collections/default/subjects/role-test", Role.ENROL),
        ("DELETE", "/v1/collections/default/subjects/role-test", Role.ENROL),
        ("POST", "/v1/collections/default/subjects/role-test/faces", Role.ENROL),
        ("PUT", "/v1/collections/role-test", Role.ADMIN),
        ("DELETE", "/v1/collections/role-test", Role.ADMIN),
    ],
)
def test_a_role_allows_what_it_says(
    as_role: Callable[[Role], TestClient], method: str, path: str, needed: Role
) -> None:
    for role in Role:
        answer = as_role(role).request(method, path)
        if role.includes(needed):
            assert answer.status_code not in (401, 403)
        else:
            problem(answer, 403, "forbidden")


def test_the_page_loads_nothing_from_elsewhere(anonymous: TestClient, repo_root: Path) -> None:
    answer = anonymous.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    static = repo_root / "service" / "web" / "static"
    for path in (path for path in static.rglob("*") if path.is_file()):
        content = path.read_bytes().replace(b"http://www.w3.org/2000/svg", b"")
        assert b"http:" not in content, path
        assert b"https:" not in content, path
        assert anonymous.get(f"/static/{path.relative_to(static)}").status_code == 200
