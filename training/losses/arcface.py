"""ArcFace: a margin on the angle."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Gradient, Positive
from training.losses.objective import Context, Objective


class ArcFace(Objective):
    """Target s cos(theta + m), and s (c - m sin m) where theta + m > pi (Deng et al. 2019, arXiv:1801.07698, eq. 3)."""

    def __init__(self, *, scale: Positive = 64.0, margin: Angle = 0.5, gradient: Gradient = "exact") -> None:
        super().__init__()
        self.scale, self.margin, self.gradient = scale, margin, gradient

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        value = margins.arcface(cosine, self.margin)
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)
