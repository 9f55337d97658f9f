"""UniFace: one threshold parts every positive from every negative."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from training.losses.arguments import NonNegative, Positive
from training.losses.objective import Context, Objective


class UniFace(Objective):
    """softplus(-(s (c_y - m) - b)) + l sum softplus(s c_j - b), with a learned b (Zhou et al., ICCV 2023).

    negative_weight is l. initial_bias None is the authors' log(10 C); for a head that samples a share r of the classes
    they take log(10 r C). The authors clamp the logits at +-s, which stops the gradient there; softplus needs none.
    """

    reduction: ClassVar[Literal["softmax", "binary"]] = "binary"

    def __init__(
        self,
        *,
        classes: int,
        scale: Positive = 64.0,
        margin: NonNegative = 0.4,
        negative_weight: Positive = 1.0,
        initial_bias: float | None = None,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"uniface needs at least 1 class, not {classes}")
        self.scale, self.margin, self.negative_weight = scale, margin, negative_weight
        start = math.log(10 * classes) if initial_bias is None else float(initial_bias)
        self.bias = nn.Parameter(torch.tensor(start))

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * (cosine - self.margin) - self.bias

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * cosine - self.bias

    def combine(self, target: Tensor, others: Tensor) -> Tensor:
        return softplus(-target) + self.negative_weight * others
