"""IResNet: the residual networks of ArcFace (Deng et al. 2019, arXiv:1801.07698, section 3.2; units of 1610.02915).

Pre-activation-like units BN-conv-BN-PReLU-conv-BN, a stride-1 stem for 112x112 input, and the embedding
block BN-dropout-FC-BN ("option E"). Variants weigh each unit's branch by attention (SE, CBAM).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from models.layers.attention import BlockAttention, SqueezeExcitation
from models.layers.dilated import DilatedContext
from models.layers.pooling import GlobalDepthwise, PyramidPooling
from models.registry import register

Attention = Literal["none", "se", "cbam"]
Pooling = Literal["flatten", "gdc", "spp"]
Context = Literal["none", "dilated"]

# Units in each of the four stages; 152 is InsightFace's older definition, the others those of arcface_torch.
_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    152: (3, 8, 36, 3),
    200: (6, 26, 60, 6),
}
_WIDTHS = (64, 128, 256, 512)


class ImprovedUnit(nn.Module):
    """BN-conv3x3-BN-PReLU-conv3x3(stride)-BN-attention, with a strided 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, attention: Attention = "none") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            *_attention(attention, outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        shortcut: Tensor = self.shortcut(x)
        return y + shortcut


class IResNet(nn.Module):
    """depth: 18 to 200, see the table. attention: none, "se" or "cbam", in every unit.

    embedding_size: D. dropout: rate before the last linear layer. pooling: "flatten" as published (112x112 input);
    "gdc" learns one weight a place and channel (112x112 input, 24 M parameters less at 512-d); "spp" takes input
    of any size. context: "dilated" appends filters of growing dilation to the last stage.
    """

    def __init__(
        self,
        depth: int,
        attention: Attention,
        embedding_size: int = 512,
        dropout: float = 0.0,
        pooling: Pooling = "flatten",
        context: Context = "none",
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units: list[nn.Module] = []
        inputs = 64
        for repeats, width in zip(_DEPTHS[depth], _WIDTHS, strict=True):
            for index in range(repeats):
                units.append(ImprovedUnit(inputs, width, 2 if index == 0 else 1, attention))
                inputs = width
        self.units = nn.Sequential(*units)
        self.context = _context(context)
        pool, features = _pooling(pooling)
        self.head = nn.Sequential(nn.BatchNorm2d(512), nn.Dropout(dropout), *pool)
        self.embedding = nn.Linear(features, embedding_size)
        self.normalisation = nn.BatchNorm1d(embedding_size)
        # A learned scale here would only compete with the head's logit scale.
        nn.init.ones_(self.normalisation.weight)
        self.normalisation.weight.requires_grad = False
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), or any size with "spp" -> (B, D), not normalised."""
        y: Tensor = self.head(self.context(self.units(self.stem(x))))
        # 25,088 products are summed in one number here: the one layer that half precision would harm.
        with torch.autocast(y.device.type, enabled=False):
            embedding: Tensor = self.normalisation(self.embedding(y.float()))
        return embedding


def _attention(name: Attention, channels: int) -> list[nn.Module]:
    match name:
        case "none":
            return []
        case "se":
            return [SqueezeExcitation(channels)]
        case "cbam":
            return [BlockAttention(channels)]


def _pooling(name: Pooling) -> tuple[list[nn.Module], int]:
    """Layers from (B, 512, H, W) to (B, features), and features."""
    match name:
        case "flatten":
            return [nn.Flatten()], 512 * 7 * 7
        case "gdc":
            return [GlobalDepthwise(512, 7), nn.Flatten()], 512
        case "spp":
            pyramid = PyramidPooling()
            return [pyramid], 512 * pyramid.bins
    raise ValueError(f"iresnet: unknown pooling {name!r}; known: flatten, gdc, spp")


def _context(name: Context) -> nn.Module:
    match name:
        case "none":
            return nn.Identity()
        case "dilated":
            return DilatedContext(512)
    raise ValueError(f"iresnet: unknown context {name!r}; known: none, dilated")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.1)


for _depth in _DEPTHS:
    register(f"iresnet{_depth}")(partial(IResNet, _depth, "none"))
    register(f"iresnet{_depth}-se")(partial(IResNet, _depth, "se"))
    register(f"iresnet{_depth}-cbam")(partial(IResNet, _depth, "cbam"))
