"""Convolution with weights shared only within a region of the map: other parts of a face need other filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LocallySharedConvolution(nn.Module):
    """A valid, stride-1 convolution with its own filters for each region x region block of its output.

    (B, inputs, H, W) -> (B, outputs, H - kernel + 1, W - kernel + 1), which must be `size` (rows, columns), a
    multiple of `region`. region 1 shares nothing: a locally connected layer. Sun et al. CVPR 2014, eq. 1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, size: tuple[int, int], region: int) -> None:
        super().__init__()
        self.kernel, self.region, self.outputs = kernel, region, outputs
        self.rows, self.columns = size[0] // region, size[1] // region
        blocks = self.rows * self.columns
        # One group a block: the blocks' inputs lie side by side in the channels.
        self.filters = nn.Conv2d(blocks * inputs, blocks * outputs, kernel, groups=blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See the class for shapes."""
        span = self.region + self.kernel - 1
        blocks = [
            x[:, :, row * self.region : row * self.region + span, column * self.region : column * self.region + span]
            for row in range(self.rows)
            for column in range(self.columns)
        ]
        filtered: Tensor = self.filters(torch.cat(blocks, dim=1))
        y = filtered.reshape(-1, self.rows, self.columns, self.outputs, self.region, self.region)
        # (B, rows, columns, C, region, region) -> rows beside their region, columns beside theirs
        return y.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
