"""Depthwise-separable convolution: a filter per channel, then a mix of channels at each place."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.depthwise import depthwise


class SeparableBlock(nn.Module):
    """3x3 depthwise, then 1x1 pointwise convolution, each with batch norm and ReLU (MobileNet, 2017).

    (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride)). Where the shape stays the
    same the input is added before the last ReLU, which lets stacks of blocks train deeper.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = depthwise(inputs, 3, stride=stride, padding=dilation, dilation=dilation)
        self.depthwise_norm = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU(inplace=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block; see the class for shapes."""
        filtered = self.activation(self.depthwise_norm(self.depthwise(features)))
        mixed = self.pointwise_norm(self.pointwise(filtered))
        result: Tensor = self.activation(features + mixed if self.residual else mixed)
        return result


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Dense convolution, batch norm, ReLU; same padding for odd kernels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
