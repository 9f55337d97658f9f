"""Calibration against brute force over all pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from training.evaluation.calibration import (
    BINS,
    CalibrationError,
    PairHistogram,
    calibrate,
    count_pairs,
    fit_logistic,
    fmr_rows,
    identity_images,
)


def people(seed: int, subjects: int, photos: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings scattered around a random direction for each subject."""
    generator = np.random.default_rng(seed)
    identities = np.repeat(np.arange(subjects), photos)
    centres = generator.normal(size=(subjects, 32))
    vectors = centres[identities] + spread * generator.normal(size=(subjects * photos, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), identities


def brute_force(vectors: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(list(combinations(range(len(vectors)), 2)))
    cosines = np.sum(vectors[pairs[:, 0]] * vectors[pairs[:, 1]], axis=1)
    same = identities[pairs[:, 0]] == identities[pairs[:, 1]]
    return cosines[same], cosines[~same]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_every_pair_is_counted_once(block: int) -> None:
    vectors, identities = people(0, subjects=9, photos=5, spread=0.5)
    histogram = count_pairs(vectors, identities, block=block)
    genuine, impostor = brute_force(vectors, identities)
    edges = np.linspace(-1, 1, 401)
    for counted, scores in ((histogram.genuine, genuine), (histogram.impostor, impostor)):
        assert counted.sum() == len(scores)
        centres = (np.flatnonzero(counted) + 0.5) * 2 / BINS - 1
        coarse, _ = np.histogram(centres, edges, weights=counted[counted > 0])
        expected, _ = np.histogram(scores, edges)
        assert np.abs(np.cumsum(coarse) - np.cumsum(expected)).max() <= 1  # one may sit on an edge


def test_rows_keep_their_rate_and_are_the_lowest_that_do() -> None:
    vectors, identities = people(1, subjects=60, photos=6, spread=0.7)
    table = calibrate(vectors, identities, "synthetic")
    _, impostor = brute_force(vectors, identities)
    assert table.impostor_pairs == len(impostor)
    assert [row.fmr for row in table.rows] == [1e-1, 1e-2, 1e-3]  # 63,720 pairs: 6 errors expected at 1e-4
    for row in table.rows:
        assert (impostor >= row.threshold + 1e-6).mean() <= row.fmr
        assert (impostor >= row.threshold - 2e-5).mean() > row.fmr - 2 / len(impostor)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(3_000, 400_000))
def test_thresholds_rise_as_the_rate_falls(seed: int, pairs: int) -> None:
    counts = np.random.default_rng(seed).multinomial(pairs, np.full(50, 0.02))
    impostor = np.zeros(BINS, dtype=np.int64)
    impostor[np.linspace(0, BINS - 1, 50).astype(int)] = counts
    rows = fmr_rows(impostor, "synthetic")
    thresholds = [row.threshold for row in rows]
    assert thresholds == sorted(thresholds)
    assert rows[-1].fmr * pairs >= 30 * (1 - 1e-9)


def test_logistic_equals_scikit_learn_with_balanced_classes() -> None:
    generator = np.random.default_rng(3)
    genuine, impostor = generator.normal(0.6, 0.15, 4_000), generator.normal(0.1, 0.12, 20_000)
    counts = [np.histogram(np.clip(s, -1, 1), BINS, (-1, 1))[0].astype(np.int64) for s in (genuine, impostor)]
    slope, intercept = fit_logistic(PairHistogram(*counts))
    reference = LogisticRegression(C=1e10, class_weight="balanced", tol=1e-8, max_iter=1000)
    reference.fit(np.r_[genuine, impostor][:, None], np.r_[np.ones(4_000), np.zeros(20_000)])
    assert slope == pytest.approx(reference.coef_[0, 0], rel=0.02)
    assert intercept == pytest.approx(reference.intercept_[0], rel=0.02)


def test_logistic_stays_finite_where_the_classes_do_not_overlap() -> None:
    vectors, identities = people(4, subjects=60, photos=6, spread=0.01)
    table = calibrate(vectors, identities, "synthetic")
    assert 0 < table.slope < 1e4
    assert table.probability(0.95) > 0.99
    assert table.probability(0.0) < 0.01


def test_an_untrained_model_is_refused() -> None:
    vectors, _ = people(5, subjects=300, photos=1, spread=0.0)
    mirrored = np.concatenate([vectors, -vectors])  # a person's two photos are as unlike as can be
    with pytest.raises(CalibrationError, match="untrained"):
        calibrate(mirrored, np.tile(np.arange(300), 2), "synthetic")


def test_too_few_pairs_are_refused_with_the_number_needed() -> None:
    vectors, identities = people(6, subjects=10, photos=4, spread=0.5)
    with pytest.raises(CalibrationError, match=r"too few pairs of different people: 720, at least 3000"):
        calibrate(vectors, identities, "small")
    with pytest.raises(CalibrationError, match="too few pairs of the same person: 0"):
        calibrate(vectors, np.arange(40), "strangers")


def test_identities_are_the_folders(tmp_path: Path) -> None:
    for name in ("b/1.webp", "a/2.png", "a/1.jpg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images, identities = identity_images(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in images] == ["a/1.jpg", "a/2.png", "b/1.webp"]
    assert identities.tolist() == [0, 0, 1]
    with pytest.raises(CalibrationError, match="two or more"):
        identity_images(tmp_path / "a")
