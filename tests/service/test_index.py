"""The exact index equals brute force, and swallows nothing that FAISS would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.gallery.errors import InvalidEmbedding
from service.gallery.index import FlatIndex
from service.gallery.subjects import SubjectIndex

SIZE = 8


def units(count: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    subjects=st.integers(1, 8),
    top_k=st.integers(1, 10),
    removed=st.sets(st.integers(0, 59)),
    seed=st.integers(0, 2**32 - 1),
)
def test_ranking_equals_brute_force(count: int, subjects: int, top_k: int, removed: set[int], seed: int) -> None:
    vectors, query = units(count, seed), units(2, seed + 1)
    keys, owners = np.arange(count) + 100, np.random.default_rng(seed).integers(0, subjects, count)
    index = SubjectIndex(FlatIndex(SIZE))
    index.add(keys, owners, vectors)
    index.remove(np.array(sorted(key + 100 for key in removed), np.int64))
    kept = [number for number in range(count) if number not in removed]

    for row, hits in zip(query @ vectors.T, index.search(query, top_k), strict=True):
        best: dict[int, float] = {}
        for number in kept:
            best[int(owners[number])] = max(best.get(int(owners[number]), -2), float(row[number]))
        expected = sorted(best.values(), reverse=True)[:top_k]
        assert [hit.similarity for hit in hits] == pytest.approx(expected, abs=1e-5)
        assert all(best[hit.subject_key] == pytest.approx(hit.similarity, abs=1e-5) for hit in hits)
        assert all(owners[hit.face_key - 100] == hit.subject_key for hit in hits)
    assert (index.faces, index.subjects) == (len(kept), len({int(owners[number]) for number in kept}))


def test_an_empty_index_finds_nothing() -> None:
    similarities, keys = FlatIndex(SIZE).search(units(2, 0), 5)
    assert similarities.shape == keys.shape == (2, 0)


@pytest.mark.parametrize(
    "vectors",
    [
        np.full((1, SIZE), np.nan, np.float32),
        np.full((1, SIZE), np.inf, np.float32),
        np.zeros((1, SIZE), np.float32),
        np.ones((1, SIZE), np.float32),
        units(1, 0)[:, :-1],
        units(1, 0)[0],
    ],
    ids=["nan", "infinite", "zero", "not-unit", "short", "one-dimensional"],
)
def test_what_is_no_embedding_is_refused(vectors: NDArray[np.float32]) -> None:
    index = FlatIndex(SIZE)
    with pytest.raises(InvalidEmbedding):
        index.add(np.array([1]), vectors)
    with pytest.raises(InvalidEmbedding):
        index.search(vectors, 1)
    assert len(index) == 0


def test_removal_says_how_many_were_there() -> None:
    index = FlatIndex(SIZE)
    index.add(np.array([1, 2, 3]), units(3, 0))
    assert index.remove(np.array([2, 9])) == 1
    assert sorted(index.search(units(1, 0), 5)[1][0].tolist()) == [1, 3]
