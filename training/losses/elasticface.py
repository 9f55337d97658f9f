"""ElasticFace: the margin is drawn anew for every sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Gradient, NonNegative, Positive
from training.losses.objective import Context, Objective
from training.losses.random_margins import standard_normal


class ElasticFace(Objective):
    """ArcFace or CosFace with a margin m ~ N(m, sigma) a sample (Boutros et al. 2022, arXiv:2109.09416).

    kind: where the margin goes; margin None is the paper's, 0.5 on the angle or 0.35 on the cosine. plus: the drawn
    margins are dealt out by rank, the largest to the smallest c_y of all ranks' batch (ElasticFace+; the authors' code
    indexes by the sorting permutation where its inverse is meant). Outside training every margin is m.
    Buffer step: draws so far; with `seed` it decides the margins, so ranks agree and a resumed run repeats them.
    """

    step: Tensor

    def __init__(
        self,
        *,
        kind: Literal["arc", "cos"] = "arc",
        plus: bool = False,
        scale: Positive = 64.0,
        margin: Angle | None = None,
        deviation: NonNegative = 0.0125,
        gradient: Gradient = "exact",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.kind, self.plus, self.scale, self.deviation = kind, plus, scale, deviation
        self.margin = {"arc": 0.5, "cos": 0.35}[kind] if margin is None else margin
        self.gradient, self.seed = gradient, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def context(self, norms: Tensor, target: Tensor) -> Context:
        if not self.training:
            return {"margin": torch.full_like(target, self.margin)}
        self.step += 1
        drawn = self.margin + self.deviation * standard_normal(len(target), self.seed, self.step).to(target.dtype)
        if self.plus:
            rank = target.detach().argsort(descending=True, stable=True).argsort()
            drawn = drawn.sort().values[rank]
        return {"margin": drawn}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        if self.kind == "cos":
            return self.scale * margins.cosface(cosine, context["margin"])
        value = margins.arcface(cosine, context["margin"])
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)
