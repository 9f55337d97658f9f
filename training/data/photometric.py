"""Changes of light, colour and sharpness on whole batches, on the device that trains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


@torch.no_grad()
def photometric(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 RGB -> float32 as (x - 127.5) / 127.5 after random changes of each image.

    Contrast, brightness and channel gains for all; grey, noise, half and quarter resolution for a tenth
    each. H and W are multiples of 4; the memory format stays.
    """
    x = images.float().sub_(127.5).div_(127.5)
    count, device = len(x), x.device
    gain = torch.empty(count, 3, 1, 1, device=device).uniform_(0.9, 1.1)
    gain *= torch.empty(count, 1, 1, 1, device=device).uniform_(0.6, 1.4)
    shift = torch.empty(count, 1, 1, 1, device=device).uniform_(-0.3, 0.3)
    x.mul_(gain).add_(shift)
    grey, choice = torch.rand(2, count, device=device)
    _change(x, grey < 0.1, lambda part: part.mean(dim=1, keepdim=True).expand_as(part))
    _change(x, choice < 0.1, lambda part: part + 0.3 * (torch.rand_like(part) - 0.5))
    _change(x, (choice >= 0.1) & (choice < 0.2), lambda part: _coarse(part, 2))
    _change(x, (choice >= 0.2) & (choice < 0.3), lambda part: _coarse(part, 4))
    return x.clamp_(-1, 1)


def _change(x: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Put the changed images in the place of the chosen ones."""
    where = chosen.nonzero().flatten()
    if len(where):
        x[where] = change(x[where])


def _coarse(part: Tensor, factor: int) -> Tensor:
    """A lower resolution and back."""
    return interpolate(avg_pool2d(part, factor), scale_factor=float(factor), mode="bilinear")
