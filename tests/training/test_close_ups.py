"""Close-ups: one face amid the view, its labels where its pixels are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models.detector.refine import FACE, VIEW
from training.data.close_ups import CloseUps
from training.data.detection import Photo
from training.data.scenes import Scene

BOX = np.array([[60, 40, 40, 56]], np.float32)
POINTS = np.array([[[70, 55], [90, 55], [80, 68], [72, 82], [88, 82]]], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


def photo(colour: tuple[int, int, int], landmarks: np.ndarray = POINTS) -> Photo:
    """Black, but for one face in `colour` whose left eye (in the photo) is a dark patch."""
    pixels = np.zeros((140, 160, 3), np.uint8)
    pixels[40:96, 60:100] = colour
    pixels[52:59, 67:74] = (40, 40, 40)
    return Photo("face", Image.fromarray(pixels), BOX, landmarks, NOTHING)


def drawn(close_ups: CloseUps, count: int = 60) -> list[Scene]:
    random = np.random.default_rng(0)
    return [close_ups.close_up(random) for _ in range(count)]


def test_a_face_of_about_the_promised_size_stands_amid_the_view() -> None:
    scenes = drawn(CloseUps([photo((255, 255, 255))], []))
    assert {scene.image.shape for scene in scenes} == {(VIEW, VIEW, 3)}
    assert all(len(scene.boxes) == 1 for scene in scenes)
    sides = np.array([np.sqrt(scene.boxes[0, 2:].prod()) for scene in scenes]) / FACE
    # A face that leaves the view is clipped, and a turned one's box is the box around it.
    assert 0.85 < np.median(sides) < 1.15
    middles = np.array([scene.boxes[0, :2] + scene.boxes[0, 2:] / 2 for scene in scenes])
    assert abs(np.median(middles, axis=0) - VIEW / 2).max() < 0.05 * VIEW
    assert middles.std(axis=0).min() > 2


def test_landmarks_follow_the_pixels_and_left_stays_left() -> None:
    mirrored = 0
    for scene in drawn(CloseUps([photo((255, 255, 255))], [])):
        left, right = scene.landmarks[0, :2]
        assert left[0] < right[0]
        brightness = [scene.image[round(float(y)), round(float(x))].astype(int).mean() for x, y in (left, right)]
        dark = int(np.argmin(brightness))
        assert brightness[dark] < 100 < 200 < brightness[1 - dark]
        mirrored += dark
    assert 15 <= mirrored <= 45


def test_most_show_crops_some_portraits_and_none_a_face_without_landmarks() -> None:
    unknown = photo((0, 0, 255), np.full_like(POINTS, np.nan))
    close_ups = CloseUps([photo((255, 0, 0)), unknown], [photo((0, 255, 0)), unknown])
    assert len(close_ups) == 2
    colours = np.array([scene.image[int(scene.boxes[0, 1] + 40), VIEW // 2].argmax() for scene in drawn(close_ups)])
    assert 8 <= (colours == 0).sum() <= 28
    assert not (colours == 2).any()


@pytest.mark.parametrize("portraits", [True, False])
def test_one_kind_of_photos_is_enough(portraits: bool) -> None:
    photos = [photo((255, 255, 255))]
    assert len(drawn(CloseUps(photos, []) if portraits else CloseUps([], photos), 3)) == 3
