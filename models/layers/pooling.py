"""From a feature map to one vector a face."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.depthwise import depthwise


class GlobalDepthwise(nn.Sequential):
    """GDC: a learned weight for each place and channel, then batch norm (Chen et al. 2018, arXiv:1804.07573).

    (B, C, size, size) -> (B, C, 1, 1). Places are told apart, which an average forgets: faces are aligned.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(depthwise(channels, size), nn.BatchNorm2d(channels))


class PyramidPooling(nn.Module):
    """Spatial pyramid pooling: the maxima of n x n bins for each n of `levels` (He et al. 2015, arXiv:1406.4729).

    (B, C, H, W) -> (B, C * bins), whatever H and W. Bin i of n spans rows floor(i H / n) to ceil((i + 1) H / n),
    so bins may overlap by a row and none is empty.
    """

    def __init__(self, levels: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.levels = levels
        self.bins = sum(level * level for level in levels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class for shapes; the levels in order, each row by row with the channels outermost."""
        # By slices, as adaptive pooling of a side that no level divides has no counterpart in ONNX.
        pooled = [_maxima(_maxima(x, 2, level), 3, level).flatten(1) for level in self.levels]
        return torch.cat(pooled, dim=1)


def _maxima(x: Tensor, dimension: int, bins: int) -> Tensor:
    """The maxima of `bins` stretches of one dimension, which becomes `bins` long."""
    size = x.shape[dimension]
    strips = []
    for index in range(bins):
        start, end = index * size // bins, ((index + 1) * size + bins - 1) // bins
        strip = x[:, :, start:end] if dimension == 2 else x[:, :, :, start:end]
        strips.append(strip.amax(dim=dimension))
    return torch.stack(strips, dim=dimension)
