"""What ranks exchange inside a head, forward and backward; with one process, nothing.

Inside a head every gradient is the true gradient of the loss over the samples of all ranks. A tensor is either
`own` (a rank's samples or classes) or `common` (the same on every rank, and used alike by each): what leads from
one to the other is here. Only where gradients leave a head, `scale_gradient` turns them into what DDP averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """Ranks in the process group, 1 without one."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's rank, 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@dataclass(frozen=True)
class Batch:
    """How many known samples each rank brings, in the order of ranks."""

    counts: tuple[int, ...]
    rank: int

    @property
    def own(self) -> slice:
        """Where this rank's samples stand among all."""
        first = sum(self.counts[: self.rank])
        return slice(first, first + self.counts[self.rank])


def exchange_counts(labels: Tensor) -> tuple[Batch, int]:
    """(n,) known labels -> the batch of all ranks and the largest label on any, -1 when there is none."""
    largest = labels.max() if len(labels) else labels.new_full((), -1)
    mine = torch.stack([labels.new_full((), len(labels)), largest])
    rows = _all_gather(mine) if world_size() > 1 else [mine]
    found: list[list[int]] = torch.stack(rows).tolist()
    return Batch(tuple(count for count, _ in found), rank()), max(label for _, label in found)


def gather(tensor: Tensor, batch: Batch) -> Tensor:
    """(n, ...) own samples -> (N, ...) of all ranks, used alike by every rank."""
    return tensor if len(batch.counts) == 1 else _Gather.apply(tensor, batch)  # type: ignore[no-untyped-call]


def gather_for_shards(tensor: Tensor, batch: Batch) -> Tensor:
    """(n, ...) own samples -> (N, ...) of all ranks, of which each rank makes another use: for its own classes."""
    if len(batch.counts) == 1:
        return tensor
    return _GatherForShards.apply(tensor, batch)  # type: ignore[no-any-return, no-untyped-call]


def share(tensor: Tensor) -> Tensor:
    """A common tensor, for a use in which ranks differ: on own samples or own classes."""
    if world_size() == 1 or not tensor.requires_grad:
        return tensor
    return _Share.apply(tensor)  # type: ignore[no-any-return, no-untyped-call]


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Own summands -> their sum, common."""
    return tensor if world_size() == 1 else _Sum.apply(tensor)  # type: ignore[no-untyped-call]


def logsumexp_over_ranks(tensor: Tensor) -> Tensor:
    """Own finite log-sum-exps -> that of all ranks, common."""
    return tensor if world_size() == 1 else _LogSumExp.apply(tensor)  # type: ignore[no-untyped-call]


def scale_gradient(tensor: Tensor) -> Tensor:
    """The tensor, its gradient times the number of ranks: the mean over ranks is then the sum of own gradients."""
    return tensor if world_size() == 1 else _ScaleGradient.apply(tensor)  # type: ignore[no-untyped-call]


def _all_gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor)
    return parts


def _gather(tensor: Tensor, batch: Batch) -> Tensor:
    # Collectives want equal shapes: pad to the most that any rank brings.
    parts = _all_gather(_padded(tensor, max(batch.counts)))
    return torch.cat([part[:count] for part, count in zip(parts, batch.counts, strict=True)])


def _padded(tensor: Tensor, rows: int) -> Tensor:
    padded = tensor.new_zeros((rows, *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    return padded


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return _gather(tensor, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.batch.own], None


class _GatherForShards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return _gather(tensor, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        counts = ctx.batch.counts
        parts = [_padded(part, max(counts)) for part in torch.split(gradient, list(counts))]
        own = torch.empty_like(parts[0])
        distributed.reduce_scatter(own, parts)
        return own[: counts[ctx.batch.rank]], None


class _Share(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        largest = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        total = (tensor - largest).exp_()
        distributed.all_reduce(total)
        result = total.log_().add_(largest)
        ctx.save_for_backward((tensor - result).exp_())
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (part,) = ctx.saved_tensors
        result: Tensor = gradient * part
        return result


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * world_size()
