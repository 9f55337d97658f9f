"""Angular margins: what becomes of the target's cosine before the softmax. Exact, differentiable, in float32.

c is the cosine between a unit embedding and its unit class centre, of any shape, in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

TargetTransform = Callable[[Tensor], Tensor]

# sqrt(1 - c^2) has an infinite slope at |c| = 1; below this floor the sine is held, so no gradient is NaN.
_MINIMUM_SINE_SQUARED = 1e-7


def normface(cosine: Tensor) -> Tensor:
    """f(c) = c: no margin (NormFace, Wang et al. 2017, arXiv:1704.06369)."""
    return cosine


def cosface(cosine: Tensor, margin: float = 0.35) -> Tensor:
    """f(c) = c - m (CosFace, Wang et al. 2018, arXiv:1801.09414, eq. 4)."""
    return cosine - margin


def arcface(cosine: Tensor, margin: float = 0.5) -> Tensor:
    """f(c) = cos(theta + m), and c - m sin m where theta + m > pi (ArcFace, Deng et al. 2019, arXiv:1801.07698).

    Computed as c cos m - sin(theta) sin m: clamp-acos-cos gives NaN gradients at c = 1. The derivative is
    the exact one, cos m + c sin m / sin(theta), not the detached one of arcface_torch.
    """
    sine = torch.sqrt((1 - cosine * cosine).clamp_min(_MINIMUM_SINE_SQUARED))
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    # Beyond pi - m the cosine of theta + m would rise again; the line keeps the order (the authors' own remedy).
    return torch.where(cosine > -math.cos(margin), shifted, cosine - margin * math.sin(margin))


def margin_softmax(cosines: Tensor, labels: Tensor, transform: TargetTransform, scale: float) -> Tensor:
    """Mean cross-entropy over scale * cosines with the target's cosine replaced by transform(c_y).

    cosines: (B, C) in [-1, 1]; labels: (B,) int64; scale: the logit scale s. Computed in float32 or wider.
    """
    cosines = cosines if cosines.dtype == torch.float64 else cosines.float()
    index = labels[:, None]
    target = transform(cosines.gather(1, index))
    return torch.nn.functional.cross_entropy(scale * cosines.scatter(1, index, target), labels)
