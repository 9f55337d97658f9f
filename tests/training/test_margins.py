"""Margins against the textbook formulas in float64, their gradients, and the corners where they break."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.heads.dense import CosineHead, LinearHead
from training.losses.margins import arcface, cosface, margin_softmax, normface

MARGINS = [normface, partial(cosface, margin=0.35), partial(arcface, margin=0.5), partial(arcface, margin=1.2)]


@given(theta=st.floats(0.001, np.pi - 0.001), margin=st.floats(0.01, 1.5))
def test_arcface_is_the_cosine_of_theta_plus_m(theta: float, margin: float) -> None:
    value = arcface(torch.tensor(np.cos(theta), dtype=torch.float64), margin).item()
    if theta + margin < np.pi - 1e-6:
        assert value == pytest.approx(np.cos(theta + margin), abs=1e-6)
    elif theta + margin > np.pi + 1e-6:
        assert value == pytest.approx(np.cos(theta) - margin * np.sin(margin), abs=1e-9)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_arcface_never_rises_with_the_angle(margin: float) -> None:
    cosines = torch.linspace(1, -1, 10_001, dtype=torch.float64)
    assert (arcface(cosines, margin).diff() <= 1e-9).all()


@pytest.mark.parametrize("transform", MARGINS)
def test_the_gradient_is_the_exact_one(transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
    cosines = torch.tensor([-0.97, -0.6, -0.1, 0.0, 0.4, 0.7, 0.99], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, (cosines,))


def test_arcface_gradient_at_0_7_is_the_published_86_and_not_the_detached_64() -> None:
    cosine = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    (64 * arcface(cosine, 0.5)).backward()
    assert cosine.grad is not None
    assert cosine.grad.item() == pytest.approx(86.2, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("transform", MARGINS)
def test_no_nan_where_the_angle_is_zero_or_pi(
    transform: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
) -> None:
    cosines = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]], dtype=dtype, requires_grad=True)
    for labels in ([0, 1], [1, 0]):
        loss = margin_softmax(cosines, torch.tensor(labels), transform, 64.0)
        (gradient,) = torch.autograd.grad(loss, cosines)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def _reference(cosines: np.ndarray, labels: np.ndarray, transform: Callable[[float], float], scale: float) -> float:
    total = 0.0
    for row, label in zip(cosines, labels, strict=True):
        logits = scale * row
        logits[label] = scale * transform(row[label])
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
    return total / len(labels)


@pytest.mark.parametrize(
    ("transform", "textbook"),
    [
        (normface, lambda c: c),
        (partial(cosface, margin=0.4), lambda c: c - 0.4),
        (partial(arcface, margin=0.5), lambda c: np.cos(np.arccos(c) + 0.5)),
    ],
)
def test_the_loss_is_the_textbook_cross_entropy(
    transform: Callable[[torch.Tensor], torch.Tensor], textbook: Callable[[float], float]
) -> None:
    generator = np.random.default_rng(0)
    cosines, labels = generator.uniform(-0.8, 0.9, (16, 30)), generator.integers(0, 30, 16)
    loss = margin_softmax(torch.from_numpy(cosines), torch.from_numpy(labels), transform, 30.0)
    assert loss.item() == pytest.approx(_reference(cosines.copy(), labels, textbook, 30.0), abs=1e-9)


def test_a_cosine_head_gives_cosines_whatever_the_lengths_and_under_autocast() -> None:
    torch.manual_seed(0)
    head = CosineHead(16, 5)
    embeddings = torch.randn(7, 16) * 100
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    centres = head.centres / head.centres.norm(dim=1, keepdim=True)
    with torch.autocast("cpu", torch.bfloat16):
        cosines = head(embeddings)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, unit @ centres.T)


def test_a_linear_head_gives_plain_logits_in_float32() -> None:
    head = LinearHead(16, 5)
    embeddings = torch.randn(7, 16)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(embeddings)
    torch.testing.assert_close(logits, embeddings @ head.weight.T + head.bias)
