"""DeepID: the small ConvNets of Sun et al., "Deep Learning Face Representation from Predicting 10,000 Classes"
(CVPR 2014), of one face region or of many.

The paper crops its own regions out of photos; here they come out of the aligned 112x112 crop, resampled to the
paper's 39x31 (rectangles) and 31x31 (squares) within the network.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models.alignment import SIZE, TEMPLATE
from models.layers.local import LocallySharedConvolution
from models.layers.resampling import Region
from models.registry import register

Patches = Literal["whole", "ten", "thirty"]
Box = tuple[float, float, float, float]

_RECTANGLE, _SQUARE = (39, 31), (31, 31)
_SCALES = (1.0, 0.8, 0.6)
# Boxes are top, left, height, width in the crop. The paper draws its ten regions but gives no coordinates: five
# rectangles over the whole face and its upper, lower, left and right part, five squares around the landmarks.
_WHOLE: Box = (0.0, 11.5, 112.0, 89.0)
_PARTS: tuple[Box, ...] = (
    (0.0, 22.5, 84.0, 67.0),
    (28.0, 22.5, 84.0, 67.0),
    (14.0, 0, 84.0, 67.0),
    (14.0, 45.0, 84.0, 67.0),
)
_LANDMARK_SIDE = 52.0


class ConvNet(nn.Module):
    """Four convolutions, three of them max-pooled; the features see the third and the fourth (figure 2).

    rows, columns: the input, 39x31 or 31x31 RGB. features: 160 in the paper. Filters are shared over the map in the
    first two layers, within 2x2 regions in the third, and not at all in the fourth (section 3.1). No batch norm.
    """

    def __init__(self, rows: int, columns: int, features: int) -> None:
        super().__init__()
        height, width = [((side - 3) // 2 - 2) // 2 - 2 for side in (rows, columns)]  # of the third layer's maps
        self.first = nn.Sequential(nn.Conv2d(3, 20, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(20, 40, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.third = nn.Sequential(
            LocallySharedConvolution(40, 60, 3, (height, width), region=2), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        height, width = height // 2, width // 2
        self.fourth = nn.Sequential(
            LocallySharedConvolution(60, 80, 2, (height - 1, width - 1), region=1), nn.ReLU(inplace=True)
        )
        self.features = nn.Linear(60 * height * width + 80 * (height - 1) * (width - 1), features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, rows, columns) -> (B, features), not negative (eq. 2)."""
        third = self.third(self.second(self.first(x)))
        both = torch.cat([third.flatten(1), self.fourth(third).flatten(1)], dim=1)
        features: Tensor = self.features(both)
        return features.relu()


@register("deepid")
class DeepID(nn.Module):
    """One ConvNet a patch, side by side.

    patches: "whole" face; "ten" regions (five of the face, five around the landmarks); "thirty": these at three
    scales, the paper's 60 patches without their grey twins. embedding_size: D in all, shared equally among the
    patches: 160 each, as published, are 160, 1600 and 4800. Raises ValueError when they do not divide it.
    """

    def __init__(self, embedding_size: int = 160, patches: Patches = "whole") -> None:
        super().__init__()
        regions = _regions(patches)
        features, rest = divmod(embedding_size, len(regions))
        if rest or not features:
            raise ValueError(f"deepid: {len(regions)} patches cannot share {embedding_size} dimensions equally")
        self.regions = nn.ModuleList(Region(box, size, (SIZE, SIZE)) for box, size in regions)
        self.convnets = nn.ModuleList(ConvNet(*size, features) for _, size in regions)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, D), not normalised and not negative."""
        parts = [convnet(region(x)) for region, convnet in zip(self.regions, self.convnets, strict=True)]
        return torch.cat(parts, dim=1)


def _regions(patches: Patches) -> list[tuple[Box, tuple[int, int]]]:
    """The boxes of a choice of patches, each with the size its ConvNet sees."""
    half = _LANDMARK_SIDE / 2
    squares = [(float(y) - half, float(x) - half, 2 * half, 2 * half) for x, y in TEMPLATE]
    ten = [(box, _RECTANGLE) for box in (_WHOLE, *_PARTS)] + [(box, _SQUARE) for box in squares]
    match patches:
        case "whole":
            return ten[:1]
        case "ten":
            return [(_within(box, 1.0), size) for box, size in ten]
        case "thirty":
            return [(_within(box, scale), size) for scale in _SCALES for box, size in ten]
    raise ValueError(f"deepid: unknown patches {patches!r}; known: whole, ten, thirty")


def _within(box: Box, scale: float) -> Box:
    """The box scaled about its centre, then moved into the crop."""
    top, left, height, width = box
    top, left = top + height * (1 - scale) / 2, left + width * (1 - scale) / 2
    height, width = height * scale, width * scale
    return min(max(top, 0.0), SIZE - height), min(max(left, 0.0), SIZE - width), height, width


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
