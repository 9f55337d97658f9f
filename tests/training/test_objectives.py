"""Every objective's whole loss against numpy formulas in float64, and against pytorch-metric-learning where it has it.

The head here is a test's: a few dense lines, so that a fault of the real heads cannot hide one of an objective.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_metric_learning.losses as metric_learning
import torch
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from torch import Tensor

from training.losses.objective import Objective, reduce
from training.losses.registry import OBJECTIVES, UnknownObjective, build_objective, objective_arguments

CLASSES, SIZE, BATCH = 10, 6, 30


def _data(sub_centres: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (B, D) of many lengths, centres (C, K, D), labels: easy, hard, and samples opposite their class."""
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(CLASSES, sub_centres, SIZE))
    labels = generator.integers(0, CLASSES, BATCH)
    embeddings = generator.normal(size=(BATCH, SIZE))
    embeddings[:8] = centres[labels[:8], 0] + 0.2 * embeddings[:8]
    embeddings[8:14] = -centres[labels[8:14]].mean(1) + 0.2 * embeddings[8:14]
    return embeddings * generator.uniform(1, 30, (BATCH, 1)), centres, labels


def dense_loss(objective: Objective, embeddings: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """(B, D), (C * K, D), (B,) -> scalar."""
    norms = embeddings.norm(dim=1)
    cosines = (embeddings / norms[:, None]) @ (centres / centres.norm(dim=1, keepdim=True)).T
    cosines = cosines.unflatten(1, (-1, objective.centres_per_class)).amax(2)
    rows = torch.arange(len(labels))
    context = objective.context(norms, cosines[rows, labels])
    target = objective.target(cosines[rows, labels], context)
    columns = {key: value[:, None] if value.ndim else value for key, value in context.items()}
    others = objective.others(cosines, columns)
    if not objective.unit_centres:
        lengths = centres.norm(dim=1)
        target, others = target * lengths[labels], others * lengths
    reduced = reduce(others.scatter(1, labels[:, None], -torch.inf), objective.reduction)
    if objective.training:
        objective.observe(reduced.detach())
    return objective.combine(target, reduced).mean() + objective.penalty(norms)


def _tensors(sub_centres: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    embeddings, centres, labels = _data(sub_centres)
    return torch.tensor(embeddings), torch.tensor(centres.reshape(-1, SIZE)), torch.tensor(labels)


def _given(sub_centres: int = 1) -> SimpleNamespace:
    """What a formula needs, in numpy: c (B, C), cy and theta (B,), norms (B,), lengths (C,), y."""
    embeddings, centres, labels = _data(sub_centres)
    norms, lengths = np.linalg.norm(embeddings, axis=1), np.linalg.norm(centres, axis=2)
    cosines = np.einsum("bd,ckd->bck", embeddings / norms[:, None], centres / lengths[:, :, None]).max(2)
    target = cosines[np.arange(BATCH), labels]
    return SimpleNamespace(
        x=embeddings, w=centres[:, 0], c=cosines, cy=target, theta=np.arccos(target), norms=norms, y=labels
    )


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, target: np.ndarray | None = None) -> float:
    logits, rows = logits.copy(), np.arange(len(labels))
    if target is not None:
        logits[rows, labels] = target
    return float(np.mean(logsumexp(logits, axis=1) - logits[rows, labels]))


def _binary(positive: np.ndarray, negative: np.ndarray, labels: np.ndarray, weights: tuple[float, float]) -> float:
    """Mean over samples of weights[0] log(1 + e^-positive) + weights[1] sum over j != y of log(1 + e^negative)."""
    total = 0.0
    for i, label in enumerate(labels):
        total += weights[0] * np.logaddexp(0, -positive[i])
        total += weights[1] * sum(np.logaddexp(0, v) for j, v in enumerate(negative[i]) if j != label)
    return float(total / len(labels))


def _arc(theta: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    return np.where(theta + margin <= np.pi, np.cos(theta + margin), np.cos(theta) - margin * np.sin(margin))


def _fold(angle: np.ndarray) -> np.ndarray:
    turns = np.floor(angle / np.pi)
    return (-1.0) ** turns * np.cos(angle) - 2 * turns


def _sphereface(g: SimpleNamespace, weight: float) -> float:
    target = g.norms * (weight * g.cy + _fold(4 * g.theta)) / (1 + weight)
    return _cross_entropy(g.norms[:, None] * g.c, g.y, target)


def _lsoftmax(g: SimpleNamespace) -> float:
    logits = g.x @ g.w.T
    return _cross_entropy(logits, g.y, np.linalg.norm(g.w, axis=1)[g.y] * g.norms * _fold(4 * g.theta))


def _sphereface2(g: SimpleNamespace) -> float:
    curve = 2 * ((g.c + 1) / 2) ** 3 - 1
    positive = 40 * (curve[np.arange(BATCH), g.y] - 0.4) - 3
    return _binary(positive, 40 * (curve + 0.4) - 3, g.y, (0.7 / 40, 0.3 / 40))


def _curricularface(g: SimpleNamespace) -> float:
    t = 0.01 * g.cy.mean()
    hard = g.c > np.cos(g.theta + 0.5)[:, None]
    return _cross_entropy(64 * np.where(hard, g.c * (t + g.c), g.c), g.y, 64 * _arc(g.theta, 0.5))


def _mv(g: SimpleNamespace, target: np.ndarray, slope: float) -> float:
    hard = g.c > target[:, None]
    return _cross_entropy(32 * np.where(hard, slope * g.c + 0.2, g.c), g.y, 32 * target)


def _magface(g: SimpleNamespace) -> float:
    length = np.clip(g.norms, 10, 110)
    margin = 0.45 + (0.8 - 0.45) * (length - 10) / (110 - 10)
    penalty = 35 * np.mean(length / 110**2 + 1 / length)
    return _cross_entropy(64 * g.c, g.y, 64 * _arc(g.theta, margin)) + float(penalty)


def _adaface(g: SimpleNamespace) -> float:
    lengths = np.clip(g.norms, 0.001, 100)
    mean, deviation = 0.99 * 20 + 0.01 * lengths.mean(), 0.99 * 100 + 0.01 * lengths.std(ddof=1)
    z = np.clip(0.333 * (lengths - mean) / (deviation + 1e-3), -1, 1)
    target = np.cos(np.clip(g.theta - 0.4 * z, 0, np.pi)) - 0.4 * (1 + z)
    return _cross_entropy(64 * g.c, g.y, 64 * target)


# name, arguments, formula of the first training step
FORMULAS: list[tuple[str, dict[str, object], Callable[[SimpleNamespace], float]]] = [
    ("softmax", {}, lambda g: _cross_entropy(g.x @ g.w.T, g.y)),
    ("normface", {}, lambda g: _cross_entropy(30 * g.c, g.y)),
    ("cosface", {}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * (g.cy - 0.35))),
    ("arcface", {}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * _arc(g.theta, 0.5))),
    ("arcface", {"gradient": "detached"}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * _arc(g.theta, 0.5))),
    ("combined", {}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * (_arc(g.theta, 0.3) - 0.2))),
    (
        "combined",
        {"multiple": 0.9, "angular_margin": 0.4, "cosine_margin": 0.15},
        lambda g: _cross_entropy(64 * g.c, g.y, 64 * (_fold(0.9 * g.theta + 0.4) - 0.15)),
    ),
    ("lsoftmax", {}, _lsoftmax),
    ("sphereface", {}, lambda g: _sphereface(g, 1000 / 1.12)),
    ("sphereface", {"easing_start": 0, "easing_floor": 0}, lambda g: _sphereface(g, 0)),
    ("sphereface", {"easing_start": 1}, lambda g: _sphereface(g, 5)),
    ("sphereface-r", {}, lambda g: _cross_entropy(30 * g.c, g.y, 30 * _fold(1.7 * g.theta))),
    (
        "sphereface-r",
        {"version": "v1"},
        lambda g: _cross_entropy(30 * g.c, g.y, 30 * np.cos(np.minimum(1.7 * g.theta, np.pi))),
    ),
    (
        "sphereface-r",
        {"version": "v2"},
        lambda g: _cross_entropy(30 * np.cos(np.arccos(g.c) / 1.7), g.y, 30 * g.cy),
    ),
    ("sphereface2", {"bias": -3}, _sphereface2),
    ("subcenter-arcface", {}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * _arc(g.theta, 0.5))),
    ("curricularface", {}, _curricularface),
    ("mv-softmax", {}, lambda g: _mv(g, g.cy - 0.35, 1.2)),
    ("mv-softmax", {"kind": "arc", "reweighting": "fixed"}, lambda g: _mv(g, _arc(g.theta, 0.5), 1.0)),
    ("magface", {}, _magface),
    ("adaface", {}, _adaface),
    (
        "uniface",
        {"negative_weight": 0.7},
        lambda g: _binary(64 * (g.cy - 0.4) - math.log(100), 64 * g.c - math.log(100), g.y, (1, 0.7)),
    ),
    ("adacos", {}, lambda g: _cross_entropy(math.sqrt(2) * math.log(CLASSES - 1) * g.c, g.y)),
    ("elasticface", {"deviation": 0}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * _arc(g.theta, 0.5))),
    ("elasticface", {"kind": "cos", "deviation": 0}, lambda g: _cross_entropy(64 * g.c, g.y, 64 * (g.cy - 0.35))),
]


def _double(name: str, **arguments: object) -> Objective:
    torch.set_num_threads(1)
    return build_objective(name, classes=CLASSES, **arguments).double()


@pytest.mark.parametrize(("name", "arguments", "formula"), FORMULAS, ids=lambda value: str(value)[:40])
def test_the_whole_loss_is_the_formula(
    name: str, arguments: dict[str, object], formula: Callable[[SimpleNamespace], float]
) -> None:
    objective = _double(name, **arguments)
    sub_centres = objective.centres_per_class
    loss = dense_loss(objective, *_tensors(sub_centres))
    # float32 rounds the learned biases and AdaCos's first scale
    assert loss.item() == pytest.approx(formula(_given(sub_centres)), rel=1e-6)


def test_every_objective_has_a_formula() -> None:
    assert {name for name, _, _ in FORMULAS} == set(OBJECTIVES)


def test_the_data_holds_the_corners() -> None:
    given = _given()
    assert (given.theta + 0.5 > np.pi).any()
    assert (given.theta < 0.3).any()
    assert (given.c > np.cos(given.theta + 0.5)[:, None]).sum() > BATCH  # hard negatives, besides the targets


PEERS = [
    ("arcface", {}, lambda: metric_learning.ArcFaceLoss(CLASSES, SIZE, margin=math.degrees(0.5), scale=64), 1),
    ("cosface", {}, lambda: metric_learning.CosFaceLoss(CLASSES, SIZE, margin=0.35, scale=64), 1),
    ("normface", {}, lambda: metric_learning.NormalizedSoftmaxLoss(CLASSES, SIZE, temperature=1 / 30), 1),
    ("lsoftmax", {}, lambda: metric_learning.LargeMarginSoftmaxLoss(CLASSES, SIZE, margin=4), 1),
    (
        "sphereface",
        {"easing_start": 0, "easing_floor": 0},
        lambda: metric_learning.SphereFaceLoss(CLASSES, SIZE, margin=4),
        1,
    ),
    (
        "subcenter-arcface",
        {},
        lambda: metric_learning.SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=SIZE, margin=math.degrees(0.5), sub_centers=3
        ),
        3,
    ),
]


@pytest.mark.parametrize(("name", "arguments", "build", "sub_centres"), PEERS, ids=[peer[0] for peer in PEERS])
def test_loss_and_gradients_are_those_of_pytorch_metric_learning(
    name: str, arguments: dict[str, object], build: Callable[[], torch.nn.Module], sub_centres: int
) -> None:
    embeddings, centres, labels = _tensors(sub_centres)
    ours = dense_loss(_double(name, **arguments), embeddings.requires_grad_(), centres.requires_grad_(), labels)
    our_gradients = torch.autograd.grad(ours, (embeddings, centres))
    peer = build()
    peer.W.data = centres.detach().T.contiguous()
    theirs = peer(embeddings, labels)
    their_gradients = torch.autograd.grad(theirs, (embeddings, peer.W))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradients[0], their_gradients[0])
    torch.testing.assert_close(our_gradients[1], their_gradients[1].T)


def test_elasticface_adds_the_margins_of_its_context() -> None:
    embeddings, centres, labels = _tensors()
    given = _given()
    drawn = _double("elasticface", seed=3).context(torch.tensor(given.norms), torch.tensor(given.cy))["margin"]
    loss = dense_loss(_double("elasticface", seed=3), embeddings, centres, labels)
    expected = _cross_entropy(64 * given.c, given.y, 64 * _arc(given.theta, drawn.numpy()))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_adacos_sets_the_scale_of_the_next_step() -> None:
    tensors, given = _tensors(), _given()
    objective = _double("adacos")
    before = objective.scale.item()
    dense_loss(objective, *tensors)
    negatives = np.exp(before * given.c)
    negatives[np.arange(BATCH), given.y] = 0
    median = np.sort(given.theta)[(BATCH - 1) // 2]
    scale = np.log(negatives.sum(1).mean()) / np.cos(min(np.pi / 4, median))
    assert dense_loss(objective, *tensors).item() == pytest.approx(_cross_entropy(scale * given.c, given.y), rel=1e-9)
    fixed = _double("adacos", kind="fixed")
    assert dense_loss(fixed, *tensors) == dense_loss(fixed, *tensors)


@pytest.mark.parametrize("classes", [3, 100, 1_000_000])
def test_sphereface2_starts_where_positives_and_negatives_pull_alike(classes: int) -> None:
    middle = 40 * (2 * 0.5**3 - 1)

    def imbalance(bias: float) -> float:
        return 0.7 * expit(-(middle - 16) - bias) - 0.3 * (classes - 1) * expit(middle + 16 + bias)

    bias = build_objective("sphereface2", classes=classes).bias
    assert isinstance(bias, torch.nn.Parameter)
    assert bias.item() == pytest.approx(brentq(imbalance, -100, 100), abs=1e-4)


@pytest.mark.parametrize("name", ["sphereface2", "uniface"])
def test_a_learned_bias_gets_its_gradient(name: str) -> None:
    objective = _double(name)
    tensors = _tensors()
    (gradient,) = torch.autograd.grad(dense_loss(objective, *tensors), [objective.bias])
    step, losses = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            objective.bias += sign * step
            losses.append(dense_loss(objective, *tensors).item())
            objective.bias -= sign * step
    assert gradient.item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_unknown_names_arguments_and_values_are_named() -> None:
    with pytest.raises(UnknownObjective, match=r"'arcfaec'; known: .*arcface"):
        build_objective("arcfaec")
    with pytest.raises(UnknownObjective, match=r"arcface has no argument 'angle'; it takes: scale, margin, gradient"):
        build_objective("arcface", angle=1)
    with pytest.raises(UnknownObjective, match=r"arcface: gradient='exat': .*'exact' or 'detached'"):
        build_objective("arcface", gradient="exat")
    with pytest.raises(UnknownObjective, match=r"scale=-1: .*greater than 0"):
        build_objective("cosface", scale=-1)
    with pytest.raises(UnknownObjective, match="adacos needs the number of classes"):
        build_objective("adacos")
    with pytest.raises(UnknownObjective, match="at least 3 classes"):
        build_objective("adacos", classes=2)
    with pytest.raises(UnknownObjective, match=r"longest \(5.0\) must exceed"):
        build_objective("magface", longest=5)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_listed_defaults_are_those_that_build(name: str) -> None:
    arguments = objective_arguments(name)
    assert "classes" not in arguments
    tensors = _tensors(build_objective(name, classes=CLASSES).centres_per_class)
    assert dense_loss(_double(name), *tensors) == dense_loss(_double(name, **arguments), *tensors)
