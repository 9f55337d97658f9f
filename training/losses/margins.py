"""Margins: what becomes of the target's cosine before the softmax. Exact, differentiable, in float32.

c is the cosine between a unit embedding and its unit class centre, of any shape, in [-1, 1]; theta is its angle.
A margin is a number, or a tensor of c's shape where it differs by sample. Nothing here computes acos: clamp-acos-cos
gives NaN gradients at c = 1 and loses half of float32's digits there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.losses.arguments import Gradient

# sqrt(1 - c^2) has an infinite slope at |c| = 1; below this floor the sine is held, so no gradient is NaN.
_MINIMUM_SINE_SQUARED = 1e-7


def normface(cosine: Tensor) -> Tensor:
    """f(c) = c: no margin (NormFace, Wang et al. 2017, arXiv:1704.06369)."""
    return cosine


def cosface(cosine: Tensor, margin: float | Tensor = 0.35) -> Tensor:
    """f(c) = c - m (CosFace, Wang et al. 2018, arXiv:1801.09414, eq. 4)."""
    return cosine - margin


def arcface(cosine: Tensor, margin: float | Tensor = 0.5) -> Tensor:
    """f(c) = cos(theta + m), and c - m sin m where theta + m > pi (ArcFace, Deng et al. 2019, arXiv:1801.07698).

    The derivative is the exact one, cos m + c sin m / sin(theta), not the detached one of arcface_torch.
    """
    cos_margin, sin_margin = _cos_sin(margin)
    # Beyond pi - m the cosine of theta + m would rise again; the line keeps the order (the authors' own remedy).
    return torch.where(cosine > -cos_margin, shifted(cosine, margin), cosine - margin * sin_margin)


def shifted(cosine: Tensor, margin: float | Tensor) -> Tensor:
    """cos(theta + m) = c cos m - sin(theta) sin m, for a margin of either sign and however far it leads."""
    cos_margin, sin_margin = _cos_sin(margin)
    return cosine * cos_margin - _sine(cosine) * sin_margin


def clipped_shift(cosine: Tensor, margin: Tensor) -> Tensor:
    """cos(clip(theta + m, 0, pi)) for margins of either sign, |m| <= pi; no gradient where it clips."""
    cos_margin = torch.cos(margin)
    value = torch.where((margin > 0) & (cosine < -cos_margin), -1.0, shifted(cosine, margin))
    return torch.where((margin < 0) & (cosine > cos_margin), 1.0, value)


def psi(cosine: Tensor, multiple: int) -> Tensor:
    """(-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m] (L-Softmax, Liu et al. 2016, arXiv:1612.02295, eq. 6).

    cos(m theta) is the Chebyshev polynomial of c, so value and gradient are finite everywhere.
    """
    previous, current = torch.ones_like(cosine), cosine
    turns = torch.zeros_like(cosine)
    for k in range(1, multiple):
        previous, current = current, 2 * cosine * current - previous
        turns = turns + (cosine <= math.cos(k * math.pi / multiple))
    return (1 - 2 * (turns % 2)) * current - 2 * turns


def angle(cosine: Tensor) -> Tensor:
    """theta in [0, pi], for the margins that need it; its gradient is finite at c = 1 and -1."""
    return torch.atan2(_sine(cosine), cosine)


def folded(angles: Tensor) -> Tensor:
    """psi of any angle >= 0, not only of a whole multiple: (-1)^k cos(a) - 2k on [k pi, (k+1) pi]. It only falls."""
    turns = torch.floor(angles.detach() / math.pi)
    return (1 - 2 * (turns % 2)) * torch.cos(angles) - 2 * turns


def pass_gradient(value: Tensor, cosine: Tensor, gradient: Gradient) -> Tensor:
    """The value, with its own gradient ("exact") or the cosine's, as if value - cosine were constant ("detached")."""
    return value if gradient == "exact" else cosine + (value - cosine).detach()


def _sine(cosine: Tensor) -> Tensor:
    return torch.sqrt((1 - cosine * cosine).clamp_min(_MINIMUM_SINE_SQUARED))


def _cos_sin(margin: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    if isinstance(margin, Tensor):
        return torch.cos(margin), torch.sin(margin)
    return math.cos(margin), math.sin(margin)
