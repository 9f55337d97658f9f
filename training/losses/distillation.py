"""Distillation: a student's embedding space learns from a teacher's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def embedding_regression(projected: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cos(projected, teacher) over rows: (B, T), (B, T) -> scalar in [0, 2]."""
    return (1 - functional.cosine_similarity(projected.float(), teacher.float(), dim=1)).mean()


def relation_regression(embeddings: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two batches' cosine matrices, off the diagonal: (B, D), (B, T) -> scalar.

    It ties the student's own similarities, not only those of a projection of it, to the teacher's
    (similarity-preserving distillation, Tung and Mori 2019, arXiv:1907.09682, on cosines). A batch of one
    has no pair and gives 0.
    """
    student = functional.normalize(embeddings.float(), dim=1)
    reference = functional.normalize(teacher.float(), dim=1)
    difference = (student @ student.T - reference @ reference.T).square()
    off_diagonal = ~torch.eye(len(difference), dtype=torch.bool, device=difference.device)
    return difference[off_diagonal].sum() / max(int(off_diagonal.sum()), 1)


def spread(map: Tensor) -> Tensor:
    """The mean variance of a map's channels over batch and places: (B, C, h, w) -> scalar > 0."""
    return map.float().var(dim=(0, 2, 3), correction=0).mean().clamp(min=1e-6)


def unexplained(map: Tensor, teacher: Tensor, spread: Tensor) -> Tensor:
    """The share of a teacher's map that a map of the same shape (B, C, h, w) does not tell -> scalar >= 0.

    The mean squared difference over the spread of the teacher's; 1 is what the means of its channels alone would give.
    """
    return functional.mse_loss(map.float(), teacher.float()) / spread
