"""Vision transformers for 112x112 faces (Dosovitskiy et al. 2021, arXiv:2010.11929), with an embedding head for
aligned faces: no class token, every token's place counts (as InsightFace's ViTs)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.alignment import SIZE
from models.layers.drop_path import DropPath
from models.registry import register

# Width, blocks, heads: ViT-S and ViT-B of Touvron et al. 2021 (arXiv:2012.12877) and the paper's table 1.
_SIZES = {"vit-s": (384, 12, 6), "vit-b": (768, 12, 12)}


class Attention(nn.Module):
    """Multi-head self-attention; torch picks the Flash kernel where there is one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        projected = self.projections(x).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, width / heads)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4).unbind(0)
        attended = scaled_dot_product_attention(queries, keys, values)
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Pre-norm attention, then a four times wider perceptron, both residual."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.perceptron_norm = nn.LayerNorm(width, eps=1e-6)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        x = x + self.drop_path(self.attention(self.attention_norm(x)))
        y: Tensor = x + self.drop_path(self.perceptron(self.perceptron_norm(x)))
        return y


class VisionTransformer(nn.Module):
    """embedding_size: D. patch: side in pixels; 112 // patch tokens a side, pixels beyond the last one are not seen.
    drop_path: stochastic depth of the last block, growing linearly from 0 at the first.

    Of 51 M parameters of ViT-S and 201 M of ViT-B the head's first layer holds tokens * width^2: 29 M and 116 M.
    """

    def __init__(
        self, width: int, depth: int, heads: int, embedding_size: int = 512, patch: int = 8, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        tokens = (SIZE // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, drop_path * index / max(depth - 1, 1)) for index in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.reduction = nn.Sequential(nn.Linear(tokens * width, width, bias=False), nn.BatchNorm1d(width))
        self.embedding = nn.Linear(width, embedding_size, bias=False)
        self.normalisation = nn.BatchNorm1d(embedding_size)
        nn.init.normal_(self.positions, std=0.02)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, D), not normalised."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        tokens = self.norm(self.blocks(tokens))
        # Tens of thousands of products are summed in one number here: not in half precision.
        with torch.autocast(tokens.device.type, enabled=False):
            embedding: Tensor = self.normalisation(self.embedding(self.reduction(tokens.float().flatten(1))))
        return embedding


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


for _name, _size in _SIZES.items():
    register(_name)(partial(VisionTransformer, *_size))
