"""Thresholds by error rate: the table, beyond the table, and the search among many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.calibration import Calibration, CalibrationRow, fpir_to_fmr

CALIBRATION = Calibration(
    rows=[CalibrationRow(fmr=10.0**-k, threshold=0.1 * k) for k in range(1, 5)],
    impostor_pairs=1_000_000,
    genuine_pairs=1000,
    slope=20.0,
    intercept=-6.0,
    prior=0.5,
    data="test",
)


@pytest.mark.parametrize(("fmr", "threshold"), [(1e-1, 0.1), (1e-2, 0.2), (1e-3, 0.3), (1e-4, 0.4)])
def test_a_row_is_given_back(fmr: float, threshold: float) -> None:
    choice = CALIBRATION.threshold(fmr)
    assert choice.threshold == pytest.approx(threshold)
    assert not choice.extrapolated


def test_between_rows_is_linear_in_the_logarithm() -> None:
    assert CALIBRATION.threshold(10**-2.5).threshold == pytest.approx(0.25)


def test_beyond_the_table_says_so() -> None:
    strict = CALIBRATION.threshold(1e-6)
    assert strict.extrapolated
    assert strict.threshold == pytest.approx(0.6)
    assert CALIBRATION.threshold(0.5).extrapolated
    assert CALIBRATION.threshold(1e-30).threshold == 1.0


@given(st.floats(1e-12, 0.99), st.floats(1e-12, 0.99))
def test_a_stricter_rate_never_lowers_the_threshold(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert CALIBRATION.threshold(low).threshold >= CALIBRATION.threshold(high).threshold


@pytest.mark.parametrize("fmr", [0, 1, -1, 2, float("nan")])
def test_a_rate_outside_zero_and_one_is_refused(fmr: float) -> None:
    with pytest.raises(ValueError, match="false match rate"):
        CALIBRATION.threshold(fmr)


def test_the_probability_is_the_logistic() -> None:
    cosines = np.linspace(-1, 1, 21)
    expected = 1 / (1 + np.exp(-(20 * cosines - 6)))
    np.testing.assert_allclose(CALIBRATION.probabilities(cosines), expected, rtol=1e-9)
    assert CALIBRATION.probability(0.3) == pytest.approx(0.5)


@given(st.floats(1e-6, 0.5), st.integers(1, 10_000_000))
def test_a_search_keeps_its_rate_however_many_subjects(fpir: float, subjects: int) -> None:
    fmr = fpir_to_fmr(fpir, subjects)
    assert -np.expm1(subjects * np.log1p(-fmr)) == pytest.approx(fpir, rel=1e-6)


def test_rows_that_do_not_tighten_are_refused() -> None:
    rows = [CalibrationRow(fmr=0.1, threshold=0.3), CalibrationRow(fmr=0.01, threshold=0.2)]
    with pytest.raises(ValidationError, match="tighten"):
        Calibration(**(CALIBRATION.model_dump() | {"rows": rows}))
