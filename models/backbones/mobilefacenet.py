"""MobileFaceNet (Chen et al. 2018, arXiv:1804.07573, table 1): inverted residuals and a global depthwise pool."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models.layers.depthwise import depthwise
from models.layers.pooling import GlobalDepthwise, PyramidPooling
from models.registry import register

Activation = Literal["prelu", "relu"]
Pooling = Literal["gdc", "spp"]

# Table 1: expansion factor, output channels, repeats, stride of the first block.
_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)]


def _depthwise(channels: int, kernel: int, *, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    return [depthwise(channels, kernel, stride=stride, padding=padding), nn.BatchNorm2d(channels)]


def _activation(name: Activation, channels: int) -> nn.Module:
    match name:
        case "prelu":
            return nn.PReLU(channels)
        case "relu":
            return nn.ReLU(inplace=True)
    raise ValueError(f"unknown activation {name!r}; known: prelu, relu")


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 expansion, 3x3 depthwise, 1x1 linear projection; added to its input at stride 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, activation: Activation) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *_convolution(inputs, inner, 1),
            _activation(activation, inner),
            *_depthwise(inner, 3, stride=stride, padding=1),
            _activation(activation, inner),
            *_convolution(inner, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


@register("mobilefacenet")
class MobileFaceNet(nn.Module):
    """About 1.2 M parameters at 512-d and 0.22 G multiply-adds.

    embedding_size: D. activation: "prelu" as in the paper, or "relu", which trains at twice the speed
    on a CPU and runs faster in every CPU engine. pooling: "gdc" as in the paper (112x112 input), or "spp", which
    takes input of any size.
    """

    def __init__(self, embedding_size: int = 512, activation: Activation = "prelu", pooling: Pooling = "gdc") -> None:
        super().__init__()
        layers = [
            *_convolution(3, 64, 3, stride=2, padding=1),
            _activation(activation, 64),
            *_depthwise(64, 3, padding=1),
            _activation(activation, 64),
        ]
        channels = 64
        for expansion, outputs, repeats, stride in _STAGES:
            for index in range(repeats):
                layers.append(Bottleneck(channels, outputs, stride if index == 0 else 1, expansion, activation))
                channels = outputs
        layers += [*_convolution(channels, 512, 1), _activation(activation, 512)]
        self.features = nn.Sequential(*layers)
        self.pool, features = _pooling(pooling)
        self.embedding = nn.Linear(features, embedding_size, bias=False)
        self.normalisation = nn.BatchNorm1d(embedding_size)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112), or any size with "spp" -> (B, D), not normalised."""
        y = torch.flatten(self.pool(self.features(x)), 1)
        embedding: Tensor = self.normalisation(self.embedding(y))
        return embedding


def _pooling(name: Pooling) -> tuple[nn.Module, int]:
    """A layer from (B, 512, H, W) to the features of a face, and their number."""
    match name:
        case "gdc":
            return GlobalDepthwise(512, 7), 512
        case "spp":
            pyramid = PyramidPooling()
            return pyramid, 512 * pyramid.bins
    raise ValueError(f"unknown pooling {name!r}; known: gdc, spp")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
