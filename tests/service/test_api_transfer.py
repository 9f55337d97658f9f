"""Bulk calls of the API: portable files in and out, archives as jobs, and who may see what."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.security.keys import KeyStore
from service.security.roles import Role
from service.transfer.format import MEDIA_TYPE, FaceLine, Header, encode_embedding, render


@pytest.fixture
def collection(client: TestClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A collection of the test's own."""
    name = f"bulk-{abs(hash(request.node.name)) % 10**9}"
    assert client.put(f"/v1/collections/{name}").status_code == 201
    yield name
    client.delete(f"/v1/collections/{name}")


@pytest.fixture(scope="module")
def model(client: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/v1/model").json()
    return answer


def unit(size: int, seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def portable(model: dict[str, Any], count: int) -> bytes:
    size = model["embedding_size"]
    lines = [render(Header(model=model["model"], embedding_size=size, faces=count))]
    for seed in range(count):
        lines.append(render(FaceLine(subject_id=f"s{seed}", embedding=encode_embedding(unit(size, seed)))))
    return b"".join(lines)


def send(client: TestClient, collection: str, data: bytes, kind: str = MEDIA_TYPE, query: str = "") -> Any:
    return client.post(f"/v1/collections/{collection}/import{query}", content=data, headers={"Content-Type": kind})


def archive(*photos: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for name, content in photos:
            packed.writestr(name, content)
    return data.getvalue()


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.05)
    pytest.fail("the job has not ended")


def test_embeddings_come_in_are_found_and_go_out_again(
    client: TestClient, collection: str, model: dict[str, Any]
) -> None:
    answer = send(client, collection, portable(model, 20))
    assert answer.status_code == 200
    report = answer.json()
    assert (report["imported"], report["rejected"], report["complete"]) == (20, 0, True)
    assert send(client, collection, portable(model, 20)).json()["skipped"] == 20
    body = {"embedding": encode_embedding(unit(model["embedding_size"], 7)), "collection": collection}
    (face,) = client.post("/v1/identify", json=body).json()["faces"]
    assert face["candidates"][0]["subject_id"] == "s7"

    exported = client.get(f"/v1/collections/{collection}/export")
    assert exported.headers["content-type"] == MEDIA_TYPE
    client.delete(f"/v1/collections/{collection}")
    client.put(f"/v1/collections/{collection}")
    assert send(client, collection, exported.content).json()["imported"] == 20
    assert (
        client.get(f"/v1/collections/{collection}/export").content.splitlines()[1:] == exported.content.splitlines()[1:]
    )
    actions = [entry["action"] for entry in client.get("/v1/audit", params={"limit": 20}).json()["entries"]]
    assert "import" in actions
    assert "export" in actions


def test_what_cannot_be_imported(client: TestClient, collection: str, model: dict[str, Any]) -> None:
    for data, kind, status, code in (
        (portable({**model, "model": "other@1"}, 1), MEDIA_TYPE, 409, "model_mismatch"),
        (b"no header\n", MEDIA_TYPE, 400, "invalid_import"),
        (b"no archive", "application/zip", 400, "invalid_archive"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
    ):
        answer = send(client, collection, data, kind)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert send(client, "nowhere", portable(model, 1)).json()["code"] == "collection_not_found"
    assert client.get("/v1/collections/nowhere/export").json()["code"] == "collection_not_found"


def test_an_import_may_be_larger_than_other_requests(
    client: TestClient, collection: str, model: dict[str, Any]
) -> None:
    padding = b" " * 400_000 + b"\n"
    data = portable(model, 3) + padding * 42  # 16.8 MB where other requests may have 16
    assert send(client, collection, data).json()["imported"] == 3


def test_an_archive_becomes_a_job_that_can_be_repeated(client: TestClient, collection: str, demo: Path) -> None:
    photos = archive(
        ("people/ada/1.jpg", (demo / "006_A.jpg").read_bytes()),
        ("people/ada/again.jpg", (demo / "006_A.jpg").read_bytes()),
        ("people/José/1.jpg", (demo / "007_B.jpg").read_bytes()),
        ("people/nobody/1.jpg", (demo / "017_0.jpg").read_bytes()),
        ("people/nobody/2.jpg", b"no photo"),
        ("people/../escape.jpg", b"x"),
    )
    answer = send(client, collection, photos, "application/zip")
    assert answer.status_code == 202
    job = ended(client, answer.json()["job_id"])
    assert (job["state"], job["collection"], job["total"], job["done"], job["rejected"]) == (
        "done",
        collection,
        6,
        6,
        3,
    )
    report = job["report"]
    assert (report["enrolled"], report["faces"], report["skipped"]) == (2, 2, 1)
    assert report["reasons"] == {"no_face": 1, "unsupported_format": 1, "unsafe_path": 1}
    assert {error["photo"] for error in report["errors"]} >= {"people/nobody/1.jpg", "people/../escape.jpg"}
    subjects = client.get(f"/v1/collections/{collection}/subjects").json()["subjects"]
    assert {subject["name"]: subject["faces"] for subject in subjects} == {"ada": 1, "José": 1}

    again = ended(client, send(client, collection, photos, "application/zip").json()["job_id"])
    assert (again["report"]["enrolled"], again["report"]["skipped"]) == (0, 3)
    assert client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["job_id"] == again["job_id"]
    client.put(f"/v1/collections/{collection}/subjects/nobody")
    client.delete(f"/v1/collections/{collection}/subjects/nobody")
    left = client.get(f"/v1/jobs/{again['job_id']}").json()["report"]
    assert [error["subject_id"] for error in left["errors"]] == [None], "what is erased is not named any more"
    assert left["errors_left_out"] == 2


def test_a_cancelled_import_keeps_what_it_has_enrolled_and_goes_on_when_sent_again(
    client: TestClient, as_role: Callable[[Role], TestClient], collection: str, demo: Path
) -> None:
    portrait = (demo / "006_A.jpg").read_bytes()
    many = archive(*((f"ada/{number}.jpg", portrait + bytes([number])) for number in range(80)))
    job_id = send(client, collection, many, "application/zip").json()["job_id"]
    deadline = time.monotonic() + 60
    while client.get(f"/v1/jobs/{job_id}").json()["done"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert as_role(Role.READ).post(f"/v1/jobs/{job_id}/cancel").status_code == 403
    token = {"Idempotency-Key": f"cancel-{job_id}"}
    answer = client.post(f"/v1/jobs/{job_id}/cancel", headers=token)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert client.post(f"/v1/jobs/{job_id}/cancel", headers=token).headers["Idempotency-Replayed"] == "true"
    assert client.get("/v1/audit", params={"action": "job.cancel", "limit": 1}).json()["entries"][0]["outcome"] == 200

    again = ended(client, send(client, collection, many, "application/zip").json()["job_id"])
    left = client.get(f"/v1/jobs/{job_id}").json()
    assert left["state"] == "cancelled"
    assert 0 < left["done"] < 80
    assert again["state"] == "done"
    assert again["report"]["skipped"] >= left["report"]["enrolled"] > 0
    assert client.post("/v1/jobs/another/cancel").json()["code"] == "job_not_found"


def test_keys_of_other_collections_see_neither_faces_nor_jobs(
    client: TestClient,
    as_role: Callable[[Role], TestClient],
    collection: str,
    demo: Path,
    model: dict[str, Any],
) -> None:
    keys: KeyStore = client.app.state.keys  # type: ignore[attr-defined]
    outside, inside = (
        TestClient(client.app, headers={"X-API-Key": keys.create(name, Role.ENROL, [name]).secret})
        for name in ("elsewhere", collection)
    )
    photos = archive(("ada/1.jpg", (demo / "006_A.jpg").read_bytes()))
    job_id = send(inside, collection, photos, "application/zip").json()["job_id"]
    assert ended(inside, job_id)["state"] == "done"
    assert [job["job_id"] for job in inside.get("/v1/jobs").json()["jobs"]] == [job_id]
    assert outside.get(f"/v1/jobs/{job_id}").json()["code"] == "job_not_found"
    assert outside.post(f"/v1/jobs/{job_id}/cancel").json()["code"] == "job_not_found"
    assert outside.get("/v1/jobs").json()["jobs"] == []
    assert send(outside, collection, portable(model, 1)).status_code == 403
    assert inside.get(f"/v1/collections/{collection}/export").status_code == 403
    assert send(as_role(Role.READ), collection, portable(model, 1)).status_code == 403
