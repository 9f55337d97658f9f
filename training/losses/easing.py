"""The annealed weight of the plain softmax, by which multiplicative margins are made learnable."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Easing(nn.Module):
    """lambda = max(floor, start / (1 + decay it)) (SphereFace's training, arXiv:1704.08063).

    `it` counts training steps from 1, the step under way included, as the authors' layer does. Buffer step: that count.
    """

    step: Tensor

    def __init__(self, start: float, decay: float, floor: float) -> None:
        super().__init__()
        self.start, self.decay, self.floor = start, decay, floor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, dtype: torch.dtype) -> Tensor:
        """lambda () of this step; while training, a step further."""
        if self.training:
            self.step += 1
        return (self.start / (1 + self.decay * self.step.to(dtype))).clamp_min(self.floor)


def ease(hard: Tensor, easy: Tensor, weight: Tensor) -> Tensor:
    """(lambda easy + hard) / (1 + lambda)."""
    return (weight * easy + hard) / (1 + weight)
