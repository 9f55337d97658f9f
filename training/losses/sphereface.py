"""SphereFace (A-Softmax): a multiplied angle, unit centres, the embedding's own length as the scale."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Count, Gradient, NonNegative
from training.losses.easing import ease, easing_weight
from training.losses.objective import Context, Objective


class SphereFace(Objective):
    """Target norm(x) (lambda c + psi(theta)) / (1 + lambda), others norm(x) c (Liu et al. 2017).

    arXiv:1704.08063. margin: the whole multiple m; lambda = max(floor, start / (1 + decay it)), where `it` counts
    training steps from 1, the step under way included, as the authors' layer does. Buffer step: that count.
    """

    step: Tensor

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
        self.easing_start, self.easing_decay, self.easing_floor = easing_start, easing_decay, easing_floor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def context(self, norms: Tensor, target: Tensor) -> Context:
        if self.training:
            self.step += 1
        weight = easing_weight(self.step.to(norms.dtype), self.easing_start, self.easing_decay, self.easing_floor)
        return {"norms": norms, "easing": weight}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        value = ease(margins.psi(cosine, self.margin), cosine, context["easing"])
        return context["norms"] * margins.pass_gradient(value, cosine, self.gradient)

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine
