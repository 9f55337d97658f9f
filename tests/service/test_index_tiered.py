"""The tiered index equals brute force through any sequence of changes, and keeps its promises where it is not exact."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.gallery.clustering import PROMISED_RECALL, PROMISED_SIMILARITY, cluster
from service.gallery.compaction import compacted
from service.gallery.errors import InvalidEmbedding
from service.gallery.subjects import SubjectIndex
from service.gallery.tiered import TieredIndex
from service.gallery.vector_state import VectorState

SIZE = 8
SWITCH = 24
HALF = 2e-3  # what half precision may be off


def units(count: int, seed: int, size: int = SIZE) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def near(faces: NDArray[np.float32], similarity: float, seed: int) -> NDArray[np.float32]:
    """Other photos of them, at this cosine."""
    away = units(len(faces), seed, faces.shape[1])
    away -= np.sum(away * faces, axis=1, keepdims=True) * faces
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return similarity * faces + np.float32((1 - similarity**2) ** 0.5) * away


@dataclass
class Reference:
    """By brute force."""

    held: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def check(self, index: TieredIndex, queries: NDArray[np.float32], count: int) -> None:
        """Asked for all, it is exact whatever it is made of; asked for fewer, what it finds is there and in order."""
        keys = np.array(list(self.held), np.int64)
        vectors = np.array(list(self.held.values()), np.float32).reshape(len(keys), SIZE)
        cosines = np.sort(queries @ vectors.T, axis=1)[:, ::-1]
        assert len(index) == len(keys)
        for asked in (len(keys) + 3, count):
            similarities, found = index.search(queries, asked)
            assert similarities.shape == found.shape == (len(queries), min(asked, len(keys)))
            assert np.all(np.diff(similarities, axis=1) <= 0)
            for query, row, answers in zip(queries, similarities, found.tolist(), strict=True):
                assert len(set(answers)) == len(answers)
                for similarity, key in zip(row, answers, strict=True):
                    assert float(self.held[key] @ query) == pytest.approx(float(similarity), abs=HALF)
            if asked >= len(keys) or index.kind == "flat":
                np.testing.assert_allclose(similarities, cosines[:, :asked], atol=HALF)


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add again", "twins", "remove", "remove", "remove most", "settle", "search"]),
        st.integers(1, 30),
        st.integers(0, 2**32 - 1),
    ),
    min_size=4,
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_any_sequence_of_changes_equals_brute_force(steps: list[Step]) -> None:
    index, reference, fresh, gone = TieredIndex(SIZE, SWITCH), Reference(), 0, []
    for step, count, seed in steps:
        draw = np.random.default_rng(seed)
        if step in ("add", "twins", "add again"):
            keys = list(range(fresh, fresh + count)) if step != "add again" else gone[:count]
            fresh += count if step != "add again" else 0
            gone = gone if step != "add again" else gone[count:]
            vectors = np.repeat(units(1, seed), len(keys), 0) if step == "twins" else units(len(keys), seed)
            index.add(np.array(keys, np.int64), vectors)
            reference.held.update(zip(keys, vectors, strict=True))
        elif step in ("remove", "remove most"):
            wanted = len(reference.held) if step == "remove most" else count
            keys = draw.permutation(list(reference.held))[:wanted].tolist()
            strangers = [fresh + 100, -5]
            assert index.remove(np.array(keys[: len(keys) - count // 20] + strangers, np.int64)) <= len(keys)
            for key in keys[: len(keys) - count // 20]:
                reference.held.pop(key)
                gone.append(key)
        elif step == "settle":
            index.settle()
        reference.check(index, units(3, seed + 1), count)
    index.settle()
    reference.check(index, units(3, 5), 4)


def in_lists(count: int = 200) -> TieredIndex:
    index = TieredIndex(SIZE, SWITCH)
    index.add(np.arange(count), units(count, 0))
    index.settle()
    assert index.kind == "ivf"
    return index


@pytest.mark.parametrize("keys", [[500, 500], [501, 3], [501, 900]], ids=["twice", "in a list", "in the delta"])
def test_a_key_in_use_is_refused_and_nothing_changes(keys: list[int]) -> None:
    index = in_lists()
    index.add(np.array([900]), units(1, 1))
    with pytest.raises(ValueError, match="key"):
        index.add(np.array(keys), units(2, 2))
    assert len(index) == 201


@pytest.mark.parametrize(
    "vectors",
    [np.full((1, SIZE), np.nan, np.float32), np.zeros((1, SIZE), np.float32), units(1, 0)[:, 1:], units(1, 0)[0]],
    ids=["nan", "zero", "short", "one-dimensional"],
)
def test_what_is_no_embedding_is_refused(vectors: NDArray[np.float32]) -> None:
    index = in_lists()
    for refused in (lambda: index.add(np.array([1000]), vectors), lambda: index.search(vectors, 1)):
        with pytest.raises(InvalidEmbedding):
            refused()
    assert len(index) == 200


def test_up_to_the_switch_size_it_is_exact() -> None:
    index = TieredIndex(SIZE, SWITCH)
    index.add(np.arange(SWITCH), units(SWITCH, 0))
    index.settle()
    assert index.kind == "flat"
    index.add(np.array([99]), units(1, 1))
    index.settle()
    assert index.kind == "ivf"


def test_emptied_it_starts_again() -> None:
    index = in_lists()
    assert index.remove(np.arange(200)) == 200
    index.settle()
    assert (index.kind, len(index)) == ("flat", 0)
    assert index.search(units(1, 0), 3)[0].shape == (1, 0)
    index.add(np.arange(3), units(3, 0))
    assert index.search(units(3, 0), 1)[1][:, 0].tolist() == [0, 1, 2]


# ---- what it promises where it is not exact


@pytest.mark.parametrize("photos_each", [1, 4])
def test_mates_are_found(photos_each: int) -> None:
    identities = units(8000 // photos_each, 0, 64)
    faces = np.concatenate([near(identities, 0.8, 1 + number) for number in range(photos_each)])
    index = TieredIndex(64, switch_size=2000)
    index.add(np.arange(len(faces)), faces)
    index.settle()
    assert index.kind == "ivf"
    queries = near(faces[:2000], PROMISED_SIMILARITY, 99)
    exact = np.argmax(queries @ faces.T, axis=1)
    recall = np.mean(index.search(queries, 1)[1][:, 0] == exact)
    assert recall >= PROMISED_RECALL - 0.005  # 2000 queries tell it to +-0.0022


def test_the_more_alike_the_fewer_lists() -> None:
    """Well separated groups need few probes; what has no structure needs many."""
    groups = near(np.repeat(units(40, 0, 64), 100, 0), 0.95, 1)
    assert cluster(groups, len(groups)).probes < cluster(units(4000, 2, 64), 4000).probes / 2


def test_one_subject_that_crowds_out_the_others_does_not_hide_them() -> None:
    """The nearest faces are all hers, and lie in the lists that are looked into: the search must look further."""
    crowd, others = near(np.repeat(units(1, 0), 300, 0), 0.98, 1), units(30, 2)
    index = SubjectIndex(TieredIndex(SIZE, SWITCH))
    index.add(np.arange(300), np.zeros(300, np.int64), crowd)
    index.add(np.arange(30) + 300, np.arange(30) + 1, others)
    index._vectors.settle()  # type: ignore[attr-defined]
    assert index.kind == "ivf"
    (hits,) = index.search(units(1, 0), 31)
    assert sorted(hit.subject_key for hit in hits) == list(range(31))


def test_centres_are_kept_until_the_size_has_doubled_or_halved() -> None:
    index = in_lists(200)
    first = index._trained.clusters
    index.add(np.arange(100) + 1000, units(100, 1))
    index.settle()
    assert index._trained.clusters is first
    assert len(index._exact) == 0
    index.add(np.arange(200) + 2000, units(200, 2))
    index.settle()
    second = index._trained.clusters
    assert second is not first
    assert second.size == 500
    index.remove(np.arange(180))
    index.settle()
    assert index._trained.clusters is second
    index.remove(np.arange(100) + 1000)
    index.settle()
    assert index._trained.clusters.size == 220


def test_a_failed_compaction_leaves_it_searchable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without_memory(state: VectorState) -> None:
        raise MemoryError("not enough memory")

    index = TieredIndex(SIZE, SWITCH)
    with monkeypatch.context() as patch:
        patch.setattr("service.gallery.tiered.compacted", without_memory)
        index.add(np.arange(100), units(100, 0))
        index.settle()
    assert "could not be compacted: not enough memory" in caplog.text
    assert index.search(units(5, 0), 1)[1][:, 0].tolist() == [0, 1, 2, 3, 4]
    index._not_before = 0.0
    index.add(np.array([200]), units(1, 1))
    index.settle()
    assert index.kind == "ivf"


# ---- what was erased


def test_what_is_removed_is_overwritten_at_once() -> None:
    index = in_lists(200)
    index.add(np.arange(20) + 1000, units(20, 1))  # too few to be filed
    before = index.state().trained
    assert before is not None
    index.remove(np.array([5, 60, 1003, 1019]))
    codes = {key: codes for each in before.lists() for key, codes in zip(each.keys.tolist(), each.codes, strict=True)}
    assert not np.any(codes[5])
    assert not np.any(codes[60])
    assert np.any(codes[6])
    whole = index._exact._vectors
    for gone in units(20, 1)[[3, 19]]:
        assert not np.any(np.all(np.abs(whole - gone) < 1e-6, axis=1))
    state = index.state()
    assert state.trained is not None
    assert not {5, 60, 1003, 1019} & {*state.keys.tolist(), *state.trained.keys().tolist()}


def test_what_is_removed_while_it_is_compacted_stays_away() -> None:
    """Whichever way they are interleaved: compaction sees a state, and the removal comes before its end."""
    index = in_lists(100)
    index.add(np.array([1000, 1001]), units(2, 1))
    state = index.state()
    index._removed_since = set()
    index.remove(np.array([3, 1000]))
    index.add(np.array([1000]), units(1, 7))  # another face by the same number
    filed = compacted(state)
    assert filed is not None
    assert len(filed) == 102
    index._put_in_place(state, filed)
    similarities, keys = index.search(units(1, 7), 200)
    assert (keys[0, 0], similarities[0, 0]) == (1000, pytest.approx(1, abs=HALF))
    assert sorted(keys[0].tolist()) == sorted({*range(100), 1000, 1001} - {3})
    assert index._exact.keys.tolist() == [1000]
