"""Objectives where they could break: cosines of one and minus one, theta + m beyond pi, half precision; and orders
that must hold whatever the numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses.objective import Objective, reduce
from training.losses.registry import OBJECTIVES, build_objective, objective_arguments

CLASSES = 5
# Besides the defaults, every branch that computes the target or the others differently.
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {}) for name in OBJECTIVES),
    ("combined", {"multiple": 1.35, "angular_margin": 0.5}),
    ("sphereface", {"easing_start": 0, "easing_floor": 0}),
    ("sphereface-r", {"version": "v1"}),
    ("sphereface-r", {"version": "v2"}),
    ("sphereface2", {"sharpness": 2.5}),
    ("mv-softmax", {"kind": "arc"}),
    ("mv-softmax", {"reweighting": "fixed"}),
    ("elasticface", {"kind": "cos", "plus": True}),
]
every_variant = pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)


def _build(name: str, arguments: dict[str, object], gradient: str = "exact") -> Objective:
    torch.set_num_threads(1)
    if "gradient" in objective_arguments(name):
        arguments = {**arguments, "gradient": gradient}
    return build_objective(name, classes=CLASSES, **arguments)


def _target(objective: Objective, cosines: Tensor, norms: Tensor) -> Tensor:
    return objective.target(cosines, objective.context(norms, cosines))


def _others(objective: Objective, target: Tensor, cosines: Tensor, norms: Tensor) -> Tensor:
    context = objective.context(norms, target)
    return objective.others(cosines, {key: value[:, None] if value.ndim else value for key, value in context.items()})


@every_variant
def test_gradients_are_exact_near_one_near_minus_one_and_beyond_pi(name: str, arguments: dict[str, object]) -> None:
    objective = _build(name, arguments).double().eval()
    cosines = torch.tensor([1 - 1e-4, 0.9, 0.3, -0.2, -0.85, -0.93, -1 + 1e-4], dtype=torch.float64)
    norms = torch.linspace(12, 100, 7, dtype=torch.float64).requires_grad_()
    cosines.requires_grad_()
    # AdaFace detaches the length; for all others its gradient is part of the loss.
    varied = (cosines,) if name == "adaface" else (cosines, norms)
    assert torch.autograd.gradcheck(lambda c, n=norms: _target(objective, c, n), varied, eps=1e-7, rtol=1e-3)
    table = torch.stack([cosines.detach().roll(k) for k in (1, 2, 3)], dim=1).requires_grad_()
    fixed = cosines.detach()
    assert torch.autograd.gradcheck(
        lambda c: _others(objective, fixed, c, norms.detach()), (table,), eps=1e-7, rtol=1e-3
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("gradient", ["exact", "detached"])
@every_variant
def test_nothing_is_nan_at_the_ends(name: str, arguments: dict[str, object], gradient: str, dtype: torch.dtype) -> None:
    objective = _build(name, arguments, gradient)
    past = torch.finfo(dtype).eps  # a matmul of unit vectors may round past one
    ends = [1.0, -1.0, 1 + past, -1 - past, 0.0, 0.5]
    cosines = torch.tensor(ends, dtype=dtype, requires_grad=True)
    table = torch.tensor([ends] * len(ends), dtype=dtype, requires_grad=True)
    norms = torch.tensor([1e-4, 1e3, 20.0, 1.0, 50.0, 0.0], dtype=dtype, requires_grad=True)
    context = objective.context(norms, cosines)
    columns = {key: value[:, None] if value.ndim else value for key, value in context.items()}
    reduced = reduce(objective.others(table, columns), objective.reduction)
    loss = objective.combine(objective.target(cosines, context), reduced).sum() + objective.penalty(norms)
    gradients = torch.autograd.grad(loss, (cosines, table, norms), allow_unused=True)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("arcface", 64),
        ("combined", 64),
        ("subcenter-arcface", 64),
        ("curricularface", 64),
        ("adaface", 64),
        ("elasticface", 64),
        ("sphereface-r", 30),
        ("sphereface2", 40),
    ],
)
def test_a_detached_margin_passes_the_scale_whatever_the_angle(name: str, scale: float) -> None:
    objective = _build(name, {}, "detached")
    cosines = torch.linspace(-0.99, 0.99, 9, requires_grad=True)
    target = _target(objective, cosines, torch.full((9,), 30.0))
    (gradient,) = torch.autograd.grad(target.sum(), cosines)
    torch.testing.assert_close(gradient, torch.full((9,), float(scale)))
    torch.testing.assert_close(target, _target(_build(name, {}, "exact"), cosines, torch.full((9,), 30.0)))


# What makes each objective's margin vanish.
WITHOUT_MARGIN: dict[str, dict[str, object]] = {
    "cosface": {"margin": 0},
    "arcface": {"margin": 0},
    "combined": {"angular_margin": 0, "cosine_margin": 0},
    "lsoftmax": {"margin": 1},
    "sphereface": {"margin": 1},
    "sphereface-r": {"margin": 1},
    "sphereface2": {"margin": 0},
    "subcenter-arcface": {"margin": 0},
    "curricularface": {"margin": 0},
    "mv-softmax": {"margin": 0, "hardness": 1},
    "magface": {"lowest_margin": 0, "highest_margin": 0, "penalty_weight": 0},
    "adaface": {"margin": 0},
    "elasticface": {"margin": 0, "deviation": 0},
    "uniface": {"margin": 0},
}
with_margin = pytest.mark.parametrize("name", sorted(WITHOUT_MARGIN))
cosine_pairs = st.tuples(st.floats(-1, 1), st.floats(-1, 1))
lengths = st.floats(0.1, 200)


@with_margin
@settings(max_examples=40, deadline=None)
@given(pair=cosine_pairs, length=lengths)
def test_a_margin_never_raises_the_target_and_keeps_its_order(
    name: str, pair: tuple[float, float], length: float
) -> None:
    low, high = sorted(pair)
    cosines = torch.tensor([low, high], dtype=torch.float64)
    norms = torch.full((2,), length, dtype=torch.float64)
    hard = _target(_build(name, {}).eval(), cosines, norms)
    easy = _target(_build(name, WITHOUT_MARGIN[name]).eval(), cosines, norms)
    assert (hard <= easy + 1e-9 * length).all()
    assert hard[0] <= hard[1] + 1e-9 * length


@pytest.mark.parametrize("name", sorted(set(WITHOUT_MARGIN) - {"lsoftmax", "sphereface", "sphereface2", "uniface"}))
@settings(max_examples=40, deadline=None)
@given(cosine=st.floats(-1, 1), other=st.floats(-1, 1), length=lengths)
def test_without_margin_it_is_normface(name: str, cosine: float, other: float, length: float) -> None:
    arguments = WITHOUT_MARGIN[name]
    if name == "curricularface":
        other = min(cosine, other)  # harder ones are bent even without a margin
    target, table = torch.tensor([cosine], dtype=torch.float64), torch.tensor([[other]], dtype=torch.float64)
    norms = torch.tensor([length], dtype=torch.float64)
    objective = _build(name, arguments).eval()
    plain = build_objective("normface", scale=objective_arguments(name)["scale"])
    torch.testing.assert_close(_target(objective, target, norms), plain.target(target, {}), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(_others(objective, target, table, norms), plain.others(table, {}))
    assert objective.penalty(norms).item() == 0


@every_variant
def test_the_others_may_be_computed_in_any_tiles(name: str, arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    objective = _build(name, arguments).eval()
    target, table, norms = torch.rand(4) * 2 - 1, torch.rand(4, 9) * 2 - 1, torch.rand(4) * 50
    whole = _others(objective, target, table, norms)
    tiles = [_others(objective, target, tile, norms) for tile in table.split(2, dim=1)]
    torch.testing.assert_close(whole, torch.cat(tiles, dim=1))


@every_variant
def test_a_batch_of_nobody_changes_nothing_but_counters(name: str, arguments: dict[str, object]) -> None:
    objective = _build(name, arguments)
    before = {key: value.clone() for key, value in objective.state_dict().items() if not key.endswith("step")}
    objective.context(torch.empty(0), torch.empty(0))
    objective.observe(torch.empty(0))
    assert all(torch.equal(objective.state_dict()[key], value) for key, value in before.items())
    assert objective.penalty(torch.empty(0)).item() == 0


def test_magface_pulls_the_length_inside_its_range_and_not_outside() -> None:
    objective = build_objective("magface")
    norms = torch.tensor([5.0, 30.0, 150.0], requires_grad=True)
    target = _target(objective, torch.full((3,), 0.4), norms)
    (gradient,) = torch.autograd.grad(target.sum() + objective.penalty(norms), norms)
    assert gradient[1] != 0
    assert gradient[0] == gradient[2] == 0
