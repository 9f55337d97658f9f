"""Margins against the textbook formulas in float64, their gradients, and the corners where they break."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses.margins import angle, arcface, clipped_shift, cosface, folded, normface, psi

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
    cosines = torch.tensor([1.0, -1.0, 0.0], dtype=dtype, requires_grad=True)
    values = transform(cosines)
    (gradient,) = torch.autograd.grad(values.sum(), cosines)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()


angles = st.floats(0.001, np.pi - 0.001)


def _cosine(theta: float) -> torch.Tensor:
    return torch.tensor(np.cos(theta), dtype=torch.float64)


@given(theta=angles, multiple=st.integers(1, 6))
def test_psi_is_the_folded_cosine_of_the_multiple(theta: float, multiple: int) -> None:
    turns = np.floor(multiple * theta / np.pi)
    expected = (-1) ** turns * np.cos(multiple * theta) - 2 * turns
    assert psi(_cosine(theta), multiple).item() == pytest.approx(expected, abs=1e-6)


@given(theta=angles, multiple=st.floats(1, 4))
def test_folding_continues_psi_to_any_multiple(theta: float, multiple: float) -> None:
    value = folded(multiple * angle(_cosine(theta))).item()
    turns = np.floor(multiple * theta / np.pi)
    assert value == pytest.approx((-1) ** turns * np.cos(multiple * theta) - 2 * turns, abs=1e-6)


@given(theta=angles, margin=st.floats(-1.5, 1.5))
def test_a_clipped_shift_stops_at_zero_and_pi(theta: float, margin: float) -> None:
    value = clipped_shift(_cosine(theta), torch.tensor(margin, dtype=torch.float64)).item()
    assert value == pytest.approx(np.cos(np.clip(theta + margin, 0, np.pi)), abs=1e-6)


@pytest.mark.parametrize("transform", [angle, lambda c: psi(c, 4), lambda c: folded(1.7 * angle(c))])
def test_multiplied_angles_have_the_exact_gradient(transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
    cosines = torch.tensor([-0.97, -0.6, -0.1, 0.0, 0.4, 0.72, 0.99], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, (cosines,))


def test_a_margin_a_sample_is_each_samples_own() -> None:
    cosines, margins = torch.rand(5) * 2 - 1, torch.rand(5)
    apart = torch.stack([arcface(c, m.item()) for c, m in zip(cosines, margins, strict=True)])
    torch.testing.assert_close(arcface(cosines, margins), apart)
