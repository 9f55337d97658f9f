"""Dense heads: every class centre on every rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CosineHead(nn.Module):
    """Cosines between embeddings and class centres, both scaled to unit length."""

    def __init__(self, embedding_size: int, classes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C) in [-1, 1], float32: half precision would cost up to half a logit at s = 64."""
        with torch.autocast(embeddings.device.type, enabled=False):
            unit_embeddings = functional.normalize(embeddings.to(self.centres.dtype), dim=1)
            return functional.linear(unit_embeddings, functional.normalize(self.centres, dim=1))


class LinearHead(nn.Linear):
    """Plain softmax logits w.x + b, as in DeepID (Sun et al. 2014): no normalisation, so no margin."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, D) -> (B, C) float32 logits."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return super().forward(embeddings.to(self.weight.dtype))
