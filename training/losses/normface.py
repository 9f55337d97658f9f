"""NormFace: softmax over scaled cosines, without a margin."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Positive
from training.losses.objective import Context, Objective


class NormFace(Objective):
    """Cross-entropy over s c_j (Wang et al. 2017, arXiv:1704.06369). scale: the logit scale s."""

    def __init__(self, *, scale: Positive = 30.0) -> None:
        super().__init__()
        self.scale = scale

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * margins.normface(cosine)
