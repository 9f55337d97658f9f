"""Fused head: class-sharded, and the logits never exist whole, only those of a chunk of classes at a time.

Forward: a running log-sum-exp (or sum of softplus) over chunks, the own class masked. Backward: each chunk's logits
anew. Besides centres and their gradient, memory holds one chunk: after the linear cross-entropies of Liger
(arXiv:2410.10989) and CCE (arXiv:2411.09009), which know neither normalisation nor margin, and after
online softmax (arXiv:1805.02867). Costs a fourth matrix product where the dense head has three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.heads.collectives import Batch
from training.heads.head import (
    Comparison,
    Head,
    Settings,
    UnsupportedHead,
    class_logits,
    compare_targets,
    lowest,
)
from training.heads.sharded import Gathered, reduce_over_ranks, spread
from training.heads.unit import unit_rows, unit_rows_backward
from training.losses.objective import Objective, reduce

Implementation = Literal["auto", "torch", "triton"]


class FusedHead(Head):
    """Sharded centres, chunk classes at a time. chunk: classes whose (N, chunk) logits exist at once.

    implementation: "torch" runs everywhere and serves every objective; "triton" is a CUDA kernel for those whose others
    are a constant times the cosine, one centre a class, not yet run on a GPU and so not the default; "auto" is triton
    where it can be, else torch. The attribute afterwards names the one taken for float32 on CUDA; all else is torch's.
    """

    sharded = True

    def __init__(
        self,
        embedding_size: int,
        classes: int,
        objective: Objective,
        *,
        chunk: int = 8192,
        implementation: Implementation = "torch",
        seed: int = 0,
    ) -> None:
        super().__init__(embedding_size, classes, objective, seed=seed)
        if chunk < 1:
            raise UnsupportedHead(f"FusedHead: chunk must be at least 1, not {chunk}")
        self.chunk = chunk
        self.implementation = _choose(implementation, objective)
        self._scale = objective.plain_scale() if self.implementation == "triton" else None

    def _compare(self, unit: Tensor, labels: Tensor, batch: Batch) -> Comparison:
        gathered = Gathered.of(unit, labels, batch)
        targets = gathered.targets(self.local_classes)
        target, lengths, centres = compare_targets(self.objective, gathered.unit, self.centres, targets)
        own = gathered.own_classes(self.local_classes)

        def reduce_others(settings: Settings) -> Tensor:
            return reduce_over_ranks(self.objective, self._reduce(gathered.unit, centres, own, settings))

        total = len(gathered.unit)
        spread_lengths = None if lengths is None else spread(lengths, targets, total)
        return Comparison(spread(target, targets, total), spread_lengths, reduce_others)

    def _reduce(self, unit: Tensor, centres: Tensor, own: Tensor, settings: Settings) -> Tensor:
        if self._scale is not None and unit.is_cuda and unit.dtype == centres.dtype == torch.float32:
            from training.heads.fused_triton import reduce_scaled_cosines

            return reduce_scaled_cosines(unit, centres, own, self._scale)
        names = tuple(settings.context), tuple(settings.parameters)
        tensors = (*settings.context.values(), *settings.parameters.values())
        return _ReduceChunks.apply(  # type: ignore[no-untyped-call, no-any-return]
            unit, centres, _Problem(self.objective, self.chunk, own, names), *tensors
        )


def _choose(wanted: Implementation, objective: Objective) -> Literal["torch", "triton"]:
    if wanted == "torch":
        return "torch"
    obstacle = _obstacle(objective)
    if obstacle is None:
        return "triton"
    if wanted == "triton":
        raise UnsupportedHead(f"FusedHead with triton and {type(objective).__name__}: {obstacle}; take torch")
    return "torch"


def _obstacle(objective: Objective) -> str | None:
    """Why the kernel cannot serve the objective here, if it cannot."""
    if objective.plain_scale() is None:
        return "its others are not a constant times the cosine"
    if objective.centres_per_class > 1:
        return "it has sub-centres"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    from importlib.util import find_spec

    return None if find_spec("triton") else "triton is not installed"


@dataclass(frozen=True)
class _Problem:
    """What the reduction needs besides tensors with gradients.

    own: (N,) each sample's class among those of this rank, -1 where it is another rank's. names: of the context's
    entries and of the objective's parameters, in the order in which they are passed.
    """

    objective: Objective
    chunk: int
    own: Tensor
    names: tuple[tuple[str, ...], tuple[str, ...]]

    def settings(self, tensors: tuple[Tensor, ...]) -> Settings:
        context, parameters = self.names
        return Settings(
            dict(zip(context, tensors[: len(context)], strict=True)),
            dict(zip(parameters, tensors[len(context) :], strict=True)),
        )

    def blocks(self, centres: Tensor) -> Iterator[_Block]:
        """Chunks of centres in ascending order."""
        count = self.objective.centres_per_class
        for first in range(0, len(centres) // count, self.chunk):
            rows = slice(first * count, (first + self.chunk) * count)
            own = self.own - first
            classes = len(centres[rows]) // count
            yield _Block(rows, own.clamp(0, classes - 1)[:, None], ((own >= 0) & (own < classes))[:, None])


@dataclass(frozen=True)
class _Block:
    """rows: of the centres. own, inside: (N, 1) the sample's class in the chunk, and whether it is there at all."""

    rows: slice
    own: Tensor
    inside: Tensor

    def mask(self, values: Tensor, filler: float) -> Tensor:
        """Put filler at the samples' own classes, in place; without a read from the device."""
        return values.scatter_(1, self.own, values.gather(1, self.own).masked_fill(self.inside, filler))


class _ReduceChunks(torch.autograd.Function):
    """(N, D) unit embeddings, (C * K, D) centres, what `others` depends on -> (N,) reductions of own classes."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, centres: Tensor, problem: _Problem, *tensors: Tensor) -> Tensor:
        objective, settings = problem.objective, problem.settings(tensors)
        softmax = objective.reduction == "softmax"
        total = unit.new_full((len(unit),), lowest(unit.dtype) if softmax else 0.0)
        for block in problem.blocks(centres):
            directions, lengths = unit_rows(centres[block.rows].to(unit.dtype))
            logits = class_logits(objective, unit @ directions.T, lengths, settings)
            part = reduce(block.mask(logits, lowest(logits.dtype)), objective.reduction)
            total = torch.logaddexp(total, part) if softmax else total + part
        ctx.problem = problem
        ctx.save_for_backward(unit, centres, total, *tensors)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        unit, centres, total, *tensors = ctx.saved_tensors
        problem: _Problem = ctx.problem
        backward = _Backward(problem, unit, total, gradient, tensors, ctx.needs_input_grad[3:])
        whole = torch.empty_like(centres)
        for block in problem.blocks(centres):
            whole[block.rows] = backward.add(block, centres[block.rows].to(unit.dtype))
        return backward.unit, whole, None, *backward.tensors


class _Backward:
    """Gradients summed over chunks."""

    def __init__(
        self,
        problem: _Problem,
        unit: Tensor,
        total: Tensor,
        gradient: Tensor,
        tensors: list[Tensor],
        wanted: tuple[bool, ...],
    ) -> None:
        self._problem, self._unit, self._total, self._gradient = problem, unit, total, gradient
        self._leaves = [t.detach().requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]
        self.unit = torch.zeros_like(unit)
        self.tensors = [torch.zeros_like(t) if want else None for t, want in zip(tensors, wanted, strict=True)]

    def add(self, block: _Block, centres: Tensor) -> Tensor:
        """Add a chunk's share; returns the gradient to its centres."""
        objective = self._problem.objective
        directions, lengths = unit_rows(centres)
        cosines = (self._unit @ directions.T).requires_grad_()
        if not objective.unit_centres:
            lengths.requires_grad_()
        # Autograd sees only what the objective does to the cosines; the products are written out.
        with torch.enable_grad():
            logits = class_logits(objective, cosines, lengths, self._problem.settings(tuple(self._leaves)))
        inputs = [cosines, lengths, *self._leaves]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        found = torch.autograd.grad(logits, wanted, self._share(block, logits.detach()), allow_unused=True)
        by_tensor = {id(tensor): part for tensor, part in zip(wanted, found, strict=True)}
        for leaf, sum_ in zip(self._leaves, self.tensors, strict=True):
            part = by_tensor.get(id(leaf))
            if sum_ is not None and part is not None:
                sum_ += part
        cosine_gradient = by_tensor[id(cosines)]
        self.unit.addmm_(cosine_gradient, directions)
        along = by_tensor.get(id(lengths))
        return unit_rows_backward(cosine_gradient.T @ self._unit, directions, lengths.detach(), along)

    def _share(self, block: _Block, logits: Tensor) -> Tensor:
        """The loss's derivative by each logit: that of the reduction, times the reduction's gradient."""
        if self._problem.objective.reduction == "softmax":
            derivative = (logits - self._total[:, None]).exp_()
        else:
            derivative = logits.sigmoid()
        return block.mask(derivative.mul_(self._gradient[:, None]), 0.0)
