"""MagFace: the embedding's length becomes its quality."""

from __future__ import annotations

from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, NonNegative, Positive
from training.losses.objective import Context, Objective


class MagFace(Objective):
    """ArcFace with m(a) linear in the length a, and a penalty lambda_g mean(a/u_a^2 + 1/a) that rewards long ones.

    Meng et al. 2021, arXiv:2103.06627; a = clamp(norm(x), l_a, u_a), m from l_m to u_m.
    The margin's gradient reaches the length. The clamp, which is the authors', stops both gradients where the length
    is outside [l_a, u_a]: an embedding that starts there gets no push back, so a backbone's first lengths (about
    sqrt(D) after batch normalisation) must lie inside.
    """

    def __init__(
        self,
        *,
        scale: Positive = 64.0,
        shortest: Positive = 10.0,
        longest: Positive = 110.0,
        lowest_margin: Angle = 0.45,
        highest_margin: Angle = 0.8,
        penalty_weight: NonNegative = 35.0,
    ) -> None:
        super().__init__()
        if longest <= shortest:
            raise ValueError(f"longest ({longest}) must exceed shortest ({shortest})")
        self.scale, self.shortest, self.longest = scale, shortest, longest
        self.lowest_margin, self.highest_margin, self.penalty_weight = lowest_margin, highest_margin, penalty_weight

    def context(self, norms: Tensor, target: Tensor) -> Context:
        slope = (self.highest_margin - self.lowest_margin) / (self.longest - self.shortest)
        length = norms.clamp(self.shortest, self.longest)
        return {"margin": self.lowest_margin + slope * (length - self.shortest)}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * margins.arcface(cosine, context["margin"])

    def penalty(self, norms: Tensor) -> Tensor:
        length = norms.clamp(self.shortest, self.longest)
        return self.penalty_weight * (length / self.longest**2 + 1 / length).sum() / max(len(norms), 1)
