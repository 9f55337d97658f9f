"""SphereFace (A-Softmax): a multiplied angle, unit centres, the embedding's own length as the scale."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Count, Gradient, NonNegative
from training.losses.easing import Easing, ease
from training.losses.objective import Context, Objective


class SphereFace(Objective):
    """Target norm(x) (lambda c + psi(theta)) / (1 + lambda), others norm(x) c (Liu et al. 2017).

    arXiv:1704.08063. margin: the whole multiple m; lambda: see Easing.
    """

    def __init__(
        self,
        *,
        margin: Count = 4,
        easing_start: NonNegative = 1000.0,
        easing_decay: NonNegative = 0.12,
        easing_floor: NonNegative = 5.0,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        self.margin, self.gradient = margin, gradient
        self.easing = Easing(easing_start, easing_decay, easing_floor)

    def context(self, norms: Tensor, target: Tensor) -> Context:
        return {"norms": norms, "easing": self.easing(norms.dtype)}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        value = ease(margins.psi(cosine, self.margin), cosine, context["easing"])
        return context["norms"] * margins.pass_gradient(value, cosine, self.gradient)

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine
