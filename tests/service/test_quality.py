"""Quality: each fault is seen in the photo that has it, and ordinary photos have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.alignment import TEMPLATE, align
from models.faces import Face
from service.recognition.quality import (
    LOW_QUALITY,
    SCORE,
    SHARPNESS,
    SIZE,
    TURN,
    Measurements,
    assess,
    measure,
)

GOOD = Measurements(size=60.0, sharpness=0.1, turn=0.05, score=0.95)


@pytest.fixture(scope="module")
def portraits(unpacked: Callable[[str], Path]) -> list[tuple[Image.Image, Face]]:
    """Sixty whole photos with one large enough face each, and its labelled landmarks."""
    folder = unpacked("photos")
    labels = json.loads((folder / "celeba.json").read_text())
    large = [label for label in labels if label["box"][2] >= 60]
    return [
        (
            Image.open(folder / label["image"]).convert("RGB"),
            Face(tuple(label["box"]), np.array(label["landmarks"], np.float32), label["score"]),
        )
        for label in large[:: len(large) // 60][:60]
    ]


def judged(image: Image.Image, face: Face) -> Measurements:
    return measure(face, align(np.asarray(image), face.landmarks))


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def test_ordinary_portraits_are_good(portraits: list[tuple[Image.Image, Face]]) -> None:
    assessments = [assess(judged(image, face)) for image, face in portraits]

    assert share([not assessment.reasons for assessment in assessments]) >= 0.9
    assert np.median([assessment.quality for assessment in assessments]) > 0.6


def test_blurring_a_portrait_is_noticed(portraits: list[tuple[Image.Image, Face]]) -> None:
    def blurred(image: Image.Image, face: Face) -> Image.Image:
        # As wide on every face: an eighth of its width, in steps of the crop about 8 pixels.
        return image.filter(ImageFilter.GaussianBlur(face.box[2] / 18))

    assessments = [assess(judged(blurred(image, face), face)) for image, face in portraits]

    assert share(["blurred" in assessment.reasons for assessment in assessments]) >= 0.9


def test_darkening_a_portrait_is_not_taken_for_blur(portraits: list[tuple[Image.Image, Face]]) -> None:
    dark = [judged(image.point(lambda value: value // 3), face) for image, face in portraits]

    assert share([assess(measured).reasons == () for measured in dark]) >= 0.85


def test_a_small_face_is_measured_in_pixels_of_the_photo(portraits: list[tuple[Image.Image, Face]]) -> None:
    image, face = portraits[0]
    shrink = judged(image, face).size / 8.0
    small = image.resize((int(image.width / shrink), int(image.height / shrink)), Image.Resampling.BOX)
    smaller = Face(tuple(side / shrink for side in face.box), face.landmarks / np.float32(shrink), face.score)

    measured = judged(small, smaller)

    assert measured.size == pytest.approx(8.0, rel=0.01)
    assert "small_face" in assess(measured).reasons


def test_the_template_is_frontal_whatever_its_size_and_roll() -> None:
    crop = np.zeros((112, 112, 3), dtype=np.uint8)
    angle = np.deg2rad(40)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for landmarks, size in ((TEMPLATE, 35.2), (TEMPLATE * 3, 105.7), (TEMPLATE @ turn.T, 35.2)):
        measured = measure(Face((0, 0, 1, 1), landmarks.astype(np.float32), 0.9), crop)
        assert measured.size == pytest.approx(size, rel=0.01)
        assert measured.turn < 0.02


def test_a_face_in_profile_is_turned() -> None:
    # The far eye and mouth corner come close to the near ones, the nose leaves their middle.
    profile = np.array([[50, 50], [66, 50], [74, 70], [54, 92], [66, 92]], dtype=np.float32)
    measured = measure(Face((0, 0, 1, 1), profile, 0.9), np.zeros((112, 112, 3), dtype=np.uint8))

    assert measured.turn > TURN.reason
    assert "extreme_pose" in assess(measured).reasons


def test_eyes_that_coincide_are_an_extreme_pose() -> None:
    profile = np.array([[50, 50], [50, 50], [74, 70], [54, 92], [66, 92]], dtype=np.float32)
    measured = measure(Face((0, 0, 1, 1), profile, 0.9), np.zeros((112, 112, 3), dtype=np.uint8))

    assert assess(measured).reasons[-1] == "extreme_pose"
    assert assess(measured).quality == 0.0


def test_a_flat_crop_is_blurred() -> None:
    face = Face((0, 0, 1, 1), TEMPLATE, 0.9)
    assert measure(face, np.full((112, 112, 3), 128, dtype=np.uint8)).sharpness == 0.0


@pytest.mark.parametrize(
    ("fault", "value", "reason"),
    [
        ("size", SIZE.reason * 0.99, "small_face"),
        ("score", SCORE.reason * 0.99, "low_detection_score"),
        ("sharpness", SHARPNESS.reason * 0.99, "blurred"),
        ("turn", TURN.reason * 1.01, "extreme_pose"),
    ],
)
def test_each_fault_alone_is_named_and_lowers_quality(fault: str, value: float, reason: str) -> None:
    faulty = assess(Measurements(**{**vars(GOOD), fault: value}))

    assert faulty.reasons == (reason,)
    assert faulty.quality < assess(GOOD).quality == 1.0


def test_mild_faults_together_are_low_quality() -> None:
    mild = assess(Measurements(size=11.0, sharpness=0.011, turn=0.44, score=SCORE.reason * 1.02))

    assert mild.reasons == ("low_quality",)
    assert 0 < mild.quality < LOW_QUALITY
