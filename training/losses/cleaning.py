"""After Sub-center ArcFace: which centre of a class is its own, and which samples are noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Cleaning:
    """dominant: (C,) int64, the sub-centre with most samples (0 for a class without any); centres: (C, D), those
    sub-centres of unit length; keep: (N,) bool."""

    dominant: Tensor
    centres: Tensor
    keep: Tensor


@torch.no_grad()
def clean(
    embeddings: Tensor,
    labels: Tensor,
    sub_centres: Tensor,
    degrees: float = 75.0,
    minor: Literal["drop", "keep"] = "drop",
) -> Cleaning:
    """Drop minor sub-centres and noisy samples (Deng et al., ECCV 2020, "Sub-center ArcFace").

    embeddings: (N, D); labels: (N,) int64 in [0, C); sub_centres: (C, K, D), all of any length. A sample goes when it
    is more than `degrees` from its class's dominant sub-centre. minor: what becomes of a sample within that angle that
    lies nearer to another sub-centre of its class. "drop" takes a minor sub-centre for noise as a whole; "keep" is
    the paper's own recipe, which keeps its hard samples.
    """
    classes, count, _ = sub_centres.shape
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must lie in [0, {classes}), not [{int(labels.min())}, {int(labels.max())}]")
    unit = normalize(sub_centres, dim=2)
    # (N, K), without the (N, K, D) that unit[labels] would be.
    samples = normalize(embeddings, dim=1)
    cosines = torch.stack([(samples * unit[labels, k]).sum(dim=1) for k in range(count)], dim=1)
    nearest = cosines.argmax(dim=1)
    votes = torch.bincount(labels * count + nearest, minlength=classes * count).view(classes, count)
    dominant = votes.argmax(dim=1)
    own = dominant[labels]
    keep = cosines.gather(1, own[:, None])[:, 0] >= math.cos(math.radians(degrees))
    if minor == "drop":
        keep &= nearest == own
    return Cleaning(dominant, unit[torch.arange(classes, device=unit.device), dominant], keep)
