"""Anchor-free face detector: heat maps of face centres, with boxes and landmarks regressed at each place.

Seeds: CenterNet (Zhou et al. 2019, "Objects as Points") for the heat map, FPN (Lin et al. 2017) for the
scales, MobileNet (Howard et al. 2017) for the separable convolutions, SPP (He et al. 2015) for context.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.detector.decode import CHANNELS
from models.layers.context import SpatialPyramidPooling
from models.layers.separable import SeparableBlock, convolution
from models.registry import register

PRIOR = 0.01  # share of places that hold a face before anything is learnt; keeps the first loss small


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Halve the resolution, then `blocks` residual blocks."""
    return nn.Sequential(
        SeparableBlock(inputs, outputs, stride=2), *(SeparableBlock(outputs, outputs) for _ in range(blocks))
    )


class Head(nn.Module):
    """One pyramid level (B, C, H, W) -> (B, 15, H, W): heat logit, 2 offsets, 2 log sizes, 10 landmarks."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(*(SeparableBlock(channels, channels) for _ in range(blocks)))
        self.predict = nn.Conv2d(channels, CHANNELS, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        bias = torch.zeros(CHANNELS)
        bias[0] = -math.log((1 - PRIOR) / PRIOR)
        self.predict.bias = nn.Parameter(bias)

    def forward(self, features: Tensor) -> Tensor:
        """Regress every place of the level; the heat channel becomes a probability in decoding."""
        maps: Tensor = self.predict(self.tower(features))
        return maps


@register("centreface-fpn")
class CentreFace(nn.Module):
    """Whole image in, three maps out, at strides 8, 16 and 32.

    forward: (B, 3, H, W) float, RGB as (x - 127.5) / 127.5, H and W multiples of 32 ->
    tuple of (B, 15, H/8, W/8), (B, 15, H/16, W/16), (B, 15, H/32, W/32); `models.detector.decode` tells
    what the channels mean. stem: channels at stride 4; widths and blocks: channels and residual blocks at
    strides 8, 16, 32; pyramid: channels of the feature pyramid; towers: residual blocks of the heads at these
    strides; stem_kernel: side of the first convolution's filters, odd. Two dense convolutions lead straight to
    stride 8: layers at strides 2 and 4 took more than half of a training step.
    """

    def __init__(
        self,
        stem: int = 32,
        widths: Sequence[int] = (64, 128, 224),
        blocks: Sequence[int] = (4, 6, 3),
        pyramid: int = 64,
        towers: Sequence[int] = (2, 2, 2),
        stem_kernel: int = 7,
    ) -> None:
        super().__init__()
        self.stem = convolution(3, stem, kernel=stem_kernel, stride=4)
        self.stage8 = nn.Sequential(
            convolution(stem, widths[0], stride=2), *(SeparableBlock(widths[0], widths[0]) for _ in range(blocks[0]))
        )
        self.stage16 = _stage(widths[0], widths[1], blocks[1])
        self.stage32 = _stage(widths[1], widths[2], blocks[2])
        self.context = SpatialPyramidPooling(widths[2])
        self.lateral = nn.ModuleList(convolution(width, pyramid, kernel=1) for width in widths)
        self.smooth = nn.ModuleList(SeparableBlock(pyramid, pyramid) for _ in range(2))
        self.heads = nn.ModuleList(Head(pyramid, tower) for tower in towers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Regress the three levels of a batch; see the class for shapes."""
        fine = self.stage8(self.stem(images))
        middle = self.stage16(fine)
        coarse = self.lateral[2](self.context(self.stage32(middle)))
        middle = self.smooth[1](self.lateral[1](middle) + interpolate(coarse, scale_factor=2.0))
        fine = self.smooth[0](self.lateral[0](fine) + interpolate(middle, scale_factor=2.0))
        return self.heads[0](fine), self.heads[1](middle), self.heads[2](coarse)
