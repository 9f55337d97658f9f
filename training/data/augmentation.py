"""Batch augmentation on the training device: what photos of the same face differ by.

Every function takes and gives (B, 3, H, W) float RGB in [-1, 1], and draws from torch's default generator,
which the engine seeds by step, so that a resumed run sees the same views.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

_Probability = Field(0.0, ge=0, le=1)


class AugmentationConfig(BaseModel):
    """Probability of each change an image, and its strength. All zero: views are left as they are."""

    model_config = ConfigDict(extra="forbid")

    flip: float = Field(0.5, ge=0, le=1, description="mirror image")
    affine: float = Field(0.0, ge=0, le=1, description="small rotation, scale and shift")
    rotation: float = Field(8.0, ge=0, description="largest rotation, degrees")
    scaling: float = Field(0.08, ge=0, lt=1, description="largest relative change of scale")
    shift: float = Field(0.04, ge=0, lt=1, description="largest shift, as a share of the side")
    colour: float = Field(0.0, ge=0, le=1, description="brightness, contrast, saturation")
    grey: float = Field(0.0, ge=0, le=1, description="drop the colour")
    low_resolution: float = Field(0.0, ge=0, le=1, description="shrink to 20-60% and back")
    blur: float = Field(0.0, ge=0, le=1, description="Gaussian blur")
    jpeg: float = Field(0.0, ge=0, le=1, description="quantisation of 8x8 cosine blocks")
    border: float = Field(0.0, ge=0, le=1, description="blank a frame of random width, grey or black")
    erase: float = Field(0.0, ge=0, le=1, description="fill a random rectangle")


def augment(images: Tensor, config: AugmentationConfig) -> Tensor:
    """One random view of each image."""
    images = geometry(images, config)
    if config.colour or config.grey:
        images = colour(images, config.colour, config.grey)
    images = _on_some(images, config.low_resolution, low_resolution)
    images = _on_some(images, config.blur, blur)
    images = _on_some(images, config.jpeg, jpeg)
    images = _on_some(images, config.border, border)
    images = _on_some(images, config.erase, erase)
    return images.clamp(-1, 1)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.empty(count, device=device).uniform_(low, high)


def _chosen(count: int, probability: float, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) < probability


def _on_some(images: Tensor, probability: float, change) -> Tensor:  # type: ignore[no-untyped-def]
    if probability == 0:
        return images
    index = _chosen(len(images), probability, images.device).nonzero().squeeze(1)
    if len(index):
        images = images.index_copy(0, index, change(images[index]))
    return images


def geometry(images: Tensor, config: AugmentationConfig) -> Tensor:
    """Flip, rotation, scale and shift in one resampling; images that only flip are not resampled."""
    count, device = len(images), images.device
    flipped = _chosen(count, config.flip, device)
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)

    def warp(chosen: Tensor) -> Tensor:
        n = len(chosen)
        angle = _uniform(n, -config.rotation, config.rotation, device) * (math.pi / 180)
        size = 1 + _uniform(n, -config.scaling, config.scaling, device)
        theta = torch.zeros(n, 2, 3, device=device)
        theta[:, 0, 0] = theta[:, 1, 1] = size * angle.cos()
        theta[:, 0, 1], theta[:, 1, 0] = -size * angle.sin(), size * angle.sin()
        theta[:, :, 2] = _uniform(2 * n, -2 * config.shift, 2 * config.shift, device).view(n, 2)
        grid = functional.affine_grid(theta, list(chosen.shape), align_corners=False)
        # +1, -1: outside is black, as alignment leaves it.
        return functional.grid_sample(chosen + 1, grid, mode="bilinear", align_corners=False) - 1

    return _on_some(images, config.affine, warp)


def colour(images: Tensor, probability: float, grey: float) -> Tensor:
    """Brightness +-0.3, contrast x0.6-1.4, saturation x0.3-1.5 with `probability`; greyscale with `grey`."""
    count, device = len(images), images.device
    on = _chosen(count, probability, device).float()

    def factor(low: float, high: float) -> Tensor:
        return (1 + on * (_uniform(count, low, high, device) - 1)).view(-1, 1, 1, 1)

    saturation = factor(0.3, 1.5)
    saturation[_chosen(count, grey, device)] = 0
    weights = torch.tensor([0.299, 0.587, 0.114], device=device).view(1, 3, 1, 1)
    luma = (images * weights).sum(1, keepdim=True)
    images = luma + (images - luma) * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor(0.6, 1.4)
    return images + (on * _uniform(count, -0.3, 0.3, device)).view(-1, 1, 1, 1)


def low_resolution(images: Tensor) -> Tensor:
    """Shrink all of a group to one random 20-60% of the side by area, and enlarge again."""
    height, width = images.shape[2:]
    share = float(torch.empty(1).uniform_(0.2, 0.6))
    small = functional.interpolate(images, (max(int(height * share), 8), max(int(width * share), 8)), mode="area")
    return functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)


def blur(images: Tensor) -> Tensor:
    """Separable Gaussian with one random sigma of 0.5-2 pixels a group."""
    sigma = float(torch.empty(1).uniform_(0.5, 2.0))
    offsets = torch.arange(-4, 5, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(images, (4, 4, 4, 4), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def jpeg(images: Tensor) -> Tensor:
    """Round the cosine coefficients of 8x8 blocks to a step that grows with frequency, strength by image.

    The sides must be multiples of 8. The steps follow the slope of JPEG's luminance table (ITU T.81, annex K).
    """
    count, channels, height, width = images.shape
    position = torch.arange(8, device=images.device, dtype=images.dtype)
    basis = torch.cos((2 * position[None] + 1) * position[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    blocks = images.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    step = (8 + 6 * (position[:, None] + position[None])) / 127.5
    strength = _uniform(count, 0.5, 3.0, images.device).view(-1, 1, 1, 1, 1, 1)
    rounded = torch.round(coefficients / (step * strength)) * (step * strength)
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(images.shape)


def border(images: Tensor) -> Tensor:
    """Blank a margin of up to 18% on each side with one grey level or black: tight crops have such frames."""
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device)[None] / height
    columns = torch.arange(width, device=device)[None] / width
    top, bottom, left, right = (_uniform(count, -0.06, 0.18, device)[:, None] for _ in range(4))
    keep = ((rows >= top) & (rows < 1 - bottom))[:, :, None] & ((columns >= left) & (columns < 1 - right))[:, None]
    level = _uniform(count, -1, 1, device).where(_chosen(count, 0.5, device), -torch.ones((), device=device))
    return torch.where(keep[:, None], images, level.view(-1, 1, 1, 1))


def erase(images: Tensor) -> Tensor:
    """Fill one rectangle of 2-20% of the area with a random colour (random erasing, arXiv:1708.04896)."""
    count, _, height, width = images.shape
    device = images.device
    area, ratio = _uniform(count, 0.02, 0.2, device), torch.exp(_uniform(count, -0.7, 0.7, device))
    tall, wide = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    top, left = torch.rand(count, device=device) * (1 - tall), torch.rand(count, device=device) * (1 - wide)
    rows = torch.arange(height, device=device)[None] / height
    columns = torch.arange(width, device=device)[None] / width
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    inside = (in_rows[:, :, None] & in_columns[:, None])[:, None]
    return torch.where(inside, _uniform(3 * count, -1, 1, device).view(count, 3, 1, 1), images)
