"""CompreFace's own Python SDK against a real server: nothing but the address and the key is ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3.contrib

ADMIN_KEY = "an admin key for tests only"


@pytest.fixture(scope="session")
def sdk() -> ModuleType:
    """The SDK. The requests-toolbelt it is pinned to imports a module for App Engine that urllib3 has dropped since."""
    urllib3.contrib.appengine = ModuleType("urllib3.contrib.appengine")
    return importlib.import_module("compreface")


@pytest.fixture
def service(sdk: ModuleType, start: Callable[..., Any], compiled: Path, tmp_path: Path) -> Any:
    """The SDK's entry, pointed at a server of its own."""
    environment = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_CACHE_DIR": str(compiled)}
    address = urlsplit(start(tmp_path / "data", **environment).wait_until_ready().address)
    return sdk.CompreFace(f"http://{address.hostname}", str(address.port))


def test_the_sdk_enrols_recognises_verifies_and_tidies_up(service: Any, demo: Path) -> None:
    recognition = service.init_face_recognition(ADMIN_KEY)
    faces, subjects = recognition.get_face_collection(), recognition.get_subjects()

    enrolled = faces.add(str(demo / "006_A.jpg"), "Person A", {"det_prob_threshold": 0.8})
    assert enrolled["subject"] == "Person A"
    faces.add((demo / "007_B.jpg").read_bytes(), "Zoë Ångström")
    assert subjects.add("empty") == {"subject": "empty"}
    assert subjects.list() == {"subjects": ["Person A", "Zoë Ångström", "empty"]}
    assert [face["subject"] for face in faces.list()["faces"]] == ["Person A", "Zoë Ångström"]

    options = {
        "limit": 0,
        "det_prob_threshold": 0.8,
        "prediction_count": 1,
        "face_plugins": "calculator,age,gender,landmarks",
        "status": True,
    }
    for photo, name in (("002_A.jpg", "Person A"), ("008_B.jpg", "Zoë Ångström")):
        [best, *_] = recognition.recognize(str(demo / photo), options)["result"]
        assert best["subjects"][0]["subject"] == name
        assert best["subjects"][0]["similarity"] > 0.9
    [stranger] = recognition.recognize(str(demo / "009_C.jpg"))["result"]
    assert stranger["subjects"][0]["similarity"] < 0.5

    same = faces.verify(str(demo / "002_A.jpg"), enrolled["image_id"])["result"]
    assert same[0]["similarity"] > 0.9

    assert subjects.update("Zoë Ångström", "Zoë") == {"updated": True}
    assert subjects.update("Zoë", "Person A") == {"updated": True}
    assert subjects.list() == {"subjects": ["Person A", "empty"]}
    assert faces.delete(enrolled["image_id"]) == {"image_id": enrolled["image_id"], "subject": "Person A"}
    assert faces.delete_all("Person A") == {"deleted": 1}
    assert subjects.delete("empty") == {"subject": "empty"}
    assert subjects.delete_all() == {"deleted": 1}
    assert faces.list()["total_elements"] == 0


def test_the_sdk_verifies_and_detects(service: Any, demo: Path) -> None:
    verification = service.init_face_verification(ADMIN_KEY)
    [compared] = verification.verify(str(demo / "006_A.jpg"), str(demo / "002_A.jpg"))["result"]
    assert compared["face_matches"][0]["similarity"] > 0.9
    [compared] = verification.verify(str(demo / "006_A.jpg"), str(demo / "009_C.jpg"))["result"]
    assert compared["face_matches"][0]["similarity"] < 0.1

    detection = service.init_face_detection(ADMIN_KEY)
    assert len(detection.detect(str(demo / "014_5.jpg"))["result"]) == 5
    assert detection.detect(str(demo / "017_0.jpg")) == {
        "message": "No face is found in the given image",
        "code": 28,
    }
