"""L-Softmax: a multiplied angle under unnormalised logits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Count, NonNegative
from training.losses.easing import ease, easing_weight
from training.losses.objective import Context, Objective


class LSoftmax(Objective):
    """Target norm(w) norm(x) psi(theta) (Liu et al. 2016, arXiv:1612.02295, eq. 4-6). margin: the whole multiple m.

    As the paper's definition it is not eased. On hard data its authors train with (lambda c + psi) / (1 + lambda):
    easing_start=1000, easing_floor=5 is SphereFace's course of lambda. Buffer step: the training steps so far.
    """

    unit_centres: ClassVar[bool] = False
    step: Tensor

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
        self.easing_start, self.easing_decay, self.easing_floor = easing_start, easing_decay, easing_floor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def context(self, norms: Tensor, target: Tensor) -> Context:
        if self.training:
            self.step += 1
        weight = easing_weight(self.step.to(norms.dtype), self.easing_start, self.easing_decay, self.easing_floor)
        return {"norms": norms, "easing": weight}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * ease(margins.psi(cosine, self.margin), cosine, context["easing"])

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine
