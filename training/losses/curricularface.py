"""CurricularFace: hard negatives count more as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Fraction, Gradient, Positive
from training.losses.objective import Context, Objective


class CurricularFace(Objective):
    """ArcFace's target; others with c_j > cos(theta_y + m) become c_j (t + c_j) (Huang et al. 2020, arXiv:2004.00288).

    Buffer t: moving average of the mean c_y of the batch, from 0, with the batch under way (smoothing: the
    weight of a batch). `gradient` is the target's; that of the others is exact either way.
    """

    t: Tensor

    def __init__(
        self,
        *,
        scale: Positive = 64.0,
        margin: Angle = 0.5,
        smoothing: Fraction = 0.01,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        self.scale, self.margin, self.smoothing, self.gradient = scale, margin, smoothing, gradient
        self.register_buffer("t", torch.zeros(()))

    def context(self, norms: Tensor, target: Tensor) -> Context:
        target = target.detach()
        if self.training and len(target):
            self.t.lerp_(target.mean().to(self.t.dtype), self.smoothing)
        # A copy: the next context changes the buffer in place, perhaps before this one's backward.
        return {"threshold": margins.shifted(target, self.margin), "t": self.t.clone()}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        value = margins.arcface(cosine, self.margin)
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        hard = cosine * (context["t"] + cosine)
        return self.scale * torch.where(cosine > context["threshold"], hard, cosine)
