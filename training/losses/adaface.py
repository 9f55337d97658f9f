"""AdaFace: the margin follows the image's quality, for which the embedding's length stands."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import margins
from training.losses.arguments import Angle, Fraction, Gradient, NonNegative, Positive
from training.losses.objective import Context, Objective

# The authors' guards: of the lengths, and of a deviation of zero.
_SHORTEST, _LONGEST, _EPSILON = 1e-3, 100.0, 1e-3


class AdaFace(Objective):
    """Target s (cos(theta - m z) - m (1 + z)), z = clip(h (norm(x) - mean) / (deviation + eps), -1, 1), detached.

    Kim et al. 2022, arXiv:2204.00964; theta - m z is clipped to [0, pi]. concentration is h; smoothing the
    weight of a batch in the moving averages (0.01: the authors' runs, not their code's default). Buffers mean and
    deviation start at the authors' 20 and 100; a batch of one moves only the mean, as it has no deviation.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        scale: Positive = 64.0,
        margin: Angle = 0.4,
        concentration: NonNegative = 0.333,
        smoothing: Fraction = 0.01,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        self.scale, self.margin, self.concentration = scale, margin, concentration
        self.smoothing, self.gradient = smoothing, gradient
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def context(self, norms: Tensor, target: Tensor) -> Context:
        lengths = norms.detach().clamp(_SHORTEST, _LONGEST)
        if self.training and len(lengths):
            self.mean.lerp_(lengths.mean().to(self.mean.dtype), self.smoothing)
            if len(lengths) > 1:
                self.deviation.lerp_(lengths.std().to(self.deviation.dtype), self.smoothing)
        quality = self.concentration * (lengths - self.mean) / (self.deviation + _EPSILON)
        return {"quality": quality.clamp(-1, 1)}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        quality = context["quality"]
        value = margins.clipped_shift(cosine, -self.margin * quality) - self.margin * (1 + quality)
        return self.scale * margins.pass_gradient(value, cosine, self.gradient)
