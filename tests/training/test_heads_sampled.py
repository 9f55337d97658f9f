"""The sampled head moves the centres it sampled, as an optimiser that knows only them would, and no others."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import SGD, AdamW, Optimizer

from training.heads.head import UnsupportedHead
from training.heads.sampled import SampledHead
from training.losses.cosface import CosFace
from training.losses.subcenter_arcface import SubCenterArcFace

CLASSES, DIMENSIONS, RATE, SCALE, MARGIN = 40, 5, 0.25, 8.0, 0.3
RATE_OF_LEARNING, DECAY = 0.1, 0.05


def _sgd(head: SampledHead) -> Optimizer:
    return SGD([head.centres], lr=RATE_OF_LEARNING, momentum=0.9, weight_decay=DECAY)


def _adamw(head: SampledHead) -> Optimizer:
    return AdamW([head.centres], lr=RATE_OF_LEARNING, betas=(0.9, 0.99), weight_decay=DECAY)


OPTIMISERS = [_sgd, _adamw]


def _head(seed: int = 0) -> SampledHead:
    return SampledHead(DIMENSIONS, CLASSES, CosFace(scale=SCALE, margin=MARGIN), rate=RATE, seed=seed).double()


def _batch(step: int, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    embeddings = torch.randn(size, DIMENSIONS, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(-1, CLASSES, (size,), generator=generator)


def _step(head: SampledHead, optimiser: Optimizer, *batches: tuple[Tensor, Tensor]) -> Tensor:
    """One optimiser step, as an engine takes it; (C,) whether the centre moved."""
    before = head.centres.detach().clone()
    for embeddings, labels in batches:
        head(embeddings, labels).backward()
    head.prepare_step(optimiser)
    optimiser.step()
    head.finish_step(optimiser)
    optimiser.zero_grad()
    return (head.centres.detach() != before).any(dim=1)


def _gradient(centres: Tensor, classes: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Of CosFace over those classes alone, to (C, D) centres."""
    centres = centres.clone().requires_grad_()
    known = labels >= 0
    cosines = normalize(embeddings[known]) @ normalize(centres[classes]).T
    remapped = torch.stack([(classes == label).nonzero()[0, 0] for label in labels[known]])
    margin = MARGIN * torch.nn.functional.one_hot(remapped, len(classes)).double()
    return torch.autograd.grad(cross_entropy(SCALE * (cosines - margin), remapped), centres)[0]


def test_sgd_moves_sampled_rows_by_the_formula_and_leaves_the_others_bit_identical() -> None:
    head, momentum = _head(), torch.zeros(CLASSES, DIMENSIONS, dtype=torch.float64)
    optimiser = _sgd(head)
    for step in range(8):
        before, (embeddings, labels) = head.centres.detach().clone(), _batch(step)
        moved = _step(head, optimiser, (embeddings, labels))
        assert moved.sum() == RATE * CLASSES
        assert moved[labels[labels >= 0]].all()
        gradient = _gradient(before, moved.nonzero()[:, 0], embeddings, labels) + DECAY * before
        momentum[moved] = 0.9 * momentum[moved] + gradient[moved]
        torch.testing.assert_close(head.centres.detach()[moved], (before - RATE_OF_LEARNING * momentum)[moved])
        assert torch.equal(head.centres.detach()[~moved], before[~moved])
        torch.testing.assert_close(optimiser.state[head.centres]["momentum_buffer"], momentum)


def test_adamw_moves_sampled_rows_by_the_formula_and_leaves_the_others_bit_identical() -> None:
    head = _head()
    optimiser = _adamw(head)
    first, second = torch.zeros(2, CLASSES, DIMENSIONS, dtype=torch.float64)
    for step in range(8):
        before, (embeddings, labels) = head.centres.detach().clone(), _batch(step)
        moved = _step(head, optimiser, (embeddings, labels))
        gradient = _gradient(before, moved.nonzero()[:, 0], embeddings, labels)
        first[moved] = 0.9 * first[moved] + 0.1 * gradient[moved]
        second[moved] = 0.99 * second[moved] + 0.01 * gradient[moved] ** 2
        update = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
        expected = before * (1 - RATE_OF_LEARNING * DECAY) - RATE_OF_LEARNING * update
        torch.testing.assert_close(head.centres.detach()[moved], expected[moved])
        assert torch.equal(head.centres.detach()[~moved], before[~moved])


@pytest.mark.parametrize("optimiser_of", OPTIMISERS)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(optimiser_of: Callable[[SampledHead], Optimizer]) -> None:
    head = _head()
    optimiser = optimiser_of(head)
    for step in range(4):
        _step(head, optimiser, _batch(step))
    resumed = _head()
    resumed_optimiser = optimiser_of(resumed)
    resumed.load_state_dict(head.state_dict())
    resumed_optimiser.load_state_dict(deepcopy(optimiser.state_dict()))
    for step in range(4, 8):
        _step(head, optimiser, _batch(step))
        _step(resumed, resumed_optimiser, _batch(step))
        assert torch.equal(head.centres, resumed.centres)


def test_the_whole_state_has_the_shape_of_the_centres_and_the_optimiser_holds_them() -> None:
    head = _head()
    optimiser = _adamw(head)
    _step(head, optimiser, _batch(0))
    assert optimiser.param_groups[0]["params"][0] is head.centres
    assert optimiser.state[head.centres]["exp_avg"].shape == head.centres.shape
    assert list(optimiser.state) == [head.centres]


def test_micro_batches_move_the_union_of_their_samples_by_the_sum_of_their_gradients() -> None:
    head, twin = _head(), _head()
    before = head.centres.detach().clone()
    batches = [_batch(0), _batch(1)]
    # The twin draws the same samples, one a step, and returns to where it was in between.
    samples = []
    for batch in batches:
        samples.append(_step(twin, _sgd(twin), batch).nonzero()[:, 0])
        with torch.no_grad():
            twin.centres.copy_(before)
    _step(head, SGD([head.centres], lr=1.0), *batches)
    gradients = [_gradient(before, sample, *batch) for sample, batch in zip(samples, batches, strict=True)]
    torch.testing.assert_close(head.centres.detach(), before - gradients[0] - gradients[1])


def test_between_the_hooks_the_optimiser_holds_the_sampled_rows_and_their_gradients_for_clipping() -> None:
    head = _head()
    optimiser = _sgd(head)
    batch = _batch(0)
    head(*batch).backward()
    assert head.centres.grad is None
    head.prepare_step(optimiser)
    (held,) = optimiser.param_groups[0]["params"]
    assert held.grad is not None
    assert len(held.grad) == RATE * CLASSES
    head.finish_step(optimiser)


def test_a_step_that_a_scaler_skips_changes_nothing() -> None:
    head = _head()
    optimiser = _adamw(head)
    _step(head, optimiser, _batch(0))
    before, state = head.centres.detach().clone(), deepcopy(optimiser.state_dict())
    head(*_batch(1)).backward()
    head.prepare_step(optimiser)
    head.finish_step(optimiser)
    assert torch.equal(head.centres, before)
    for name, value in optimiser.state_dict()["state"][0].items():
        assert torch.equal(value, state["state"][0][name])


@pytest.mark.parametrize("optimiser_of", OPTIMISERS)
def test_nothing_moves_where_nobody_is_known(optimiser_of: Callable[[SampledHead], Optimizer]) -> None:
    head = _head()
    optimiser = optimiser_of(head)
    _step(head, optimiser, _batch(0))
    embeddings = _batch(1)[0].requires_grad_()
    assert not _step(head, optimiser, (embeddings, torch.full((6,), -1))).any()


def test_more_people_in_the_batch_than_the_share_are_all_kept() -> None:
    head = _head()
    labels = torch.arange(20)
    embeddings = torch.randn(20, DIMENSIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert _step(head, _sgd(head), (embeddings, labels)).nonzero()[:, 0].tolist() == labels.tolist()


def test_steps_and_seeds_draw_different_samples_and_all_classes_get_their_turn() -> None:
    draws = [_step(head, _sgd(head), _batch(0)) for head in (_head(0), _head(1))]
    assert not torch.equal(*draws)
    head = _head()
    times = sum(_step(head, _sgd(head), _batch(0)).int() for _ in range(100))
    labels = _batch(0)[1]
    others = torch.ones(CLASSES, dtype=torch.bool)
    others[labels[labels >= 0]] = False
    assert (times[~others] == 100).all()
    share = (RATE * CLASSES - int((~others).sum())) / int(others.sum())
    deviation = (100 * share * (1 - share)) ** 0.5
    assert ((times[others] - 100 * share).abs() < 4 * deviation).all()


def test_sub_centres_of_a_class_are_sampled_together() -> None:
    head = SampledHead(DIMENSIONS, CLASSES, SubCenterArcFace(centres_per_class=3), rate=RATE).double()
    optimiser = _sgd(head)
    moved = _step(head, optimiser, _batch(0)).view(CLASSES, 3)
    assert (moved.all(dim=1) == moved.any(dim=1)).all()


def test_outside_training_every_class_counts() -> None:
    head = _head().eval()
    embeddings, labels = _batch(0)
    known = labels >= 0
    cosines = normalize(embeddings[known]) @ normalize(head.centres).T
    margin = MARGIN * torch.nn.functional.one_hot(labels[known], CLASSES).double()
    torch.testing.assert_close(head(embeddings, labels), cross_entropy(SCALE * (cosines - margin), labels[known]))


@pytest.mark.parametrize("rate", [0.0, 1.5, -1.0])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(UnsupportedHead, match="rate"):
        SampledHead(DIMENSIONS, CLASSES, CosFace(), rate=rate)
