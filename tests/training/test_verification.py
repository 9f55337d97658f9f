"""Verification figures, recomputed by brute force and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from training.evaluation.verification import ProtocolError, accuracy, best_threshold, roc, verify


@st.composite
def scored_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Similarities with many ties, and at least one pair of each kind."""
    size = draw(st.integers(4, 40))
    scores = draw(st.lists(st.integers(-10, 10), min_size=size, max_size=size))
    same = draw(st.lists(st.booleans(), min_size=size - 2, max_size=size - 2))
    return np.array(scores) / 10, np.array([True, False, *same])


def random_pairs(seed: int, pairs: int = 600, folds: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    scores = generator.normal(np.where(same, 0.5, 0.1), 0.2)
    return scores, same, generator.permutation(np.arange(pairs) % folds)


@given(scored_pairs())
def test_auc_is_the_chance_that_a_genuine_pair_scores_higher(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    genuine, impostor = scores[same][:, None], scores[~same][None, :]
    expected = (genuine > impostor).mean() + (genuine == impostor).mean() / 2
    assert roc(scores, same).auc() == pytest.approx(expected)
    assert roc(scores, same).auc() == pytest.approx(roc_auc_score(same, scores))


@given(scored_pairs(), st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0]))
def test_tar_is_the_best_of_all_thresholds_within_the_fmr(pairs: tuple[np.ndarray, np.ndarray], fmr: float) -> None:
    scores, same = pairs
    expected = max(
        (scores[same] >= threshold).mean()
        for threshold in [*scores, np.inf]
        if (scores[~same] >= threshold).mean() <= fmr
    )
    assert roc(scores, same).tar_at(fmr) == pytest.approx(expected)


@given(scored_pairs())
def test_roc_equals_scikit_learn(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    fmr, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    curve = roc(scores, same)
    np.testing.assert_allclose(curve.fmr, fmr)
    np.testing.assert_allclose(curve.tar, tar)


@given(scored_pairs())
def test_eer_lies_on_the_curve_where_both_errors_are_equal(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    curve = roc(*pairs)
    eer = curve.eer()
    # The diagonal FNMR = FMR meets the polyline through the operating points at (eer, 1 - eer).
    distances = []
    for i in range(1, len(curve.fmr)):
        a = np.array([curve.fmr[i - 1], curve.tar[i - 1]])
        step = np.array([curve.fmr[i], curve.tar[i]]) - a
        share = np.clip(((np.array([eer, 1 - eer]) - a) @ step) / (step @ step), 0, 1)
        distances.append(np.linalg.norm(a + share * step - [eer, 1 - eer]))
    assert min(distances) == pytest.approx(0, abs=1e-9)


@given(scored_pairs())
def test_best_threshold_beats_every_other(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    best = accuracy(scores, same, best_threshold(scores, same))
    assert best == pytest.approx(max(((scores >= t) == same).mean() for t in [*scores, np.inf]))


def test_among_equally_accurate_thresholds_the_widest_gap_wins() -> None:
    same = np.array([False, False, True, False, True, True])
    scores = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 1.0])  # 0.15 and 0.6 both misjudge one pair
    assert best_threshold(scores, same) == pytest.approx(0.6)


@given(scored_pairs())
def test_rank_figures_ignore_a_rising_transform(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    scores, same = pairs
    plain, bent = roc(scores, same), roc(np.exp(3 * scores) - 7, same)
    assert bent.auc() == pytest.approx(plain.auc())
    assert bent.eer() == pytest.approx(plain.eer())
    assert bent.tar_at(0.1) == plain.tar_at(0.1)


def test_accuracy_ignores_scale_and_shift() -> None:
    scores, same, fold = random_pairs(1)
    moved = verify(4 * scores + 2, same, fold)
    assert moved.fold_accuracy == verify(scores, same, fold).fold_accuracy


def test_each_fold_is_judged_by_the_others_alone() -> None:
    scores, same, fold = random_pairs(2)
    report = verify(scores, same, fold)
    for held_out in range(10):
        inside = fold == held_out
        ours = best_threshold(scores[~inside], same[~inside])
        assert report.fold_threshold[held_out] == ours
        assert report.fold_accuracy[held_out] == ((scores[inside] >= ours) == same[inside]).mean()
    spoiled = np.where(fold == 3, -scores, scores)
    assert verify(spoiled, same, fold).fold_threshold[3] == report.fold_threshold[3]


def test_separable_pairs_are_perfect() -> None:
    same = np.tile([True, False], 20)
    report = verify(np.where(same, 0.9, 0.1), same, np.arange(40) % 4).summary()
    assert report["accuracy_mean"] == report["auc"] == report["tar_at_fmr"]["1e-3"] == 1
    assert report["accuracy_std"] == report["eer"] == 0


def test_a_failed_pair_is_an_error_of_either_kind() -> None:
    same = np.tile([True, False], 20)
    scores = np.where(same, 0.9, 0.1)
    scores[[0, 1]] = np.nan  # one genuine, one impostor
    report = verify(scores, same, np.arange(40) // 10)
    assert report.failed_pairs == 2
    assert report.fold_accuracy == [0.8, 1.0, 1.0, 1.0]
    assert report.tar_at_fmr["1e-2"] == 0.95  # a rejected genuine pair; the impostor cannot be a false match


@pytest.mark.parametrize("same", [np.ones(8, bool), np.zeros(8, bool), np.arange(8) >= 4])
def test_one_kind_of_pair_is_no_protocol(same: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match=r"same.*different"):
        verify(np.linspace(0, 1, 8), same, np.arange(8) // 4)
