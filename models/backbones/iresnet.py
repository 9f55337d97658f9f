"""IResNet: the residual networks of ArcFace (Deng et al. 2019, arXiv:1801.07698, section 3.2; units of 1610.02915).

Pre-activation-like units BN-conv-BN-PReLU-conv-BN, a stride-1 stem for 112x112 input, and the embedding
block BN-dropout-FC-BN ("option E").
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.registry import register

_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
_WIDTHS = (64, 128, 256, 512)


class ImprovedUnit(nn.Module):
    """BN-conv3x3-BN-PReLU-conv3x3(stride)-BN, with a strided 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
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
    """depth: 18, 34, 50 or 100. embedding_size: D. dropout: rate before the last linear layer."""

    def __init__(self, depth: int, embedding_size: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units: list[nn.Module] = []
        inputs = 64
        for repeats, width in zip(_DEPTHS[depth], _WIDTHS, strict=True):
            for index in range(repeats):
                units.append(ImprovedUnit(inputs, width, 2 if index == 0 else 1))
                inputs = width
        self.units = nn.Sequential(*units)
        self.head = nn.Sequential(nn.BatchNorm2d(512), nn.Dropout(dropout), nn.Flatten())
        self.embedding = nn.Linear(512 * 7 * 7, embedding_size)
        self.normalisation = nn.BatchNorm1d(embedding_size)
        # A learned scale here would only compete with the head's logit scale.
        nn.init.ones_(self.normalisation.weight)
        self.normalisation.weight.requires_grad = False
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, D), not normalised."""
        y: Tensor = self.head(self.units(self.stem(x)))
        # 25,088 products are summed in one number here: the one layer that half precision would harm.
        with torch.autocast(y.device.type, enabled=False):
            embedding: Tensor = self.normalisation(self.embedding(y.float()))
        return embedding


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.1)


for _depth in _DEPTHS:
    register(f"iresnet{_depth}")(partial(IResNet, _depth))
