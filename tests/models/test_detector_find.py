"""Finding faces in whole photos: whatever the photo's size, answers are in its own pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.detector.decode import CHANNELS, STRIDES, UNIT
from models.detector.find import find_faces


def brightest_patch(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A network that can be reasoned about: it reports the box of all bright pixels as the one face."""
    height, width = planes.shape[2:]
    maps = [np.full((1, CHANNELS, height // s, width // s), -9.0, np.float32) for s in STRIDES]
    rows, columns = np.nonzero(planes[0].mean(axis=0) > 0.5)
    if len(rows):
        left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = int(x // 8), int(y // 8)
        cell = maps[0][0, :, row, column]
        cell[0] = 4.0
        cell[1:3] = x / 8 - column - 0.5, y / 8 - row - 0.5
        cell[3:5] = np.log(np.array([right - left, bottom - top]) / (UNIT * 8))
        corners = np.array([[left, top], [right, top], [x, y], [left, bottom], [right, bottom]])
        middle = np.array([column + 0.5, row + 0.5]) * 8
        cell[5:] = ((corners - middle) / (right - left, bottom - top)).ravel()
    return maps


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (480, 640), (100, 100), (33, 500), (500, 33), (641, 639)])
def test_boxes_and_landmarks_are_in_photo_pixels(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    top, left = height // 4, width // 4
    bottom, right = height // 2 + 8, width // 2 + 8
    image[top:bottom, left:right] = 255
    (face,) = find_faces(image, brightest_patch)
    tolerance = 2 * max(1.0, max(height, width) / 640)
    assert face.box == pytest.approx((left, top, right - left, bottom - top), abs=tolerance)
    np.testing.assert_allclose(face.landmarks[0], [left, top], atol=tolerance)
    np.testing.assert_allclose(face.landmarks[4], [right, bottom], atol=tolerance)


def test_the_network_sees_multiples_of_32_no_longer_than_asked() -> None:
    seen = []

    def spy(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.append(planes.shape)
        return brightest_patch(planes)

    find_faces(np.zeros((300, 1000, 3), np.uint8), spy, max_side=320)
    find_faces(np.zeros((50, 40, 3), np.uint8), spy)  # enlarged twofold, not to 640
    assert seen == [(1, 3, 96, 320), (1, 3, 128, 96)]


def test_boxes_end_where_the_photo_ends() -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    (face,) = find_faces(image, brightest_patch)
    x, y, width, height = face.box
    assert x >= 0
    assert y >= 0
    assert x + width <= 200
    assert y + height <= 200


def test_at_most_so_many_faces() -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    assert find_faces(image, brightest_patch, max_faces=0) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 4), np.uint8), np.zeros((10, 10, 3), np.float32)],
)
def test_other_arrays_are_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        find_faces(image, brightest_patch)
