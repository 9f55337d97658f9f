"""False matches among strangers, by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.calibration import Calibration, CalibrationRow
from models.embedding import unit
from training.cli import main
from training.evaluation.embeddings import EvaluationError
from training.evaluation.impostors import choose, impostor_rates


@pytest.fixture
def calibration() -> Calibration:
    rows = [CalibrationRow(fmr=0.1, threshold=0.2), CalibrationRow(fmr=0.01, threshold=0.5)]
    return Calibration(
        rows=rows, impostor_pairs=9999, genuine_pairs=9, slope=9.0, intercept=-1.0, prior=0.5, data="none"
    )


def test_a_group_that_looks_alike_is_matched_more_often(calibration: Calibration) -> None:
    random = np.random.default_rng(0)
    plain = unit(random.normal(size=(120, 16)).astype(np.float32))
    alike = unit((random.normal(size=(80, 16)) + 0.5).astype(np.float32))
    found = impostor_rates({"alike": alike, "plain": plain}, calibration, (0.1, 0.01), seed=1)
    for name, vectors in (("alike", alike), ("plain", plain)):
        first, second = np.triu_indices(len(vectors), 1)
        cosines = np.einsum("pd,pd->p", vectors[first], vectors[second])
        group = found["groups"][name]
        assert (group["images"], group["pairs"]) == (len(vectors), len(first))
        assert group["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
        for fmr, threshold in (("0.1", 0.2), ("0.01", 0.5)):
            measured = group["fmr"][fmr]
            assert measured["rate"] == pytest.approx((cosines >= threshold).mean(), abs=1e-6)
            assert measured["pairs_matched"] == (cosines >= threshold).sum()
            low, high = measured["interval"]
            assert low <= measured["rate"] * 1.05
            assert high >= measured["rate"] * 0.95
    assert found["ratio"]["0.1"] > 1.5


def test_groups_are_drawn_from_their_own_members() -> None:
    groups = ["a", "b", "b", "a", "b", "a", "a"]
    chosen = choose(groups, 3, seed=0)
    assert [len(chosen[name]) for name in ("a", "b")] == [3, 3]
    assert all(groups[position] == name for name, members in chosen.items() for position in members)
    assert choose(groups, 3, seed=0)["a"].tolist() == chosen["a"].tolist()
    with pytest.raises(EvaluationError, match="two are needed"):
        choose(["a", "a"], 3, seed=0)
    with pytest.raises(EvaluationError, match="group c"):
        choose([*groups, "c"], 3, seed=0)


@pytest.mark.parametrize(("pattern", "words"), [("(", "--group-pattern"), ("a", "capture one"), ("(x)", "0 group")])
def test_a_pattern_that_finds_no_groups_is_refused(pattern: str, words: str, tmp_path: Path) -> None:
    arguments = ["evaluate", "impostors", "--images", str(tmp_path), "--group-pattern", pattern]
    result = CliRunner().invoke(main, [*arguments, "--json", str(tmp_path / "groups.json")])
    assert (result.exit_code, words in result.output) == (2, True)
