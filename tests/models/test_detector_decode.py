"""Decoding: what a cell says is what comes out, once, and only where the heat peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.detector.decode import CHANNELS, STRIDES, UNIT, decode, distinct, overlaps

SIDE = 128


def silent_maps() -> list[NDArray[np.float32]]:
    """Maps of a 128x128 input in which no cell sees a face."""
    maps = [np.zeros((1, CHANNELS, SIDE // stride, SIDE // stride), np.float32) for stride in STRIDES]
    for level in maps:
        level[:, 0] = -30.0
    return maps


def tell(
    maps: list[NDArray[np.float32]],
    level: int,
    box: tuple[float, float, float, float],
    landmarks: NDArray[np.float32],
    logit: float,
) -> None:
    """Write one face into the cell of its centre: the inverse of decoding, from its definition."""
    stride = STRIDES[level]
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    column, row = int(x // stride), int(y // stride)
    cell = maps[level][0, :, row, column]
    cell[0] = logit
    cell[1:3] = x / stride - column - 0.5, y / stride - row - 0.5
    cell[3:5] = np.log(np.array(box[2:]) / (UNIT * stride))
    cell[5:] = ((landmarks - np.array([column + 0.5, row + 0.5]) * stride) / box[2:]).ravel()


FIVE = np.array([[40, 40], [60, 41], [50, 50], [42, 60], [58, 61]], np.float32)


@given(
    level=st.integers(0, 2),
    x=st.floats(2, 60),
    y=st.floats(2, 60),
    width=st.floats(4, 60),
    height=st.floats(4, 60),
    logit=st.floats(0.1, 8),
)
def test_a_told_face_is_decoded(level: int, x: float, y: float, width: float, height: float, logit: float) -> None:
    maps = silent_maps()
    tell(maps, level, (x, y, width, height), FIVE, logit)
    (face,) = decode(maps, 0.5)
    assert face.box == pytest.approx((x, y, width, height), abs=1e-3)
    np.testing.assert_allclose(face.landmarks, FIVE, atol=1e-3)
    assert face.score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_nothing_is_found_in_silence() -> None:
    assert decode(silent_maps(), 0.5) == []


def test_the_threshold_is_a_probability() -> None:
    maps = silent_maps()
    tell(maps, 0, (30, 30, 20, 20), FIVE, 0.0)
    assert len(decode(maps, 0.5)) == 1
    assert decode(maps, 0.51) == []


def test_a_neighbour_below_the_peak_says_nothing() -> None:
    maps = silent_maps()
    tell(maps, 0, (30, 30, 20, 20), FIVE, 3.0)
    tell(maps, 0, (70, 30, 20, 20), FIVE, 1.0)  # another face, far away
    tell(maps, 0, (38, 30, 20, 20), FIVE, 2.0)  # the next cell
    assert [round(face.box[0]) for face in decode(maps, 0.3)] == [30, 70]


def test_cells_around_a_peak_vote_by_their_scores_if_they_mean_the_same_face() -> None:
    maps = silent_maps()
    tell(maps, 0, (30, 30, 40, 40), FIVE, 1.0)
    peak = maps[0][0, :, 6, 6].copy()
    for column, logit in ((7, 0.0), (5, 0.5)):
        maps[0][0, :, 6, column] = peak
        maps[0][0, 0, 6, column] = logit
    maps[0][0, 1, 6, 7] -= 1.0 - 2 / 8  # the right cell means a box 2 pixels further right
    maps[0][0, 3:5, 6, 5] -= 2.0  # the left cell means a far smaller face
    (face,) = decode(maps, 0.6)
    peak_score, right_score = 1 / (1 + np.exp(-1.0)), 0.5
    assert face.box[0] == pytest.approx(30 + 2 * right_score / (peak_score + right_score), abs=0.02)
    assert face.score == pytest.approx(peak_score, abs=1e-6)


def test_a_face_seen_on_two_scales_is_one_face_and_the_better_score_wins() -> None:
    maps = silent_maps()
    tell(maps, 0, (30, 30, 40, 40), FIVE, 1.0)
    tell(maps, 1, (31, 29, 40, 42), FIVE, 2.0)
    (face,) = decode(maps, 0.5)
    assert face.box[0] == pytest.approx(31, abs=1e-3)


def test_faces_come_best_first() -> None:
    maps = silent_maps()
    for column, logit in enumerate((0.5, 3.0, 1.5)):
        tell(maps, 0, (8.0 + 40 * column, 30, 20, 20), FIVE, logit)
    scores = [face.score for face in decode(maps, 0.5)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


def test_absurd_sizes_stay_finite() -> None:
    maps = silent_maps()
    maps[2][0, 0, 1, 1] = 5.0
    maps[2][0, 3:5, 1, 1] = 1e6
    (face,) = decode(maps, 0.5)
    assert np.isfinite(face.box).all()


def test_overlap_of_known_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5]], np.float32)
    np.testing.assert_allclose(overlaps(box, others), [1, 1 / 3, 0], atol=1e-6)


def test_distinct_keeps_the_best_of_each_cluster() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [50, 0, 10, 10]], np.float32)
    assert distinct(boxes, np.array([0.5, 0.9, 0.7], np.float32), 0.45) == [1, 2]
