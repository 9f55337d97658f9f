"""Collections, subjects and faces over HTTP, with real photos."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

COLLECTION = "/v1/collections/people"
DEFAULT_SUBJECTS = "/v1/collections/default/subjects"


@pytest.fixture(autouse=True)
def _fresh_collection(client: TestClient) -> None:
    client.delete(COLLECTION)
    assert client.put(COLLECTION).status_code == 201


def enrol(client: TestClient, photo: Path, subject: str, **query: str) -> dict[str, object]:
    answer = client.post(f"{COLLECTION}/subjects/{subject}/faces", files={"image": photo.read_bytes()}, params=query)
    assert answer.status_code == 201, answer.text
    document: dict[str, object] = answer.json()
    return document


def test_the_default_collection_is_there(client: TestClient) -> None:
    listed = client.get("/v1/collections").json()["collections"]
    assert listed[0]["id"] == "default"


def test_put_creates_once_and_then_changes(client: TestClient) -> None:
    path = f"{COLLECTION}/subjects/ada lovelace_1.x-y"
    first = client.put(path, json={"name": "Ada", "metadata": {"team": "engines"}})
    again = client.put(path)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.json()["subject_id"] == "ada lovelace_1.x-y"


def test_post_creates_with_a_generated_id(client: TestClient) -> None:
    created = client.post(f"{COLLECTION}/subjects", json={"name": "Nameless"})
    assert created.status_code == 201
    assert client.get(f"{COLLECTION}/subjects/{created.json()['subject_id']}").json() == created.json()
    collection = client.post("/v1/collections")
    assert collection.status_code == 201
    assert client.delete(f"/v1/collections/{collection.json()['id']}").status_code == 200


def test_patch_renames_and_replaces_metadata(client: TestClient) -> None:
    client.put(f"{COLLECTION}/subjects/ada", json={"metadata": {"a": 1}})
    assert client.patch(f"{COLLECTION}/subjects/ada", json={"name": "Ada L."}).json()["metadata"] == {"a": 1}
    changed = client.patch(f"{COLLECTION}/subjects/ada", json={"metadata": {"b": [2]}}).json()
    assert (changed["name"], changed["metadata"]) == ("Ada L.", {"b": [2]})
    assert client.patch(COLLECTION, json={"name": "The People"}).json()["name"] == "The People"


def test_lists_come_in_parts(client: TestClient) -> None:
    for number in range(5):
        client.put(f"{COLLECTION}/subjects/s{number}")
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        part = client.get(f"{COLLECTION}/subjects", params=query).json()
        seen += [subject["subject_id"] for subject in part["subjects"]]
        cursor = part["next_cursor"]
    assert (seen, cursor) == ([f"s{number}" for number in range(5)], None)


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9_ -][A-Za-z0-9._ -]{0,127}", fullmatch=True))
def test_any_allowed_id_works(client: TestClient, identifier: str) -> None:
    path = f"{DEFAULT_SUBJECTS}/{identifier}"
    assert client.put(path).status_code == 201
    assert client.get(path).json()["subject_id"] == identifier
    assert client.delete(path).json()["subjects_erased"] == 1


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=40).filter(lambda text: not set(text) <= set("./?#")))
def test_any_other_id_is_refused(client: TestClient, identifier: str) -> None:
    allowed = all(character.isascii() and (character.isalnum() or character in "._- ") for character in identifier)
    quoted = "".join(f"%{byte:02X}" for byte in identifier.encode("utf-8", "surrogatepass"))
    answer = client.put(f"{DEFAULT_SUBJECTS}/{quoted}")
    assert answer.status_code == (201 if allowed else 400)
    if allowed:
        client.delete(f"{DEFAULT_SUBJECTS}/{quoted}")


def test_an_enrolled_person_is_identified_in_another_photo(client: TestClient, demo: Path) -> None:
    indexed = enrol(client, demo / "004_A.jpg", "a")["indexed"]
    assert isinstance(indexed, list)
    assert {"face_id", "box", "quality"} <= indexed[0].keys()
    enrol(client, demo / "007_B.jpg", "b")
    answer = client.post("/v1/identify?collection=people", files={"image": (demo / "006_A.jpg").read_bytes()}).json()
    face = answer["faces"][0]
    assert face["decision"] == "known"
    assert face["candidates"][0]["subject_id"] == "a"
    assert answer["subjects"] == 2
    assert answer["threshold_policy"]["source"] == "calibration"


def test_a_stranger_is_unknown(client: TestClient, demo: Path) -> None:
    enrol(client, demo / "004_A.jpg", "a")
    photo = (demo / "009_C.jpg").read_bytes()
    face = client.post("/v1/identify?collection=people", files={"image": photo}).json()["faces"][0]
    assert (face["decision"], face["candidates"]) == ("unknown", [])
    lowest = client.post(
        "/v1/identify", json={"image": base64.b64encode(photo).decode(), "collection": "people", "threshold": -1}
    ).json()
    assert lowest["faces"][0]["candidates"][0]["subject_id"] == "a"
    assert lowest["threshold_policy"] == {"far": None, "source": "request", "extrapolated": False}


def test_an_empty_collection_knows_nobody(client: TestClient, demo: Path) -> None:
    answer = client.post("/v1/identify?collection=people", files={"image": (demo / "004_A.jpg").read_bytes()}).json()
    assert answer["subjects"] == 0
    assert {face["decision"] for face in answer["faces"]} == {"unknown"}


def test_a_photo_with_nobody_is_no_error_for_identify(client: TestClient, demo: Path) -> None:
    answer = client.post("/v1/identify", files={"image": (demo / "017_0.jpg").read_bytes()})
    assert (answer.status_code, answer.json()["faces"]) == (200, [])


def test_several_photos_at_once_say_what_became_of_each(client: TestClient, demo: Path) -> None:
    files = [("image", (demo / name).read_bytes()) for name in ("004_A.jpg", "017_0.jpg", "006_A.jpg")]
    answer = client.post(f"{COLLECTION}/subjects/a/faces", files=files)
    assert answer.status_code == 201
    document = answer.json()
    assert [face["image"] for face in document["indexed"]] == [0, 2]
    assert {"image": 1, "box": None, "reasons": ["no_face"]} in document["rejected"]
    assert document["gallery_revision"] > 0
    listed = client.get(f"{COLLECTION}/subjects/a/faces").json()
    assert [face["face_id"] for face in listed["faces"]] == [face["face_id"] for face in document["indexed"]]


@pytest.mark.parametrize(
    ("photo", "policy", "code"),
    [("017_0.jpg", "all", "no_face"), ("012_4.jpg", "single", "multiple_faces")],
)
def test_nothing_indexed_says_why(client: TestClient, demo: Path, photo: str, policy: str, code: str) -> None:
    answer = client.post(
        f"{COLLECTION}/subjects/a/faces?face_policy={policy}", files={"image": (demo / photo).read_bytes()}
    )
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code)
    assert all(rejected["reasons"] for rejected in document["rejected"])
    assert client.get(f"{COLLECTION}/subjects/a").status_code == 404


def test_the_largest_face_is_taken_if_asked(client: TestClient, demo: Path) -> None:
    document = enrol(client, demo / "002_A.jpg", "a", face_policy="largest")
    indexed = document["indexed"]
    assert isinstance(indexed, list)
    assert len(indexed) == 1


def test_a_missing_subject_is_not_created_against_the_callers_will(client: TestClient, demo: Path) -> None:
    photo = (demo / "004_A.jpg").read_bytes()
    path = f"{COLLECTION}/subjects/a/faces?create_subject=false"
    assert client.post(path, files={"image": photo}).json()["code"] == "subject_not_found"
    client.put(f"{COLLECTION}/subjects/a")
    assert client.post(path, files={"image": photo}).status_code == 201


def test_erasing_gives_receipts(client: TestClient, demo: Path) -> None:
    files = [("image", (demo / name).read_bytes()) for name in ("004_A.jpg", "006_A.jpg")]
    first = client.post(f"{COLLECTION}/subjects/a/faces", files=files).json()["indexed"][0]["face_id"]
    face = client.delete(f"{COLLECTION}/subjects/a/faces/{first}")
    assert (face.status_code, face.json()["faces_erased"], face.json()["face_id"]) == (200, 1, first)
    subject = client.delete(f"{COLLECTION}/subjects/a")
    assert (subject.status_code, subject.json()["subject_id"], subject.json()["faces_erased"]) == (200, "a", 1)
    assert subject.json()["gallery_revision"] > face.json()["gallery_revision"]
    assert client.delete(f"{COLLECTION}/subjects/a").status_code == 404
    assert client.get(f"{COLLECTION}/subjects/a/faces/{first}").status_code == 404


def test_merging_moves_the_faces_and_erases_the_subject(client: TestClient, demo: Path) -> None:
    enrol(client, demo / "004_A.jpg", "a")
    enrol(client, demo / "006_A.jpg", "a too")
    merged = client.post(f"{COLLECTION}/subjects/a too/merge", json={"into": "a"})
    document = merged.json()
    assert (merged.status_code, document["subject_id"]) == (200, "a")
    assert (document["faces"], document["faces_moved"]) == (2, 1)
    assert document["gallery_revision"] == client.get("/readyz").json()["gallery_revision"]
    assert client.get(f"{COLLECTION}/subjects/a too").json()["code"] == "subject_not_found"
    answer = client.post("/v1/identify?collection=people", files={"image": (demo / "006_A.jpg").read_bytes()}).json()
    assert answer["subjects"] == 1
    candidate = answer["faces"][0]["candidates"][0]
    assert candidate["subject_id"] == "a"
    assert candidate["similarity"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("source", "into", "status", "code"),
    [
        ("a", "a", 409, "same_subject"),
        ("a", "nobody", 404, "subject_not_found"),
        ("nobody", "a", 404, "subject_not_found"),
        ("a", "x/y", 400, "invalid_request"),
    ],
)
def test_what_cannot_be_merged(client: TestClient, source: str, into: str, status: int, code: str) -> None:
    client.put(f"{COLLECTION}/subjects/a")
    answer = client.post(f"{COLLECTION}/subjects/{source}/merge", json={"into": into})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert client.get(f"{COLLECTION}/subjects/a").status_code == 200


def test_subjects_are_found_by_a_part_of_id_or_name(client: TestClient) -> None:
    for subject, name in (("s1", "Ada Lovelace"), ("s2", "Grace Hopper"), ("lovely", "100% Bob_"), ("s4", "bobX")):
        client.put(f"{COLLECTION}/subjects/{subject}", json={"name": name})

    def found(text: str) -> list[str]:
        answer = client.get(f"{COLLECTION}/subjects", params={"search": text}).json()
        return [subject["subject_id"] for subject in answer["subjects"]]

    assert found("LOVE") == ["s1", "lovely"]
    assert found("hopper") == ["s2"]
    assert found("0% b") == ["lovely"]
    assert found("b_") == ["lovely"]
    assert found("nobody") == []
    first = client.get(f"{COLLECTION}/subjects", params={"search": "o", "limit": 1}).json()
    second = client.get(f"{COLLECTION}/subjects", params={"search": "o", "limit": 9, "cursor": first["next_cursor"]})
    assert len(second.json()["subjects"]) == 3


def test_crops_are_kept_only_if_the_operator_says_so(client: TestClient, demo: Path) -> None:
    indexed = enrol(client, demo / "004_A.jpg", "a")["indexed"]
    assert isinstance(indexed, list)
    path = f"{COLLECTION}/subjects/a/faces/{indexed[0]['face_id']}"
    assert client.get(path).json()["crop"] is False
    answer = client.get(f"{path}/crop")
    assert (answer.status_code, answer.json()["code"]) == (404, "crop_not_kept")
