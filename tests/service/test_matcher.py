"""Thresholds as promises: looser rates, lower thresholds; larger galleries, higher ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibration, CalibrationRow
from service.gallery.cursors import decode_cursor, encode_cursor
from service.gallery.errors import InvalidCursor, InvalidEmbedding, ThresholdUnknown
from service.gallery.matcher import Matcher, ThresholdSource, similarity, unit_embedding

CALIBRATION = Calibration(
    rows=[CalibrationRow(fmr=10.0**-power, threshold=0.1 * power) for power in (1, 2, 3)],
    impostor_pairs=30_000,
    genuine_pairs=2_000,
    slope=20,
    intercept=-6,
    prior=0.5,
    data="made up",
)
MATCHER = Matcher(CALIBRATION, default_far=1e-4, default_fpir=1e-2)
rates = st.floats(1e-6, 0.5)


def test_the_default_is_the_strictest_supported_rate_when_that_is_looser() -> None:
    threshold = MATCHER.verification()
    assert (threshold.far, threshold.similarity) == (1e-3, pytest.approx(0.3))
    assert (threshold.source, threshold.extrapolated) == (ThresholdSource.CALIBRATION, False)


def test_a_rate_beyond_the_data_says_so() -> None:
    assert MATCHER.verification(far=1e-5).extrapolated
    assert not MATCHER.verification(far=1e-2).extrapolated


def test_the_callers_own_threshold_promises_nothing() -> None:
    threshold = MATCHER.verification(threshold=0.42)
    assert (threshold.similarity, threshold.far, threshold.source) == (0.42, None, ThresholdSource.REQUEST)
    assert MATCHER.identification(9, threshold=0.42) == threshold


def test_without_calibration_a_threshold_must_be_named() -> None:
    matcher = Matcher(None, 1e-4, 1e-2)
    with pytest.raises(ThresholdUnknown, match="calibrate"):
        matcher.verification()
    with pytest.raises(ThresholdUnknown):
        matcher.identification(5, far=0.01)
    assert matcher.verification(threshold=0.5).similarity == 0.5
    assert matcher.probability(0.9) is None


@given(far=rates, stricter=rates)
def test_a_stricter_rate_never_lowers_the_threshold(far: float, stricter: float) -> None:
    low, high = sorted((far, stricter))
    assert MATCHER.verification(low).similarity >= MATCHER.verification(high).similarity


@given(far=rates, subjects=st.integers(1, 10**6), more=st.integers(0, 10**6))
def test_the_threshold_tightens_as_the_gallery_grows(far: float, subjects: int, more: int) -> None:
    small = MATCHER.identification(subjects, far).similarity
    assert MATCHER.identification(subjects + more, far).similarity >= small - 1e-9


@given(far=rates)
def test_identification_among_one_is_verification(far: float) -> None:
    one = MATCHER.identification(1, far).similarity
    assert one == pytest.approx(MATCHER.verification(far).similarity, abs=1e-6)
    assert MATCHER.identification(0, far).similarity == one


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_a_callers_embedding_becomes_a_unit_vector_or_is_refused(values: list[float]) -> None:
    try:
        vector = unit_embedding(np.array(values), 4)
    except InvalidEmbedding:
        assert np.linalg.norm(values) < 1e-5
    else:
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert similarity(vector, vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("values", [[0.0] * 4, [np.nan, 1, 1, 1], [np.inf, 1, 1, 1], [1.0] * 3])
def test_what_is_no_embedding_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidEmbedding):
        unit_embedding(np.array(values), 4)


@given(listing=st.sampled_from(["subjects", "faces", "collections"]), last=st.integers(0, 2**63 - 1))
def test_a_cursor_leads_back_to_its_row(listing: str, last: int) -> None:
    cursor = encode_cursor(listing, last)
    assert decode_cursor(listing, cursor) == last
    with pytest.raises(InvalidCursor):
        decode_cursor("others", cursor)


@given(st.text(max_size=80))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor("subjects", text)
