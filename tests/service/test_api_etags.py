"""The gallery's revision as an ETag: reads that cost nothing, and writes that overwrite nobody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.security.roles import Role

COLLECTION = "/v1/collections/tagged"
ADA = f"{COLLECTION}/subjects/ada"


@pytest.fixture(autouse=True)
def _collection(client: TestClient) -> Iterator[None]:
    client.put(COLLECTION)
    client.put(ADA)
    yield
    client.delete(COLLECTION)


READS = ["/v1/collections", COLLECTION, f"{COLLECTION}/subjects", ADA, f"{ADA}/faces"]


@pytest.mark.parametrize("path", READS)
def test_an_unchanged_gallery_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    etag = first.headers["etag"]
    for header in (etag, f"W/{etag}", f'"old", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    client.put(ADA, json={"name": "Ada"})
    changed = client.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["etag"] != etag) == (200, True)


def test_the_etag_is_the_revision(client: TestClient) -> None:
    assert client.get(ADA).headers["etag"] == f'"{client.get("/readyz").json()["gallery_revision"]}"'


def test_an_etag_opens_no_door(anonymous: TestClient) -> None:
    assert anonymous.get(ADA, headers={"If-None-Match": "*"}).status_code == 401


def test_a_write_on_a_changed_gallery_is_refused(client: TestClient) -> None:
    seen = client.get(ADA).headers["etag"]
    assert client.patch(ADA, json={"name": "first"}, headers={"If-Match": seen}).status_code == 200
    refused = client.patch(ADA, json={"name": "second"}, headers={"If-Match": seen})
    assert (refused.status_code, refused.json()["code"]) == (412, "revision_mismatch")
    assert client.get(ADA).json()["name"] == "first"
    current = client.get(ADA).headers["etag"]
    assert client.patch(ADA, json={"name": "third"}, headers={"If-Match": f'"1", {current}'}).status_code == 200
    assert client.patch(ADA, json={"name": "fourth"}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    "write",
    [
        lambda client, headers: client.put(ADA, headers=headers),
        lambda client, headers: client.post(f"{COLLECTION}/subjects", headers=headers),
        lambda client, headers: client.delete(ADA, headers=headers),
        lambda client, headers: client.post(f"{ADA}/merge", json={"into": "grace"}, headers=headers),
        lambda client, headers: client.patch(COLLECTION, json={}, headers=headers),
        lambda client, headers: client.delete(COLLECTION, headers=headers),
    ],
)
def test_every_write_minds_it(client: TestClient, write: Callable[[TestClient, dict[str, str]], object]) -> None:
    client.put(f"{COLLECTION}/subjects/grace")
    before = client.get("/readyz").json()
    answer = write(client, {"If-Match": '"1"'})
    assert answer.status_code == 412, answer.text  # type: ignore[attr-defined]
    assert client.get("/readyz").json() == before


def test_an_enrolment_minds_it(client: TestClient, demo: Path) -> None:
    photo = {"image": (demo / "004_A.jpg").read_bytes()}
    assert client.post(f"{ADA}/faces", files=photo, headers={"If-Match": '"1"'}).status_code == 412
    assert client.get(ADA).json()["faces"] == 0
    searched = client.post("/v1/identify?collection=tagged&threshold=-1", files=photo).json()
    assert searched["subjects"] == 0
    current = client.get(ADA).headers["etag"]
    assert client.post(f"{ADA}/faces", files=photo, headers={"If-Match": current}).status_code == 201


def test_a_reader_gets_etags_too(as_role: Callable[[Role], TestClient]) -> None:
    assert as_role(Role.READ).get(ADA).headers["etag"]
