"""SphereFace2: one binary classifier a class, instead of one softmax over classes."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from training.losses import margins
from training.losses.arguments import Gradient, NonNegative, Positive
from training.losses.objective import Context, Objective


class SphereFace2(Objective):
    """lambda/r softplus(-r(g(c_y) - m) - b) + (1-lambda)/r sum softplus(r(g(c_j) + m) + b), g(c) = 2((c+1)/2)^t - 1.

    Wen et al., ICLR 2022, arXiv:2108.01513, SphereFace2-C. scale is r, sharpness t, positive_weight lambda. bias: b
    held at a number; None learns it, from the value where positives and negatives pull alike at c = 0 (the authors'),
    which needs the number of classes. The authors detach the margin's gradient, and multiply the loss by 50
    (a recipe's `weight`).
    """

    reduction: ClassVar[Literal["softmax", "binary"]] = "binary"
    bias: Tensor
    scale: float

    def __init__(
        self,
        *,
        classes: int,
        scale: Positive = 40.0,
        margin: NonNegative = 0.4,
        sharpness: Positive = 3.0,
        positive_weight: Annotated[float, Field(gt=0, lt=1)] = 0.7,
        bias: float | None = None,
        gradient: Gradient = "detached",
    ) -> None:
        super().__init__()
        self.scale, self.margin, self.sharpness = scale, margin, sharpness
        self.positive_weight, self.gradient = positive_weight, gradient
        if bias is None:
            self.bias = nn.Parameter(torch.tensor(self._balanced_bias(classes)))
        else:
            self.register_buffer("bias", torch.tensor(float(bias)))

    def _balanced_bias(self, classes: int) -> float:
        """b at which lambda sigmoid(-a_y - b) = (1 - lambda)(C - 1) sigmoid(a_j + b) for orthogonal embeddings."""
        if classes < 2:
            raise ValueError(f"sphereface2 needs at least 2 classes, not {classes}")
        middle = self.scale * (2 * math.pow(0.5, self.sharpness) - 1)
        ratio = self.positive_weight / ((1 - self.positive_weight) * (classes - 1))
        root = math.sqrt((1 - ratio) ** 2 + 4 * ratio * math.exp(-2 * self.scale * self.margin))
        # The positive root of a quadratic in exp(a_j + b), in the form that does not cancel for many classes.
        return math.log(2 * ratio) - (middle + self.scale * self.margin) - math.log(1 - ratio + root)

    def _curve(self, cosine: Tensor) -> Tensor:
        # Rounding may leave a cosine just below -1, where a fractional power is NaN.
        value = 2 * ((cosine + 1) / 2).clamp_min(1e-12) ** self.sharpness - 1
        return margins.pass_gradient(value, cosine, self.gradient)

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * (self._curve(cosine) - self.margin) + self.bias

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * (self._curve(cosine) + self.margin) + self.bias

    def combine(self, target: Tensor, others: Tensor) -> Tensor:
        loss = self.positive_weight * softplus(-target) + (1 - self.positive_weight) * others
        return loss / self.scale
