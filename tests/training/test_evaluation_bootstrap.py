"""Bootstrap over identities against naive resampling: repeat the pairs, measure them as they are."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from training.evaluation.bootstrap import (
    Resampling,
    bootstrap_accuracy,
    bootstrap_mean,
    interval,
    intervals,
    weighted_accuracy,
    weighted_rates,
)
from training.evaluation.verification import roc, verify


def people_pairs(seed: int, people: int = 60, pairs: int = 400, step: float = 0.02) -> dict[str, np.ndarray]:
    """Pairs of numbered people with tied scores, and some failed ones."""
    generator = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    first = generator.integers(0, people, pairs)
    second = np.where(same, first, (first + generator.integers(1, people, pairs)) % people)
    scores = np.round(generator.normal(np.where(same, 0.4, 0.1), 0.2) / step) * step
    scores[generator.random(pairs) < 0.03] = np.nan
    return {
        "scores": scores,
        "same": same,
        "fold": generator.permutation(np.arange(pairs) % 5),
        "identities_a": first,
        "identities_b": second,
    }


def test_a_pair_counts_as_often_as_its_people_were_drawn() -> None:
    resampling = Resampling.of(["a", "a", "b"], ["a", "c", "c"], seed=3, samples=500)
    weights = np.concatenate(list(resampling.weights()))
    assert weights.shape == (500, 3)
    drawn_a, both = weights[:, 0], weights[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn_c = np.where(drawn_a > 0, both / drawn_a, np.nan)
    assert np.nanmin(drawn_c) >= 0
    known = drawn_a > 0
    drawn_b = 3 - drawn_a[known] - drawn_c[known]  # three draws among three people
    np.testing.assert_array_equal(weights[known, 2], drawn_b * drawn_c[known])
    assert drawn_a.mean() == pytest.approx(1, abs=0.15)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.2]))
def test_weights_equal_repeated_pairs(seed: int, step: float) -> None:
    data = people_pairs(seed, people=12, pairs=60, step=step)
    weights = next(iter(Resampling.of(data["identities_a"], data["identities_b"], seed, 4).weights()))
    accuracies = weighted_accuracy(data["scores"], data["same"], data["fold"], weights)
    rates = weighted_rates(data["scores"], data["same"], weights)
    for sample, times in enumerate(weights):
        scores, same, fold = (np.repeat(data[name], times) for name in ("scores", "same", "fold"))
        rest = [same[(fold != held_out) & ~np.isnan(scores)] for held_out in np.unique(fold)]
        if any(len(kinds) == 0 or kinds.all() or not kinds.any() for kinds in rest):
            continue  # no protocol is left to compare with
        expected = verify(scores, same, fold).summary()
        assert accuracies[sample] == pytest.approx(expected["accuracy_mean"])
        assert rates.auc[sample] == pytest.approx(expected["auc"])
        assert rates.auc[sample] == pytest.approx(roc_auc_score(same, np.nan_to_num(scores, nan=-9)))
        assert rates.eer[sample] == pytest.approx(expected["eer"])
        for name, tar in rates.tar_at_fmr.items():
            assert tar[sample] == pytest.approx(expected["tar_at_fmr"][name])


def test_one_kind_of_pair_gives_no_rate() -> None:
    rates = weighted_rates(np.array([0.1, 0.9]), np.array([True, False]), np.array([[1, 0], [0, 2], [1, 1]]))
    for drawn in (rates.auc, rates.eer, rates.tar_at_fmr["1e-2"]):
        assert np.isnan(drawn).tolist() == [True, True, False]


def test_intervals_are_percentiles_of_naive_resampling() -> None:
    data = people_pairs(1)
    drawn, generator = [], np.random.default_rng(99)
    people = np.unique(np.r_[data["identities_a"], data["identities_b"]])
    for _ in range(400):
        count = np.bincount(generator.choice(people, len(people)), minlength=people.max() + 1)
        first, second = count[data["identities_a"]], count[data["identities_b"]]
        times = np.where(data["identities_a"] == data["identities_b"], first, first * second)
        repeated = {name: np.repeat(data[name], times) for name in ("scores", "same", "fold")}
        drawn.append(np.mean(verify(*repeated.values()).fold_accuracy))
    expected = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_accuracy(**data, seed=0), expected, atol=0.02)  # of 400 samples
    report = intervals(**data, seed=0)
    assert report["accuracy_mean"] == list(bootstrap_accuracy(**data, seed=0))
    assert report["units"] == 60
    curve = roc(data["scores"], data["same"])
    assert report["auc"][0] < curve.auc() < report["auc"][1]
    assert report["eer"][0] < curve.eer() < report["eer"][1]


def test_pairs_that_share_people_are_less_certain_than_independent_ones() -> None:
    data = people_pairs(2, people=25, pairs=600)
    people = np.random.default_rng(0).normal(0, 0.15, 25)  # some are easier to recognise than others
    data["scores"] = data["scores"] + np.where(data["same"], people[data["identities_a"]], 0)
    alone = {**data, "identities_a": np.arange(600), "identities_b": np.arange(600)}
    shared_low, shared_high = bootstrap_accuracy(**data, seed=0)
    alone_low, alone_high = bootstrap_accuracy(**alone, seed=0)
    assert shared_high - shared_low > 1.2 * (alone_high - alone_low)


def test_the_same_seed_gives_the_same_interval_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = people_pairs(3)
    whole = bootstrap_accuracy(**data, seed=7, samples=100)
    assert whole != bootstrap_accuracy(**data, seed=8, samples=100)
    monkeypatch.setattr("training.evaluation.bootstrap._CELLS", 1000)
    assert bootstrap_accuracy(**data, seed=7, samples=100) == whole


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(150):
        chance = np.repeat(generator.beta(4, 2, 50), 4)  # 50 people, 4 photos each, easier or harder people
        low, high = bootstrap_mean(generator.random(200) < chance, np.repeat(np.arange(50), 4), trial, 300)
        covered += low <= 4 / 6 <= high
    assert covered / 150 > 0.88


def test_unknown_figures_have_no_interval() -> None:
    assert np.isnan(interval(np.full(5, np.nan))).all()
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def test_a_thousand_samples_of_a_real_size_take_seconds() -> None:
    data = people_pairs(4, people=500, pairs=7000, step=1e-9)
    started = time.process_time()
    intervals(**data, seed=0, samples=1000)
    assert time.process_time() - started < 30
