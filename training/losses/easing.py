"""The annealed weight of the plain softmax, by which multiplicative margins are made learnable."""

from __future__ import annotations

from torch import Tensor


def easing_weight(step: Tensor, start: float, decay: float, floor: float) -> Tensor:
    """lambda = max(floor, start / (1 + decay step)): () -> () (SphereFace's training, arXiv:1704.08063)."""
    return (start / (1 + decay * step)).clamp_min(floor)


def ease(hard: Tensor, easy: Tensor, weight: Tensor) -> Tensor:
    """(lambda easy + hard) / (1 + lambda)."""
    return (weight * easy + hard) / (1 + weight)
