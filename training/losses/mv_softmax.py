"""MV-Softmax: wrong classes that beat the target's margin weigh more."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Positive
from training.losses.objective import Context, Objective


class MVSoftmax(Objective):
    """Others with c_j > f(c_y) become t c_j + t - 1 (adaptive) or c_j + t - 1 (fixed) (Wang et al., AAAI 2020).

    arXiv:1912.00833. kind: f is CosFace's margin (MV-AM) or ArcFace's (MV-Arc); margin None is the paper's,
    0.35 or 0.5. hardness: t >= 1. The threshold takes no gradient; a step in c_j there is the paper's own.
    """

    def __init__(
        self,
        *,
        kind: Literal["am", "arc"] = "am",
        reweighting: Literal["adaptive", "fixed"] = "adaptive",
        scale: Positive = 32.0,
        margin: Angle | None = None,
        hardness: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.2,
    ) -> None:
        super().__init__()
        self.kind, self.reweighting, self.scale, self.hardness = kind, reweighting, scale, hardness
        self.margin = {"am": 0.35, "arc": 0.5}[kind] if margin is None else margin

    def _with_margin(self, cosine: Tensor) -> Tensor:
        return (margins.cosface if self.kind == "am" else margins.arcface)(cosine, self.margin)

    def context(self, norms: Tensor, target: Tensor) -> Context:
        return {"threshold": self._with_margin(target.detach())}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return self.scale * self._with_margin(cosine)

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        hard = (self.hardness if self.reweighting == "adaptive" else 1.0) * cosine + self.hardness - 1
        return self.scale * torch.where(cosine > context["threshold"], hard, cosine)
