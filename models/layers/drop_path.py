"""Stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, leaves a residual branch out for a random share `rate` of the samples (arXiv:1603.09382).

    What is kept grows by 1 / (1 - rate), so that evaluation, which drops nothing, needs no correction.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(len(x), *(1,) * (x.dim() - 1), device=x.device) >= self.rate
        return x * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for print(network)."""
        return f"rate={self.rate}"
