"""Face masks drawn pixel by pixel, and the four figures from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score

from training.evaluation.segmentation import confusion, face_mask, segmentation_figures


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_cell_is_face_when_its_centre_is_in_an_ellipse(seed: int) -> None:
    generator = np.random.default_rng(seed)
    boxes = np.c_[generator.uniform(-10, 60, (3, 2)), generator.uniform(0, 50, (3, 2))]
    mask = face_mask(boxes, height=50, width=67)
    assert mask.shape == (7, 9)
    for row in range(7):
        for column in range(9):
            inside = False
            for x, y, width, height in boxes:
                across, down = 8 * column + 4 - (x + width / 2), 8 * row + 4 - (y + height / 2)
                inside |= (2 * across / width) ** 2 + (2 * down / height) ** 2 <= 1
            assert mask[row, column] == inside


def test_boxes_without_area_cover_nothing() -> None:
    assert not face_mask([[4, 4, 0, 9], [4, 4, 9, 0]], 32, 32).any()
    assert not face_mask([], 32, 32).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_figures_equal_scikit_learn(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    truth, predicted = generator.random((2, 20, 30)) < share
    counts = confusion(truth, predicted)
    np.testing.assert_array_equal(counts, confusion_matrix(truth.ravel(), predicted.ravel(), labels=[False, True]))
    figures = segmentation_figures(counts)
    assert figures["pa"] == pytest.approx(accuracy_score(truth.ravel(), predicted.ravel()))
    assert figures["mpa"] == pytest.approx(balanced_accuracy_score(truth.ravel(), predicted.ravel()))
    for name, average in (("miou", "macro"), ("fwiou", "weighted")):
        assert figures[name] == pytest.approx(jaccard_score(truth.ravel(), predicted.ravel(), average=average))


def test_a_photo_without_faces_is_judged_by_its_background() -> None:
    nothing = np.zeros((4, 4), bool)
    assert segmentation_figures(confusion(nothing, nothing)) == {"pa": 1, "mpa": 1, "miou": 1, "fwiou": 1}
    some = np.eye(4, dtype=bool)
    figures = segmentation_figures(confusion(nothing, some))
    assert figures == {"pa": 0.75, "mpa": 0.75, "miou": 0.375, "fwiou": 0.75}
