"""Depthwise convolution that trains at full speed on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with stride > 1, computed in float32 on a CPU even under bf16 autocast.

    oneDNN has no optimised backward kernel for it in bf16: the three of a MobileFaceNet took three quarters of
    a training step (64 images of 56x56x128: 568 ms in bf16, 243 ms in float32; 14x14x512: 251 and 13 ms).
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride)."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def depthwise(channels: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    """A bias-free convolution with one filter a channel, in the class that is fastest to train."""
    kind = nn.Conv2d if stride == 1 else StridedDepthwise
    return kind(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
