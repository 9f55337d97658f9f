"""Sub-center ArcFace: several centres a class, so that label noise finds one of its own."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Count, Gradient, Positive
from training.losses.objective import Context, Objective


class SubCenterArcFace(Objective):
    """ArcFace over c_j = max_k w_jk.x (Deng et al., ECCV 2020). The head takes the maximum.

    Afterwards `training.losses.cleaning` drops the minor centres and the noise, for a second training with K = 1.
    """

    def __init__(
        self,
        *,
        scale: Positive = 64.0,
        margin: Angle = 0.5,
        centres_per_class: Count = 3,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        self.scale, self.margin, self.gradient = scale, margin, gradient
        self.centres_per_class = centres_per_class

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        value = margins.arcface(cosine, self.margin)
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)
