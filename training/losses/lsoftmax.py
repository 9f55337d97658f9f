"""L-Softmax: a multiplied angle under unnormalised logits."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Count, NonNegative
from training.losses.easing import Easing, ease
from training.losses.objective import Context, Objective


class LSoftmax(Objective):
    """Target norm(w) norm(x) psi(theta) (Liu et al. 2016, arXiv:1612.02295, eq. 4-6). margin: the whole multiple m.

    As the paper's definition it is not eased. On hard data its authors train with (lambda c + psi) / (1 + lambda):
    easing_start=1000, easing_floor=5 is SphereFace's course of lambda.
    """

    unit_centres: ClassVar[bool] = False

    def __init__(
        self,
        *,
        margin: Count = 4,
        easing_start: NonNegative = 0.0,
        easing_decay: NonNegative = 0.12,
        easing_floor: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.margin = margin
        self.easing = Easing(easing_start, easing_decay, easing_floor)

    def context(self, norms: Tensor, target: Tensor) -> Context:
        return {"norms": norms, "easing": self.easing(norms.dtype)}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * ease(margins.psi(cosine, self.margin), cosine, context["easing"])

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine
