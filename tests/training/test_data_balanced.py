"""P identities x K images: what every batch and every epoch must have, whatever the data."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.data.balanced import Balanced
from training.data.samples import DataError

counts_strategy = st.lists(st.integers(1, 9), min_size=2, max_size=12)


def labelled(counts: list[int], unknown: int, seed: int) -> np.ndarray:
    """Labels in random order: counts[i] images of identity 3 i, and some of none."""
    labels = np.repeat(3 * np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(np.concatenate([labels, np.full(unknown, -1)])).astype(np.int64)


@settings(deadline=None)
@given(
    counts=counts_strategy,
    unknown=st.integers(0, 5),
    people=st.integers(1, 4),
    images=st.integers(2, 4),
    world_size=st.integers(1, 3),
    epoch=st.integers(0, 50),
)
def test_batches_are_balanced(
    counts: list[int], unknown: int, people: int, images: int, world_size: int, epoch: int
) -> None:
    labels = labelled(counts, unknown, epoch)
    pairs = [count for count in counts if count >= 2]
    assume(len(pairs) >= people)
    size = people * images
    order = Balanced(1, images)
    steps = order.steps(labels, size, world_size)
    assert steps == sum(pairs) // (size * world_size)
    groups: Counter[int] = Counter()
    for rank in range(world_size):
        rows = order.rows(labels, size, epoch, rank, world_size)
        assert rows.shape == (steps * size,)
        for batch in rows.reshape(steps, people, images):
            owners = labels[batch]
            assert (owners == owners[:, :1]).all()
            assert len(set(owners[:, 0].tolist())) == people
            assert owners.min(initial=0) >= 0
            for group, owner in zip(batch, owners[:, 0], strict=True):
                available = int((labels == owner).sum())
                assert available >= 2
                assert len(set(group.tolist())) == min(images, available)
                groups[int(owner)] += 1
    if steps:
        seen = [groups[owner] for owner in set(labels[labels >= 0].tolist()) if (labels == owner).sum() >= 2]
        assert max(seen) - min(seen) <= 1


def test_an_identity_shows_all_its_images_before_one_comes_again() -> None:
    labels = np.repeat(np.arange(4), 8).astype(np.int64)
    rows = Balanced(0, 2).rows(labels, 4, 0, 0, 1)
    assert sorted(rows.tolist()) == list(range(32))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    labels = labelled([5] * 10, 3, 0)
    first = Balanced(0, 2).rows(labels, 6, 4, 1, 2)
    np.testing.assert_array_equal(first, Balanced(0, 2).rows(labels, 6, 4, 1, 2))
    assert first.tolist() != Balanced(0, 2).rows(labels, 6, 5, 1, 2).tolist()
    assert first.tolist() != Balanced(1, 2).rows(labels, 6, 4, 1, 2).tolist()
    assert first.tolist() != Balanced(0, 2).rows(labels, 6, 4, 0, 2).tolist()


def test_what_cannot_be_balanced_is_refused() -> None:
    labels = labelled([5, 5, 1], 3, 0)
    with pytest.raises(DataError, match="a batch of 5 cannot hold groups of 2"):
        Balanced(0, 2).steps(labels, 5, 1)
    with pytest.raises(DataError, match="2 identities have two images or more, a batch needs 3"):
        Balanced(0, 2).rows(labels, 6, 0, 0, 1)
