"""Five-point alignment: geometry against closed forms, and pixels against a known picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alignment import TEMPLATE, DegenerateLandmarks, align, similarity


@given(
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.05, 20),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
)
def test_a_similarity_is_recovered_exactly(angle: float, scale: float, x: float, y: float) -> None:
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATE.astype(np.float64) @ rotation.T + (x, y)
    matrix = similarity(moved)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)


def test_a_mirrored_face_is_rotated_and_never_reflected() -> None:
    mirrored = TEMPLATE * (-1, 1)
    assert np.linalg.det(similarity(mirrored)[:, :2]) > 0


@pytest.mark.parametrize(
    "landmarks",
    [np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf), np.zeros((4, 2)), np.zeros(10)],
)
def test_landmarks_that_fix_nothing_are_refused(landmarks: np.ndarray) -> None:
    with pytest.raises(DegenerateLandmarks):
        similarity(landmarks)


def _picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)]
    return np.stack([(127 + 100 * wave).astype(np.uint8) for wave in waves], axis=2)


def test_a_face_already_in_place_is_returned_as_it_is() -> None:
    picture = _picture(112, 112)
    np.testing.assert_allclose(align(picture, TEMPLATE).astype(int), picture, atol=1)  # Pillow rounds down


def test_a_shifted_face_is_moved_by_whole_pixels() -> None:
    picture = _picture(300, 300)
    crop = align(picture, TEMPLATE + np.array([40, 25]))
    np.testing.assert_allclose(crop.astype(int), picture[25:137, 40:152], atol=1)


@pytest.mark.parametrize("scale", [2, 3, 7])
def test_a_large_face_is_averaged_and_not_sampled_point_by_point(scale: int) -> None:
    small = _picture(112, 112)
    large = small.repeat(scale, axis=0).repeat(scale, axis=1)
    noisy = large.astype(np.int16) + np.random.default_rng(0).integers(-40, 40, large.shape)
    # Pixel centre i of the small picture lies at scale * i + (scale - 1) / 2 of the large one.
    crop = align(noisy.clip(0, 255).astype(np.uint8), TEMPLATE * scale + (scale - 1) / 2)
    error = np.abs(crop.astype(int) - small).mean()
    assert error < 25 / scale  # the mean of scale^2 noisy pixels; one pixel alone would be off by 20


def test_beyond_the_photo_is_black() -> None:
    assert align(np.full((50, 50, 3), 255, np.uint8), TEMPLATE + 1000).max() == 0
    half = align(np.full((112, 112, 3), 255, np.uint8), TEMPLATE - (56, 0))
    assert half[:, :54].max() == 0
    assert half[:, 58:].min() == 255
