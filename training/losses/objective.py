"""What an objective declares, so that every head can compute its loss without knowing which one it is.

A head knows embeddings and class centres; it computes cosines, and reduces over the classes that are not the
target. An objective says what becomes of the target's cosine, of the others', and how both make a loss:

    loss_i = combine(target(c_iy), reduce over j != y of others(c_ij))

where reduce is a log-sum-exp ("softmax") or a sum of softplus ("binary"). `others` works element by element, so
a head may compute it in tiles of classes, on shards, or on a sample of classes, and forget the tile again.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

Context = dict[str, Tensor]
"""What holds for a sample whatever the class, each (B,), or 0-dimensional where it holds for the batch."""


class Objective(nn.Module):
    """Base of all objectives. Its buffers are saved with the run.

    Attributes: scale: the logit scale s, of those that have one. reduction: see the module. unit_centres: whether
    centres are scaled to unit length; if not, the head multiplies every logit by the length of its centre.
    centres_per_class: sub-centres K; the head takes the largest of a class's K cosines. gradient is exact unless an
    objective says otherwise.
    """

    reduction: ClassVar[Literal["softmax", "binary"]] = "softmax"
    unit_centres: ClassVar[bool] = True
    centres_per_class: int = 1
    scale: float | Tensor

    def context(self, norms: Tensor, target: Tensor) -> Context:
        """Called once a step, on every rank alike, with the known samples of all ranks.

        norms: (B,) lengths of the embeddings; target: (B,) cosines to their own centres; float32 or float64, with
        gradients. State changes here, and only while training. Entries may carry a gradient.
        """
        return {}

    def target(self, cosine: Tensor, context: Context) -> Tensor:
        """(B,) cosines to the own centre -> (B,) logits."""
        raise NotImplementedError

    def others(self, cosine: Tensor, context: Context) -> Tensor:
        """(B, C) cosines to other centres -> (B, C) logits, element by element; context entries are (B, 1) or ().

        By default s c: a margin concerns the own class alone.
        """
        return self.scale * cosine

    def plain_scale(self) -> float | None:
        """s where `others` is s c with a constant s, so that a fixed kernel may serve; else None."""
        return float(self.scale) if type(self).others is Objective.others else None

    def combine(self, target: Tensor, others: Tensor) -> Tensor:
        """(B,) target logits and (B,) reductions over the others -> (B,) losses.

        For softmax -log(exp(t) / (exp(t) + exp(o))) = softplus(o - t), without cancellation.
        """
        return softplus(others - target)

    def penalty(self, norms: Tensor) -> Tensor:
        """A further loss of the (B,) lengths of the embeddings: a scalar, 0 unless the objective has one."""
        return norms.new_zeros(())

    def observe(self, others: Tensor) -> None:
        """Called after `context` while training with the (B,) reductions of all ranks, detached."""


def reduce(logits: Tensor, reduction: Literal["softmax", "binary"]) -> Tensor:
    """(B, C) logits of the other classes -> (B,); -inf marks a class that does not count."""
    return torch.logsumexp(logits, dim=1) if reduction == "softmax" else softplus(logits).sum(dim=1)
