"""DeepID2's verification signal: pairs of a batch, pulled together or pushed apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pdist, relu


def contrastive(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over pairs of d^2 / 2 for one identity and max(0, m - d)^2 / 2 for two (Sun et al. 2014, DeepID2, eq. 2).

    embeddings: (B, D) of any float dtype, taken as they are: DeepID2 measures d on embeddings that are not
    normalised, so the margin is in their units. labels: (B,) int64; -1 takes no part. Returns a scalar in float32
    (float64 stays), 0 but connected to the graph where there is no pair. Added to the identification loss with a
    weight of about 0.05. Under torch.distributed the pairs are those of the rank.
    """
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    known = labels >= 0
    labels = labels[known]
    if len(labels) < 2:
        return embeddings[:0].sum()  # pdist's backward crashes the process on a single row (torch 2.13)
    # Not by |x|^2 + |y|^2 - 2 x.y, which cancels for close pairs; pdist's gradient at d = 0 is 0 instead of NaN.
    distances = pdist(embeddings[known])
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    same = labels[first] == labels[second]
    losses = torch.where(same, distances, relu(margin - distances)).square() / 2
    return losses.mean()
