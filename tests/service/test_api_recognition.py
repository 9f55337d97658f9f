"""Verify, detect and embed over HTTP, with real photos."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.settings import Settings

Serve = Callable[[Settings], AbstractContextManager[TestClient]]


def verify(client: TestClient, source: Path, target: Path, **query: float) -> dict[str, object]:
    answer = client.post(
        "/v1/verify", files={"source": source.read_bytes(), "target": target.read_bytes()}, params=query
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, object] = answer.json()
    return document


def test_two_photos_of_one_person_match(client: TestClient, demo: Path) -> None:
    answer = verify(client, demo / "006_A.jpg", demo / "002_A.jpg")
    assert answer["match"] is True
    faces = answer["faces"]
    assert isinstance(faces, list)
    assert faces[0]["similarity"] == answer["similarity"]
    assert {"probability", "threshold", "threshold_policy", "source_face", "model", "timing_ms"} <= answer.keys()


def test_photos_of_two_people_do_not(client: TestClient, demo: Path) -> None:
    assert verify(client, demo / "006_A.jpg", demo / "009_C.jpg")["match"] is False
    assert verify(client, demo / "007_B.jpg", demo / "biden.jpg")["match"] is False


def test_every_target_face_is_compared_most_similar_first(client: TestClient, demo: Path) -> None:
    faces = verify(client, demo / "006_A.jpg", demo / "012_4.jpg")["faces"]
    assert isinstance(faces, list)
    similarities = [face["similarity"] for face in faces]
    assert len(faces) >= 2
    assert similarities == sorted(similarities, reverse=True)


def test_a_stricter_rate_raises_the_threshold(client: TestClient, demo: Path) -> None:
    loose = verify(client, demo / "006_A.jpg", demo / "002_A.jpg", far=0.1)["threshold"]
    strict = verify(client, demo / "006_A.jpg", demo / "002_A.jpg", far=0.001)["threshold"]
    assert isinstance(loose, float)
    assert isinstance(strict, float)
    assert strict > loose


def test_a_photo_an_embedding_and_an_enrolled_face_compare_alike(client: TestClient, demo: Path) -> None:
    source, target = ((demo / name).read_bytes() for name in ("006_A.jpg", "006_A.jpg"))
    photo = base64.b64encode(source).decode()
    as_list = client.post("/v1/embed", files={"image": target}).json()["faces"][0]["embedding"]
    as_text = client.post("/v1/embed?encoding=base64", files={"image": target}).json()["faces"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(as_text), "<f4") == pytest.approx(as_list, abs=1e-6)
    assert np.linalg.norm(as_list) == pytest.approx(1, abs=1e-5)
    enrolled = client.post("/v1/collections/default/subjects/target/faces", files={"image": target}).json()
    face_id = enrolled["indexed"][0]["face_id"]
    try:
        similarities = [
            client.post("/v1/verify", json={"source": photo, "target": other}).json()["similarity"]
            for other in (
                base64.b64encode(target).decode(),
                {"image": base64.b64encode(target).decode()},
                {"embedding": as_list},
                {"embedding": as_text},
                {"face_id": face_id},
            )
        ]
    finally:
        client.delete("/v1/collections/default/subjects/target")
    assert similarities == pytest.approx([similarities[0]] * 5, abs=1e-4)


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ({"embedding": [1.0, 2.0]}, 400, "invalid_embedding"),
        ({"embedding": [0.0] * 512}, 400, "invalid_embedding"),
        ({"embedding": "AAAA"}, 400, "invalid_embedding"),
        ({"embedding": "?"}, 400, "invalid_request"),
        ({"face_id": "00000000-0000-0000-0000-000000000000"}, 404, "face_not_found"),
        ({"face_id": "x", "embedding": [1.0]}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ],
)
def test_a_wrong_reference(client: TestClient, reference: dict[str, object], status: int, code: str) -> None:
    answer = client.post("/v1/verify", json={"source": reference, "target": {"embedding": [1.0] * 512}})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_photo_without_a_face_cannot_be_verified(client: TestClient, demo: Path) -> None:
    answer = client.post(
        "/v1/verify",
        files={"source": (demo / "017_0.jpg").read_bytes(), "target": (demo / "006_A.jpg").read_bytes()},
    )
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "no_face", "source")


def test_detect_finds_a_group_and_stops_where_asked(client: TestClient, demo: Path) -> None:
    photo = (demo / "012_4.jpg").read_bytes()
    answer = client.post("/v1/detect", files={"image": photo}).json()
    assert len(answer["faces"]) == 4
    for face in answer["faces"]:
        assert 0 <= face["detection_score"] <= 1
        assert 0 <= face["quality"] <= 1
        assert len(face["landmarks"]) == 5
        box = face["box"]
        assert 0 <= box["x"] + box["width"] / 2 <= answer["width"]
        assert 0 <= box["y"] + box["height"] / 2 <= answer["height"]
    fewer = client.post("/v1/detect?max_faces=2", files={"image": photo}).json()["faces"]
    assert fewer == answer["faces"][:2]


def test_the_model_tells_its_calibration(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    assert "@" in model["model"]
    rates = [row["fmr"] for row in model["calibration"]["rows"]]
    assert rates == sorted(rates, reverse=True)


NAMES = ("006_A.jpg", "017_0.jpg", "012_4.jpg")


def test_several_photos_are_looked_at_in_one_request(client: TestClient, demo: Path) -> None:
    photos = [(demo / name).read_bytes() for name in NAMES]
    alone = [client.post("/v1/detect", files={"image": photo}).json() for photo in photos]
    together = client.post("/v1/detect", files=[("image", photo) for photo in photos]).json()
    assert together["photos"] == [{"width": one["width"], "height": one["height"]} for one in alone]
    assert (together["width"], together["height"]) == (alone[0]["width"], alone[0]["height"])
    expected = [{**face, "image": number} for number, one in enumerate(alone) for face in one["faces"]]
    assert together["faces"] == expected
    as_json = {"image": [base64.b64encode(photo).decode() for photo in photos]}
    assert client.post("/v1/detect", json=as_json).json()["faces"] == expected
    embedded = client.post("/v1/embed", json=as_json).json()
    assert [face["image"] for face in embedded["faces"]] == [face["image"] for face in expected]
    assert len(embedded["photos"]) == 3


def test_a_bad_photo_among_several_is_named(client: TestClient, demo: Path) -> None:
    files = [("image", (demo / NAMES[0]).read_bytes()), ("image", b"no photo")]
    answer = client.post("/v1/detect", files=files)
    assert (answer.status_code, answer.json()["field"]) == (415, "image[1]")
    document = {"image": [base64.b64encode(data).decode() for _, data in files]}
    assert client.post("/v1/embed", json=document).json()["field"] == "image[1]"


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/embed", "/v1/identify"])
def test_the_number_of_photos_is_bounded(client: TestClient, path: str) -> None:
    for request in ({"files": [("image", b"x")] * 5}, {"json": {"image": ["eA=="] * 5}}, {"json": {"image": []}}):
        answer = client.post(path, **request)  # type: ignore[arg-type]
        assert answer.status_code == 400
        assert any(word in answer.json()["detail"] for word in ("image", "files"))


def test_a_face_can_be_searched_for_by_photo_id_or_embedding(client: TestClient, demo: Path) -> None:
    photo = (demo / "006_A.jpg").read_bytes()
    embedding = client.post("/v1/embed", files={"image": photo}).json()["faces"][0]["embedding"]
    enrolled = client.post("/v1/collections/default/subjects/target/faces", files={"image": photo}).json()
    try:
        answers = [
            client.post("/v1/identify", json=given).json()
            for given in (
                {"image": base64.b64encode(photo).decode()},
                {"face_id": enrolled["indexed"][0]["face_id"]},
                {"embedding": embedding},
            )
        ]
    finally:
        client.delete("/v1/collections/default/subjects/target")
    for answer in answers:
        face = answer["faces"][0]
        assert (face["decision"], face["candidates"][0]["subject_id"]) == ("known", "target")
        assert face["candidates"][0]["similarity"] == pytest.approx(1, abs=1e-4)
    for answer in answers[1:]:
        assert len(answer["faces"]) == 1
        assert (answer["photos"], answer["width"], answer["height"]) == ([], None, None)
        assert {answer["faces"][0][name] for name in ("image", "box", "quality", "detection_score")} == {None}


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"face_id": "x", "embedding": [1.0]}, 400, "invalid_request"),
        ({"image": "AAAA", "face_id": "x"}, 400, "invalid_request"),
        ({"face_id": "x"}, 404, "face_not_found"),
        ({"embedding": [1.0]}, 400, "invalid_embedding"),
        ({"image": {"url": "https://example.org/a.jpg"}}, 403, "urls_disabled"),
        ({"image": ["AAAA", {"url": "https://example.org/a.jpg"}]}, 403, "urls_disabled"),
        ({"image": {"url": "https://example.org/a.jpg", "more": 1}}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_searched_for(client: TestClient, given: dict[str, object], status: int, code: str) -> None:
    answer = client.post("/v1/identify", json=given)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_photos_by_address_are_refused_unless_enabled(client: TestClient) -> None:
    by_address = {"url": "https://example.org/a.jpg"}
    for path, document in (
        ("/v1/detect", {"image": by_address}),
        ("/v1/embed", {"image": [by_address]}),
        ("/v1/verify", {"source": by_address, "target": {"image": by_address}}),
        ("/v1/collections/default/subjects/x/faces", {"image": by_address}),
    ):
        answer = client.post(path, json=document)
        assert (answer.status_code, answer.json()["code"]) == (403, "urls_disabled"), path


def test_a_setting_says_how_sure_the_detector_must_be(
    serve: Serve, settings: Settings, demo: Path, tmp_path: Path
) -> None:
    sure, unsure = 0.99, 0.02
    found = []
    for number, threshold in enumerate((sure, unsure)):
        folder = tmp_path / str(number)
        folder.mkdir()
        own = {"data_dir": folder, "cache_dir": settings.cache_dir, "threads": 1, "detection_threshold": threshold}
        with serve(Settings(auth="off", **own)) as client:
            photo = {"image": (demo / "016_8.jpg").read_bytes()}
            answer = client.post("http://localhost/v1/detect", files=photo)
        scores = [face["detection_score"] for face in answer.json()["faces"]]
        assert min(scores, default=1) >= threshold
        found.append(len(scores))
    assert found[0] < found[1]
    with pytest.raises(ValidationError, match="detection_threshold"):
        Settings(detection_threshold=1)
