"""Attention over channels and places: what a convolutional unit found is weighed by what the whole map shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
"""The bottleneck's share of the channels, the default of both papers."""


def _bottleneck(channels: int) -> nn.Sequential:
    hidden = channels // REDUCTION
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1, bias=False),
    )


class SqueezeExcitation(nn.Module):
    """Weighs each channel by a gate computed from all channels' means (Hu et al. 2018, arXiv:1709.01507, eq. 2-4).

    x * sigmoid(W2 relu(W1 mean(x))), without biases as in the face networks that use it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = _bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate: Tensor = self.gate(x.mean(dim=(2, 3), keepdim=True))
        return x * gate.sigmoid()


class ChannelAttention(nn.Module):
    """One bottleneck judges the means and the maxima of the channels (Woo et al. 2018, arXiv:1807.06521, eq. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = _bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate: Tensor = self.gate(x.mean(dim=(2, 3), keepdim=True)) + self.gate(x.amax(dim=(2, 3), keepdim=True))
        return x * gate.sigmoid()


class SpatialAttention(nn.Module):
    """A 7x7 filter over the mean and the maximum across channels weighs each place (Woo et al. 2018, eq. 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        gate: Tensor = self.filter(summary)
        return x * gate.sigmoid()


class BlockAttention(nn.Sequential):
    """CBAM: channels first, then places (Woo et al. 2018, section 3). (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(ChannelAttention(channels), SpatialAttention())
