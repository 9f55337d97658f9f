"""Plain softmax: the anchor that every margin is measured against."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from training.losses.objective import Context, Objective


class Softmax(Objective):
    """Cross-entropy over w.x = norm(w) norm(x) cos(theta), without a bias (DeepID's identification signal).

    Sun et al. 2014 ("Deep Learning Face Representation from Predicting 10,000 Classes"), who add a bias.
    """

    unit_centres: ClassVar[bool] = False

    def context(self, norms: Tensor, target: Tensor) -> Context:
        return {"norms": norms}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        return context["norms"] * cosine
