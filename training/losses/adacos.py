"""AdaCos: the scale sets itself."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from training.losses.objective import Context, Objective


class AdaCos(Objective):
    """NormFace with s = sqrt(2) log(C - 1) ("fixed"), from where "dynamic" follows the batch (Zhang et al. 2019).

    arXiv:1905.00292; s = log(mean_i sum_j exp(s' c_ij)) / cos(min(pi/4, median theta_y)), where s' is the
    scale before. Here it lags by a step: the sum over the others is known only after `others`, so what a batch teaches
    (`observe`) serves the next one. A head that samples classes sums over its sample, which makes s smaller.
    Buffer scale. classes: at least 3, for a scale above 0.
    """

    scale: Tensor

    def __init__(self, *, classes: int, kind: Literal["dynamic", "fixed"] = "dynamic") -> None:
        super().__init__()
        if classes < 3:
            raise ValueError(f"adacos needs at least 3 classes, not {classes}")
        self.kind = kind
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(classes - 1)))
        self._divisor: Tensor | None = None

    def context(self, norms: Tensor, target: Tensor) -> Context:
        if self.training and len(target):
            # The median of angles, without an acos: torch takes the lower of two, which is the upper of cosines.
            median = -(-target.detach()).median()
            self._divisor = median.clamp_min(math.cos(math.pi / 4))
        # A copy: observe changes the buffer in place, perhaps before this step's backward.
        return {"scale": self.scale.clone()}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return context["scale"] * cosine

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["scale"] * cosine

    def observe(self, others: Tensor) -> None:
        if self.kind == "fixed" or self._divisor is None or not len(others):
            return
        log_mean = torch.logsumexp(others, dim=0) - math.log(len(others))
        self.scale.copy_(log_mean / self._divisor)
        self._divisor = None
