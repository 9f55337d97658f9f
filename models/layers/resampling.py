"""A region of an image at another size, as two matrix products: differentiable, and the same in every engine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Region(nn.Module):
    """Cuts `box` (top, left, height, width; pixels, may be fractions) out and resamples it to `size` (rows, columns).

    (B, C, H, W) of the image size given -> (B, C, rows, columns). The filter is a triangle as wide as the sampling
    step and at least two pixels, so that shrinking does not alias; edges repeat by renormalisation.
    """

    vertical: Tensor
    horizontal: Tensor

    def __init__(self, box: tuple[float, float, float, float], size: tuple[int, int], image: tuple[int, int]) -> None:
        super().__init__()
        top, left, height, width = box
        self.register_buffer("vertical", _weights(top, height, size[0], image[0]), persistent=False)
        self.register_buffer("horizontal", _weights(left, width, size[1], image[1]).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class for shapes."""
        return self.vertical @ (x @ self.horizontal)


def _weights(start: float, length: float, samples: int, pixels: int) -> Tensor:
    """(samples, pixels) float32: each row sums to 1. Pixel p has its centre at p + 0.5."""
    step = length / samples
    centres = start + (torch.arange(samples, dtype=torch.float64) + 0.5) * step
    distance = (torch.arange(pixels, dtype=torch.float64) + 0.5)[None] - centres[:, None]
    weights = (1 - distance.abs() / max(step, 1.0)).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()
