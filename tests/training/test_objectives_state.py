"""What objectives remember: saved with the run, equal on every rank, still outside training."""

import numpy as np
import pytest
import torch
from scipy import stats

from training.losses.objective import Context, Objective
from training.losses.random_margins import standard_normal
from training.losses.registry import OBJECTIVES, build_objective

STATEFUL = ["lsoftmax", "sphereface", "curricularface", "adaface", "elasticface", "adacos"]


def _build(name: str) -> Objective:
    arguments = {"easing_start": 1000} if name == "lsoftmax" else {}
    return build_objective(name, classes=50, **arguments)


def _step(objective: Objective, seed: int) -> Context:
    generator = torch.Generator().manual_seed(seed)
    norms = torch.rand(16, generator=generator) * 60
    context = objective.context(norms, torch.rand(16, generator=generator) * 2 - 1)
    objective.observe(torch.rand(16, generator=generator) * 8)
    return context


def _assert_equal(first: Context, second: Context) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_only_these_remember() -> None:
    remembering = {name for name in OBJECTIVES if list(build_objective(name, classes=50).buffers())}
    assert remembering == set(STATEFUL)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_restored_objective_goes_on_as_if_never_stopped(name: str) -> None:
    objective = _build(name)
    for seed in range(5):
        _step(objective, seed)
    restored = _build(name)
    restored.load_state_dict(objective.state_dict())
    for seed in range(5, 8):
        _assert_equal(_step(restored, seed), _step(objective, seed))
    fresh = _step(_build(name), 7)
    assert any(not torch.equal(fresh[key], value) for key, value in _step(restored, 7).items())


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_ranks_that_see_the_same_batch_agree(name: str) -> None:
    first, second = _build(name), _build(name)
    for seed in range(4):
        torch.manual_seed(seed)
        context = _step(first, seed)
        torch.manual_seed(99)  # the ranks' own generators differ
        torch.rand(seed)
        _assert_equal(context, _step(second, seed))


@pytest.mark.parametrize("name", STATEFUL)
def test_nothing_is_learned_outside_training(name: str) -> None:
    objective = _build(name).eval()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    first = _step(objective, 0)
    _assert_equal(first, _step(objective, 0))
    assert all(torch.equal(before[key], value) for key, value in objective.state_dict().items())


@pytest.mark.parametrize("name", STATEFUL)
def test_a_later_step_leaves_an_earlier_backward_alone(name: str) -> None:
    objective = _build(name)
    cosines, table = torch.rand(6, requires_grad=True), torch.rand(6, 4, requires_grad=True)
    context = objective.context(torch.full((6,), 20.0), cosines)
    columns = {key: value[:, None] if value.ndim else value for key, value in context.items()}
    loss = objective.target(cosines, context).sum() + objective.others(table, columns).sum()
    _step(objective, 1)
    loss.backward()


def test_adaface_takes_a_batch_of_one() -> None:
    objective = build_objective("adaface")
    context = objective.context(torch.tensor([30.0]), torch.tensor([0.5]))
    assert torch.isfinite(context["quality"]).all()
    assert objective.mean.item() == pytest.approx(0.99 * 20 + 0.01 * 30)
    assert objective.deviation.item() == 100


def test_curricularface_follows_the_mean_cosine() -> None:
    objective = build_objective("curricularface", smoothing=0.1)
    for _ in range(200):
        objective.context(torch.ones(4), torch.tensor([0.2, 0.4, 0.6, 0.8]))
    assert objective.t.item() == pytest.approx(0.5, abs=1e-3)


def test_elasticface_plus_deals_the_largest_margin_to_the_hardest() -> None:
    cosines = torch.tensor([0.1, 0.9, -0.3, 0.5, 0.7])
    dealt = build_objective("elasticface", plus=True, deviation=0.05).context(torch.ones(5), cosines)["margin"]
    drawn = build_objective("elasticface", deviation=0.05).context(torch.ones(5), cosines)["margin"]
    assert torch.equal(dealt.sort().values, drawn.sort().values)
    assert torch.equal(dealt[cosines.argsort()], dealt.sort(descending=True).values)


def test_elasticface_outside_training_uses_the_mean_margin() -> None:
    objective = build_objective("elasticface", kind="cos").eval()
    assert torch.equal(objective.context(torch.ones(3), torch.rand(3))["margin"], torch.full((3,), 0.35))


def test_drawn_numbers_are_normal_and_independent() -> None:
    draws = np.stack([standard_normal(1000, 5, torch.tensor(step)).numpy() for step in range(200)])
    assert stats.kstest(draws.ravel(), "norm").pvalue > 0.01
    assert stats.kstest(draws.mean(1) * np.sqrt(1000), "norm").pvalue > 0.01  # steps are not alike
    assert stats.kstest(draws.mean(0) * np.sqrt(200), "norm").pvalue > 0.01  # nor are places
    for lag in (draws[:, 1:] * draws[:, :-1], draws[1:] * draws[:-1]):
        assert abs(lag.mean()) < 4 / np.sqrt(lag.size)
    assert np.unique(draws[:10]).size > 9_990
    assert not np.array_equal(draws[1], standard_normal(1000, 6, torch.tensor(1)).numpy())
