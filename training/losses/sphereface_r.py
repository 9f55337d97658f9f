"""SphereFace-R: SphereFace with a fixed scale, any multiple, and no easing."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Gradient, Positive
from training.losses.objective import Context, Objective


class SphereFaceR(Objective):
    """Target s psi(theta) with a real multiple m >= 1 (Liu et al., TPAMI 2022, arXiv:2109.05565, hard normalisation).

    version: "v0" folds (-1)^k cos(m theta) - 2k; "v1" stops, cos(min(m theta, pi)); "v2" leaves the target as it is
    and eases the others, cos(theta / m). The paper detaches the margin's gradient (its characteristic gradient
    detachment), so that is the default here. The authors' code weighs the loss by 50 / s, which is left to the
    learning rate.
    """

    scale: float

    def __init__(
        self,
        *,
        scale: Positive = 30.0,
        margin: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.7,
        version: Literal["v0", "v1", "v2"] = "v0",
        gradient: Gradient = "detached",
    ) -> None:
        super().__init__()
        self.scale, self.margin, self.version, self.gradient = scale, margin, version, gradient

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        if self.version == "v2":
            return self.scale * cosine
        angles = self.margin * margins.angle(cosine)
        value = margins.folded(angles) if self.version == "v0" else angles.clamp_max(math.pi).cos()
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        if self.version != "v2":
            return self.scale * cosine
        value = (margins.angle(cosine) / self.margin).cos()
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)

    def plain_scale(self) -> float | None:
        return None if self.version == "v2" else self.scale
