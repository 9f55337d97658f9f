"""The shipped detector on real photos: large portraits, groups, and a photo without a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from models import checkpoint, pretrained
from models.detector.find import find_faces
from models.faces import Face, Forward
from models.network import instantiate, torch_forward


@pytest.fixture(scope="module")
def forward() -> Forward:
    return torch_forward(instantiate(checkpoint.read(pretrained.DETECTOR)))


def find(demo: Path, name: str, forward: Forward) -> tuple[list[Face], tuple[int, int]]:
    with Image.open(demo / name) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return find_faces(pixels, forward), (pixels.shape[1], pixels.shape[0])


@pytest.mark.parametrize(
    "name", ["004_A.jpg", "005_A.jpg", "006_A.jpg", "007_B.jpg", "009_C.jpg", "obama.jpg", "biden.jpg"]
)
def test_a_portrait_shows_its_face_first(demo: Path, forward: Forward, name: str) -> None:
    faces, (width, _) = find(demo, name, forward)
    best = max(faces, key=lambda face: face.box[2] * face.box[3])
    assert best is faces[0]
    x, y, box_width, box_height = best.box
    assert box_width > 0.1 * width
    inside = (best.landmarks > (x, y)).all(axis=1) & (best.landmarks < (x + box_width, y + box_height)).all(axis=1)
    assert inside.all()
    left_eye, right_eye, nose, left_mouth, right_mouth = best.landmarks
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize(("name", "count"), [("012_4.jpg", 4), ("013_4.jpg", 4), ("015_6.jpg", 6), ("016_8.jpg", 8)])
def test_everyone_in_a_group_is_found(demo: Path, forward: Forward, name: str, count: int) -> None:
    faces, _ = find(demo, name, forward)
    assert len(faces) == count


def test_no_face_is_found_where_there_is_none(demo: Path, forward: Forward) -> None:
    assert find(demo, "017_0.jpg", forward)[0] == []
