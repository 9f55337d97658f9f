"""Dilated context: a wider view without more weights or a coarser map."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.depthwise import depthwise


class _DilatedUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        # The unit starts as the identity (Yu & Koltun, section 3), so the network trains as it would without it.
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            depthwise(channels, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y


class DilatedContext(nn.Sequential):
    """Residual 3x3 filters of growing dilation, one after the other (Yu & Koltun 2016, arXiv:1511.07122).

    (B, C, H, W) -> (B, C, H, W). With rates 1, 2, 3 each place sees 13x13 of its neighbours: all of a 7x7 map.
    Depthwise and pointwise, where the paper's filters are dense: a sixth of the weights at 512 channels.
    """

    def __init__(self, channels: int, rates: tuple[int, ...] = (1, 2, 3)) -> None:
        super().__init__(*(_DilatedUnit(channels, rate) for rate in rates))
