"""The combined margin: SphereFace's, ArcFace's and CosFace's in one formula."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Gradient, NonNegative, Positive
from training.losses.objective import Context, Objective


class Combined(Objective):
    """Target s (cos(m1 theta + m2) - m3) (Deng et al. 2019, arXiv:1801.07698, eq. 4).

    Defaults are the paper's CM1 with a multiple of 1. Where m1 theta + m2 > pi the cosine would rise again: with
    m1 = 1 ArcFace's line c - m2 sin m2 takes over, else SphereFace's fold (-1)^k cos - 2k.
    """

    def __init__(
        self,
        *,
        scale: Positive = 64.0,
        multiple: Positive = 1.0,
        angular_margin: Angle = 0.3,
        cosine_margin: NonNegative = 0.2,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        self.scale, self.gradient = scale, gradient
        self.multiple, self.angular_margin, self.cosine_margin = multiple, angular_margin, cosine_margin

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        if self.multiple == 1:
            value = margins.arcface(cosine, self.angular_margin)
        else:
            value = margins.folded(self.multiple * margins.angle(cosine) + self.angular_margin)
        return self.scale * margins.pass_gradient(value - self.cosine_margin, cosine, self.gradient)
