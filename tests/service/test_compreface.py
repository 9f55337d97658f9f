"""CompreFace's calls, in the shapes that its documentation records and its clients rely on."""

from __future__ import annotations

import base64
import string
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models import checkpoint, pretrained
from models.detector.find import SCORE_THRESHOLD
from service.api.compreface.names import subject_id, subject_name
from service.api.compreface.scale import Scale, box_probability

FACES = "/api/v1/recognition/faces"
SUBJECTS = "/api/v1/recognition/subjects"
RECOGNIZE = "/api/v1/recognition/recognize"
VERIFY = "/api/v1/verification/verify"
DETECT = "/api/v1/detection/detect"
PLAIN = set(string.ascii_letters + string.digits + "._- ")


@pytest.fixture
def scoped(client: TestClient) -> Iterator[Callable[[str], TestClient]]:
    """Clients with keys of any role for one collection of the test's own."""
    collection = f"cf-{uuid.uuid4()}"
    assert client.put(f"/v1/collections/{collection}").status_code == 201

    def with_role(role: str) -> TestClient:
        made = client.post("/v1/keys", json={"name": "a client", "role": role, "collections": [collection]})
        assert made.status_code == 201, made.text
        headers = {"x-api-key": made.json()["secret"]}
        return TestClient(client.app, headers=headers, raise_server_exceptions=False)

    yield with_role
    assert client.delete(f"/v1/collections/{collection}").status_code == 200


@pytest.fixture
def theirs(scoped: Callable[[str], TestClient]) -> TestClient:
    """A client as CompreFace's are: one key for everything."""
    return scoped("enrol")


def add(client: TestClient, subject: str, photo: Path) -> str:
    """Enrol a photo; the image id."""
    answer = client.post(FACES, params={"subject": subject}, files={"file": photo.read_bytes()})
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"image_id": answer.json()["image_id"], "subject": subject}
    return str(answer.json()["image_id"])


def refused(answer: Any, status: int, code: int) -> None:
    """An error in their shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"message", "code"}
    assert answer.json()["code"] == code, answer.text
    assert answer.json()["message"]


# ---- names


@given(st.text(min_size=1, max_size=60))
def test_any_name_has_one_id_that_our_rule_allows(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    identifier = subject_id(name)

    assert set(identifier) <= PLAIN
    assert 1 <= len(identifier) <= 128
    assert identifier not in (".", "..")
    assert subject_name(identifier, name) == name


def test_a_subject_of_ours_is_called_by_its_id_and_found_by_it() -> None:
    assert subject_name("p-17", "Ada") == "p-17"
    assert subject_id(subject_name("p-17", "Ada")) == "p-17"
    renamed = subject_id("Łukasz")
    assert subject_name(renamed, "Somebody else") == renamed
    assert subject_id(renamed) == renamed


# ---- scales


def test_half_is_the_threshold_and_more_is_stricter() -> None:
    scale = Scale(slope=14.4, threshold=0.58)

    assert scale.similarity(0.58) == 0.5
    assert scale.similarity(np.nextafter(0.58, 0)) < 0.5
    scores = [scale.similarity(cosine) for cosine in np.linspace(-1, 1, 400)]
    assert scores == sorted(scores)
    assert scores[0] >= 0.0
    assert scores[-1] <= 1.0


def test_the_table_of_similarities_in_the_documentation(repo_root: Path) -> None:
    calibration = checkpoint.read(pretrained.RECOGNISER).metadata.calibration
    assert calibration is not None
    rows = [line.split("|") for line in (repo_root / "docs" / "compreface.md").read_text().splitlines() if "|" in line]
    thresholds = next(row for row in rows if "threshold of the client" in row[1])[2:-1]
    cosines = next(row for row in rows if "from the service's threshold" in row[1])[2:-1]

    for threshold, cosine in zip(thresholds, cosines, strict=True):
        score = Scale(calibration.slope, 0.4).similarity(0.4 + float(cosine))
        assert score == pytest.approx(float(threshold), abs=0.004)


def test_every_face_that_our_detector_reports_passes_their_default_threshold() -> None:
    assert box_probability(SCORE_THRESHOLD) == 0.8
    assert 0.8 < box_probability(SCORE_THRESHOLD + 0.05) < box_probability(0.9) < box_probability(1.0) <= 1.0


# ---- subjects


def test_subjects_are_added_listed_renamed_and_deleted(theirs: TestClient) -> None:
    for name in ("Ada Lovelace", "Łukasz Müller"):
        answer = theirs.post(SUBJECTS, json={"subject": name})
        assert (answer.status_code, answer.json()) == (201, {"subject": name})
    refused(theirs.post(SUBJECTS, json={"subject": "Ada Lovelace"}), 400, 43)
    assert theirs.get(SUBJECTS).json() == {"subjects": ["Ada Lovelace", "Łukasz Müller"]}
    assert theirs.get(f"{SUBJECTS}/").json() == {"subjects": ["Ada Lovelace", "Łukasz Müller"]}

    assert theirs.put(f"{SUBJECTS}/Łukasz Müller", json={"subject": "Łukasz"}).json() == {"updated": True}
    assert theirs.get(SUBJECTS).json() == {"subjects": ["Ada Lovelace", "Łukasz"]}
    assert theirs.delete(f"{SUBJECTS}/Łukasz").json() == {"subject": "Łukasz"}
    refused(theirs.delete(f"{SUBJECTS}/Łukasz"), 404, 42)
    refused(theirs.put(f"{SUBJECTS}/nobody", json={"subject": "somebody"}), 404, 42)
    assert theirs.delete(SUBJECTS).json() == {"deleted": 1}
    assert theirs.get(SUBJECTS).json() == {"subjects": []}


def test_renaming_onto_a_name_that_exists_merges(theirs: TestClient, demo: Path) -> None:
    first, second = add(theirs, "one", demo / "006_A.jpg"), add(theirs, "other", demo / "obama.jpg")

    assert theirs.put(f"{SUBJECTS}/one", json={"subject": "other"}).json() == {"updated": True}

    assert theirs.get(SUBJECTS).json() == {"subjects": ["other"]}
    faces = theirs.get(FACES).json()["faces"]
    assert sorted(face["image_id"] for face in faces) == sorted((first, second))
    assert {face["subject"] for face in faces} == {"other"}
    found = theirs.post(RECOGNIZE, files={"file": (demo / "002_A.jpg").read_bytes()}).json()["result"]
    assert found[0]["subjects"][0]["subject"] == "other"


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a\x00b", "n" * 201])
def test_a_name_that_nobody_can_have(theirs: TestClient, name: str) -> None:
    refused(theirs.post(SUBJECTS, json={"subject": name}), 400, 26)


# ---- examples


def test_examples_are_listed_by_page_and_deleted(theirs: TestClient, demo: Path) -> None:
    ids = [
        add(theirs, name, demo / photo) for name, photo in (("a", "006_A.jpg"), ("ü", "obama.jpg"), ("a", "002_A.jpg"))
    ]

    page = theirs.get(FACES, params={"page": 1, "size": 2}).json()
    assert page == {
        "faces": [{"image_id": ids[2], "subject": "a"}],
        "page_number": 1,
        "page_size": 2,
        "total_pages": 2,
        "total_elements": 3,
    }
    assert theirs.get(FACES, params={"subject": "ü"}).json()["faces"] == [{"image_id": ids[1], "subject": "ü"}]
    assert theirs.get(FACES, params={"subject": "nobody"}).json()["total_elements"] == 0

    assert theirs.delete(f"{FACES}/{ids[1]}").json() == {"image_id": ids[1], "subject": "ü"}
    refused(theirs.delete(f"{FACES}/{ids[1]}"), 404, 44)
    refused(theirs.get(f"{FACES}/{ids[0]}/img"), 404, 11)
    assert theirs.post(f"{FACES}/delete", json=[ids[0], "unknown", ids[0]]).json() == [
        {"image_id": ids[0], "subject": "a"}
    ]
    assert theirs.delete(FACES, params={"subject": "a"}).json() == {"deleted": 1}
    refused(theirs.delete(FACES, params={"subject": "nobody"}), 404, 42)
    assert theirs.get(FACES).json()["faces"] == []
    assert theirs.get(SUBJECTS).json() == {"subjects": ["a", "ü"]}


def test_what_cannot_be_enrolled(theirs: TestClient, demo: Path) -> None:
    def post(data: bytes, **parameters: Any) -> Any:
        return theirs.post(FACES, params={"subject": "a", **parameters}, files={"file": data})

    refused(post((demo / "017_0.jpg").read_bytes()), 400, 28)
    refused(post((demo / "014_5.jpg").read_bytes()), 400, 31)
    refused(post((demo / "006_A.jpg").read_bytes(), det_prob_threshold=1), 400, 28)
    refused(post(b"no photo"), 400, 21)
    refused(theirs.post(FACES, files={"file": (demo / "006_A.jpg").read_bytes()}), 400, 33)
    refused(theirs.post(FACES, params={"subject": "a"}, files={"image": b"x"}), 400, 26)
    refused(post(b"x", det_prob_threshold=2), 400, 26)
    assert theirs.get(SUBJECTS).json() == {"subjects": []}


# ---- recognition


def test_recognition_in_the_recorded_shape(theirs: TestClient, demo: Path) -> None:
    add(theirs, "A", demo / "006_A.jpg")
    add(theirs, "B", demo / "obama.jpg")
    parameters = {
        "limit": 0,
        "prediction_count": 2,
        "det_prob_threshold": 0.8,
        "face_plugins": "calculator,age,gender,landmarks,mask",
        "status": "true",
    }
    answer = theirs.post(RECOGNIZE, params=parameters, files={"file": (demo / "002_A.jpg").read_bytes()})

    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert set(document) == {"result", "plugins_versions"}
    assert set(document["plugins_versions"]) == {"detector", "calculator"}
    face = document["result"][0]
    assert set(face) == {"box", "landmarks", "embedding", "execution_time", "subjects"}
    box = face["box"]
    assert set(box) == {"probability", "x_min", "y_min", "x_max", "y_max"}
    assert all(isinstance(box[edge], int) for edge in ("x_min", "y_min", "x_max", "y_max"))
    assert 0 <= box["x_min"] < box["x_max"]
    assert 0.8 <= box["probability"] <= 1
    assert len(face["landmarks"]) == 5
    assert all(isinstance(x, int) and isinstance(y, int) for x, y in face["landmarks"])
    assert len(face["embedding"]) == 512
    assert [subject["subject"] for subject in face["subjects"]] == ["A", "B"]
    assert face["subjects"][0]["similarity"] > 0.9
    assert face["subjects"][1]["similarity"] < 0.5


def test_recognition_says_little_unless_asked(theirs: TestClient, demo: Path) -> None:
    photo = base64.b64encode((demo / "obama.jpg").read_bytes()).decode()

    document = theirs.post(RECOGNIZE, json={"file": photo}).json()

    assert set(document) == {"result"}
    assert set(document["result"][0]) == {"box", "subjects"}
    assert document["result"][0]["subjects"] == []
    refused(theirs.post(RECOGNIZE, files={"file": (demo / "017_0.jpg").read_bytes()}), 400, 28)
    refused(theirs.post(RECOGNIZE, params={"face_plugins": "aura"}, json={"file": photo}), 400, 26)


def test_half_is_what_we_call_known(scoped: Callable[[str], TestClient], client: TestClient, demo: Path) -> None:
    theirs = scoped("enrol")
    add(theirs, "A", demo / "006_A.jpg")
    add(theirs, "obama", demo / "obama.jpg")
    collection = next(
        found["id"] for found in theirs.get("/v1/collections").json()["collections"] if found["id"].startswith("cf-")
    )
    for photo in ("002_A.jpg", "005_A.jpg", "009_C.jpg", "obama3.jpg", "biden.jpg"):
        files = {"image": (demo / photo).read_bytes()}
        ours = client.post("/v1/identify", params={"collection": collection}, files=files).json()["faces"][0]
        same = theirs.post(RECOGNIZE, files={"file": (demo / photo).read_bytes()}).json()["result"][0]
        assert (same["subjects"][0]["similarity"] >= 0.5) == (ours["decision"] == "known"), photo


def test_the_largest_faces_come_first_and_limit_counts(theirs: TestClient, demo: Path) -> None:
    files = {"file": (demo / "014_5.jpg").read_bytes()}

    everybody = theirs.post(DETECT, files=files).json()["result"]
    three = theirs.post(DETECT, params={"limit": 3}, files=files).json()["result"]

    areas = [
        (box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) for box in (face["box"] for face in everybody)
    ]
    assert len(everybody) == 5
    assert all(earlier >= 0.98 * later for earlier, later in pairwise(areas))
    assert three == everybody[:3]
    assert set(everybody[0]) == {"box"}


# ---- verification


def test_verification_in_the_recorded_shape(theirs: TestClient, demo: Path) -> None:
    source = (demo / "006_A.jpg").read_bytes()

    def verified(target: str, **parameters: Any) -> dict[str, Any]:
        files = {"source_image": source, "target_image": (demo / target).read_bytes()}
        answer = theirs.post(VERIFY, params=parameters, files=files)
        assert answer.status_code == 200, answer.text
        [compared] = answer.json()["result"]
        return dict(compared)

    same = verified("002_A.jpg")
    assert set(same) == {"source_image_face", "face_matches"}
    assert set(same["source_image_face"]) == {"box"}
    assert set(same["face_matches"][0]) == {"box", "similarity"}
    assert same["face_matches"][0]["similarity"] > 0.9
    assert verified("009_C.jpg")["face_matches"][0]["similarity"] < 0.1
    several = verified("014_5.jpg", face_plugins="landmarks", status=True)
    assert set(several) == {"source_image_face", "face_matches", "plugins_versions"}
    assert set(several["face_matches"][0]) == {"box", "landmarks", "execution_time", "similarity"}
    scores = [match["similarity"] for match in several["face_matches"]]
    assert scores == sorted(scores, reverse=True)

    photo = base64.b64encode(source).decode()
    as_json = theirs.post(VERIFY, json={"source_image": photo, "target_image": photo}).json()
    assert as_json["result"][0]["face_matches"][0]["similarity"] > 0.99
    no_face = {"source_image": source, "target_image": (demo / "017_0.jpg").read_bytes()}
    refused(theirs.post(VERIFY, files=no_face), 400, 28)


def test_an_example_is_verified(theirs: TestClient, demo: Path) -> None:
    image_id = add(theirs, "A", demo / "006_A.jpg")

    def verified(photo: str) -> list[Any]:
        answer = theirs.post(f"{FACES}/{image_id}/verify", files={"file": (demo / photo).read_bytes()})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["result"])

    assert verified("002_A.jpg")[0]["similarity"] > 0.9
    assert verified("009_C.jpg")[0]["similarity"] < 0.1
    unknown = f"{FACES}/6b135f5b-a365-4522-b1f1-4c9ac2dd0728/verify"
    refused(theirs.post(unknown, files={"file": (demo / "002_A.jpg").read_bytes()}), 404, 44)


def test_embeddings_stand_for_photos(theirs: TestClient, demo: Path) -> None:
    image_id = add(theirs, "A", demo / "006_A.jpg")
    add(theirs, "B", demo / "007_B.jpg")

    def embedding(photo: str) -> list[float]:
        files = {"file": (demo / photo).read_bytes()}
        result = theirs.post(DETECT, params={"face_plugins": "calculator"}, files=files).json()["result"]
        return list(result[0]["embedding"])

    same, other = embedding("002_A.jpg"), embedding("008_B.jpg")
    url = "/api/v1/recognition/embeddings/recognize"
    named = theirs.post(url, params={"prediction_count": 1}, json={"embeddings": [same, other]}).json()["result"]
    assert [found["similarities"][0]["subject"] for found in named] == ["A", "B"]
    assert named[0]["embedding"] == same
    url = f"/api/v1/recognition/embeddings/faces/{image_id}/verify"
    verified = theirs.post(url, json={"embeddings": [same, other]}).json()["result"]
    assert verified[0]["similarity"] > 0.9 > 0.5 > verified[1]["similarity"]
    url = "/api/v1/verification/embeddings/verify"
    compared = theirs.post(url, json={"source": same, "targets": [other, same]}).json()["result"]
    assert compared[0]["similarity"] < 0.5 < 0.9 < compared[1]["similarity"]
    refused(theirs.post(url, json={"source": [1.0], "targets": [same]}), 400, 37)


# ---- keys


def test_a_key_that_may_not(scoped: Callable[[str], TestClient], anonymous: TestClient, demo: Path) -> None:
    reader = scoped("read")
    assert reader.get(SUBJECTS).json() == {"subjects": []}
    refused(reader.post(SUBJECTS, json={"subject": "a"}), 403, 32)
    refused(reader.delete(SUBJECTS), 403, 32)
    refused(anonymous.get(SUBJECTS), 401, 20)
    refused(anonymous.get(SUBJECTS, headers={"x-api-key": "another"}), 401, 10)


def test_a_key_of_one_collection_sees_no_other(
    scoped: Callable[[str], TestClient], client: TestClient, demo: Path
) -> None:
    theirs = scoped("enrol")
    enrolled = client.post(
        "/v1/collections/default/subjects/outside/faces", files={"image": (demo / "biden.jpg").read_bytes()}
    ).json()["indexed"][0]["face_id"]

    assert theirs.get(SUBJECTS).json() == {"subjects": []}
    assert "outside" in client.get(SUBJECTS).json()["subjects"]
    refused(theirs.delete(f"{FACES}/{enrolled}"), 404, 44)
    files = {"file": (demo / "biden.jpg").read_bytes()}
    refused(theirs.post(f"{FACES}/{enrolled}/verify", files=files), 404, 44)
    assert client.delete("/v1/collections/default/subjects/outside").status_code == 200


def test_decisions_are_counted_as_ours_are(theirs: TestClient, client: TestClient, demo: Path) -> None:
    def counted(call: str, decision: str) -> float:
        line = f'facemargin_decisions_total{{call="{call}",decision="{decision}"}} '
        return sum(float(said.removeprefix(line)) for said in client.get("/metrics").text.splitlines() if line in said)

    add(theirs, "ada", demo / "006_A.jpg")
    decided = [("identify", "known"), ("identify", "unknown"), ("verify", "match"), ("verify", "no_match")]
    before = [counted(*decision) for decision in decided]
    same, other = ({"file": (demo / photo).read_bytes()} for photo in ("004_A.jpg", "obama.jpg"))
    theirs.post(RECOGNIZE, files=same)
    theirs.post(RECOGNIZE, files=other)
    for target in ("004_A.jpg", "obama.jpg"):
        files = {"source_image": (demo / "006_A.jpg").read_bytes(), "target_image": (demo / target).read_bytes()}
        theirs.post(VERIFY, files=files)
    assert [counted(*decision) - was for decision, was in zip(decided, before, strict=True)] == [1, 1, 1, 1]


def test_every_change_is_in_the_audit_log(theirs: TestClient, client: TestClient, demo: Path) -> None:
    image_id = add(theirs, "ü", demo / "006_A.jpg")
    theirs.post(RECOGNIZE, files={"file": (demo / "002_A.jpg").read_bytes()})
    theirs.put(f"{SUBJECTS}/ü", json={"subject": "v"})
    theirs.delete(f"{FACES}/{image_id}")
    theirs.delete(SUBJECTS)

    key = theirs.get("/v1/keys/self").json()["id"]
    entries = client.get("/v1/audit", params={"key_id": key, "limit": 100}).json()["entries"]
    assert [entry["action"] for entry in reversed(entries)] == [
        "subject.create",
        "face.enrol",
        "identify",
        "subject.create",
        "subject.merge",
        "face.erase",
        "subject.erase",
    ]
