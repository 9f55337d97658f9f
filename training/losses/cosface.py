"""CosFace, also known as AM-Softmax: a margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import NonNegative, Positive
from training.losses.objective import Context, Objective


class CosFace(Objective):
    """Target s (c - m) (Wang et al. 2018, arXiv:1801.09414, eq. 4; AM-Softmax, arXiv:1801.05599)."""

    def __init__(self, *, scale: Positive = 64.0, margin: NonNegative = 0.35) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * margins.cosface(cosine, self.margin)
