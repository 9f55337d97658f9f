"""Wide context at the coarsest level: pooled pyramids and dilated filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.separable import convolution


class SpatialPyramidPooling(nn.Module):
    """Three chained 5x5 max poolings, concatenated with their input and mixed down.

    The chain sees 5, 9 and 13 cells around each place, which spatial pyramid pooling (He et al. 2015)
    takes in parallel; chained it costs a third (as in YOLOv5's SPPF). (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.reduce = convolution(channels, hidden, kernel=1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.mix = convolution(4 * hidden, channels, kernel=1)

    def forward(self, features: Tensor) -> Tensor:
        """Mix each place with the strongest answers of growing neighbourhoods."""
        pooled = [self.reduce(features)]
        for _ in range(3):
            pooled.append(self.pool(pooled[-1]))
        mixed: Tensor = self.mix(torch.cat(pooled, dim=1))
        return mixed
