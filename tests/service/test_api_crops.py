"""Aligned crops, kept if the operator says so."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from service.gallery.database import open_engine
from service.recognition.crops import decode_crop, encode_crop
from service.security.keys import KeyStore
from service.settings import Settings

FACES = "/v1/collections/default/subjects/a/faces"


@pytest.fixture(scope="module")
def keeping(
    serve: Callable[[Settings], AbstractContextManager[TestClient]],
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TestClient]:
    """A client of a service that keeps crops, with its admin key."""
    folder = tmp_path_factory.mktemp("keeping")
    chosen = settings.model_copy(update={"data_dir": folder, "cache_dir": settings.cache_dir, "keep_crops": True})
    engine = open_engine(chosen.gallery_url)
    KeyStore(engine).bootstrap("an admin key of the crops' tests")
    engine.dispose()
    with serve(chosen) as client:
        client.headers["X-API-Key"] = "an admin key of the crops' tests"
        yield client


def test_a_kept_crop_is_the_face_that_was_embedded(keeping: TestClient, demo: Path) -> None:
    photo = (demo / "006_A.jpg").read_bytes()
    face_id = keeping.post(FACES, files={"image": photo}).json()["indexed"][0]["face_id"]
    assert keeping.get(f"{FACES}/{face_id}").json()["crop"] is True
    answer = keeping.get(f"{FACES}/{face_id}/crop")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"]
    crop = Image.open(io.BytesIO(answer.content))
    assert (crop.format, crop.size) == ("WEBP", (112, 112))
    assert np.asarray(crop.convert("RGB")).std() > 20
    keeping.delete(f"{FACES}/{face_id}")
    assert keeping.get(f"{FACES}/{face_id}/crop").json()["code"] == "face_not_found"


@given(arrays.arrays(np.uint8, (112, 112, 3), elements=st.integers(0, 255)))
def test_a_crop_comes_back_to_the_last_bit(crop: NDArray[np.uint8]) -> None:
    assert np.array_equal(decode_crop(encode_crop(crop)), crop)
