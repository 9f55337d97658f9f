"""What every head is: class centres and an objective, from embeddings and labels to the loss of all ranks.

Which gradients leave a head: for the embeddings and for replicated centres, the number of ranks times a rank's own
share, so that the mean over ranks that DDP takes is the gradient of the loss; for sharded centres, the gradient of
the loss itself, so that DDP must leave them alone (`_set_params_and_buffers_to_ignore_for_model`). Learned
parameters of an objective get the gradient of the loss on every rank alike, whichever of its methods uses them.

An engine calls, in this order, around each optimiser step:

    loss.backward()                    # once, or once a micro-batch
    head.prepare_step(optimiser)       # the optimiser now holds what it may move
    scaler.unscale_(optimiser)         # if any; clipping likewise looks at the parameters in optimiser.param_groups
    optimiser.step()                   # or scaler.step(optimiser)
    head.finish_step(optimiser)        # the optimiser holds `centres` again, and its state with every row
    optimiser.zero_grad()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from training.heads import collectives
from training.heads.collectives import Batch
from training.heads.unit import normalise, pick
from training.losses.objective import Context, Objective

_INITIAL_DEVIATION = 0.01
_CLASSES_A_DRAW = 4096


class UnsupportedHead(ValueError):
    """A head that cannot compute what is asked of it."""


@dataclass(frozen=True)
class Settings:
    """What an objective's `others` depends on besides the cosines: its context, and its learned parameters by name.

    Entries of the context are (N,), or () where they hold for the batch.
    """

    context: Context
    parameters: dict[str, Tensor]

    @classmethod
    def shared(cls, objective: Objective, context: Context) -> Settings:
        """For uses in which ranks differ; gradients are summed over ranks."""
        return cls(
            {name: collectives.share(entry) for name, entry in context.items()},
            {name: collectives.share(parameter) for name, parameter in objective.named_parameters()},
        )


@dataclass(frozen=True)
class Comparison:
    """Embeddings held against class centres.

    target: (N,) cosines to the own centres, common to all ranks. lengths: (N,) lengths of the own centres where
    the objective wants them. reduce_others: what `others` depends on to (N,) reductions, common.
    """

    target: Tensor
    lengths: Tensor | None
    reduce_others: Callable[[Settings], Tensor]


@dataclass(frozen=True)
class Targets:
    """The samples whose class is among some centres: (M,) indices of samples and, of the same, of classes."""

    samples: Tensor
    classes: Tensor


class Head(nn.Module):
    """Base of all heads.

    Attributes: centres: (local classes * K, D), the K sub-centres of a class in a row. local_classes: the classes
    whose centres this rank holds. sharded: whether ranks hold different ones.
    """

    sharded: ClassVar[bool]

    def __init__(self, embedding_size: int, classes: int, objective: Objective, *, seed: int = 0) -> None:
        super().__init__()
        self.objective, self.classes, self.seed = objective, classes, seed
        ranks = collectives.world_size() if self.sharded else 1
        if classes < ranks:
            raise UnsupportedHead(f"{type(self).__name__}: {classes} classes cannot be shared among {ranks} ranks")
        self.local_classes = shard(classes, collectives.rank() if self.sharded else 0, ranks)
        per_class = objective.centres_per_class
        self.centres = nn.Parameter(initial_centres(self.local_classes, per_class, embedding_size, seed))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) of any float type, (B,) int64 with -1 where nobody is known -> the mean loss of all ranks' known.

        The same scalar on every rank, float32 or float64; 0 when nobody is known anywhere. Raises ValueError for
        a label that is no class.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            known = labels >= 0
            labels = labels[known]
            batch, largest = collectives.exchange_counts(labels)
            if largest >= self.classes:
                raise ValueError(f"label {largest}: the head has the classes 0 to {self.classes - 1}")
            dtype = torch.promote_types(torch.promote_types(embeddings.dtype, self.centres.dtype), torch.float32)
            own = collectives.scale_gradient(embeddings[known].to(dtype))
            if largest < 0:
                return self._nobody(own)
            return self._loss(own, labels, batch)

    def _loss(self, own: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        objective = self.objective
        unit, norms = normalise(own)
        norms = collectives.gather(norms, batch)
        compared = self._compare(unit, labels, batch)
        context = objective.context(norms, compared.target)
        others = compared.reduce_others(Settings.shared(objective, context))
        if self.training:
            objective.observe(others.detach())
        target = objective.target(compared.target, context)
        if compared.lengths is not None:
            target = target * compared.lengths
        return objective.combine(target, others).mean() + objective.penalty(norms)

    def _nobody(self, own: Tensor) -> Tensor:
        # Zero, but still a function of everything: DDP waits for every gradient.
        return sum((p.flatten()[:0].sum() for p in self.parameters()), start=own.sum())

    def _compare(self, unit: Tensor, labels: Tensor, batch: Batch) -> Comparison:
        """(n, D) own unit embeddings, (n,) own labels -> all samples against all classes."""
        raise NotImplementedError

    def prepare_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Called after the last backward pass of a step, before gradients are unscaled, clipped or used."""

    def finish_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Called after the optimiser's step, taken or skipped."""

    def extra_repr(self) -> str:
        """The size, for printing."""
        return f"centres={tuple(self.centres.shape)}, classes={self.classes}, local={self.local_classes}"


def shard(classes: int, rank: int, ranks: int) -> range:
    """The rank's contiguous block of classes; blocks differ by one at most, the first are the larger."""
    size, larger = divmod(classes, ranks)
    start = rank * size + min(rank, larger)
    return range(start, start + size + (rank < larger))


def initial_centres(classes: range, centres_per_class: int, embedding_size: int, seed: int) -> Tensor:
    """(classes * K, D) float32 normal centres: each class its own, however the classes are shared among ranks."""
    centres = torch.empty(len(classes), centres_per_class, embedding_size)
    first = classes.start - classes.start % _CLASSES_A_DRAW
    for start in range(first, classes.stop, _CLASSES_A_DRAW):
        generator = torch.Generator().manual_seed(hash((seed, start)))
        drawn = torch.randn(_CLASSES_A_DRAW, centres_per_class, embedding_size, generator=generator)
        low, high = max(start, classes.start), min(start + _CLASSES_A_DRAW, classes.stop)
        centres[low - classes.start : high - classes.start] = drawn[low - start : high - start]
    return centres.mul_(_INITIAL_DEVIATION).flatten(0, 1)


def compare_targets(
    objective: Objective, unit: Tensor, centres: Tensor, targets: Targets
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(N, D), (C * K, D) -> (M,) cosines to the own centres, their (M,) lengths if wanted, and the centres for reuse.

    An indexed dot product, more exact than an entry of a large matrix product may be.
    """
    count = objective.centres_per_class
    offsets = torch.arange(count, device=centres.device)
    rows = (targets.classes[:, None] * count + offsets).flatten()
    picked, centres = pick(centres, rows)
    directions, lengths = normalise(picked.to(unit.dtype))
    directions = directions.view(-1, count, unit.shape[1])
    cosines = torch.einsum("nd,nkd->nk", unit[targets.samples], directions)
    best = cosines.max(dim=1)
    if objective.unit_centres:
        return best.values, None, centres
    return best.values, lengths.view(-1, count).gather(1, best.indices[:, None])[:, 0], centres


class _Others(nn.Module):
    """An objective's `others` as a module of its own, so that its parameters can be exchanged."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, cosines: Tensor, context: Context) -> Tensor:
        return self.objective.others(cosines, context)


def class_logits(objective: Objective, cosines: Tensor, lengths: Tensor, settings: Settings) -> Tensor:
    """(N, C * K) cosines, (C * K,) lengths of the centres -> (N, C) logits of the classes as others."""
    context = {name: entry[:, None] if entry.ndim else entry for name, entry in settings.context.items()}
    parameters = {f"objective.{name}": parameter for name, parameter in settings.parameters.items()}
    count = objective.centres_per_class
    chosen = lengths
    if count > 1:
        cosines, index = cosines.view(len(cosines), len(lengths) // count, count).max(dim=2)
        if not objective.unit_centres:
            by_class = lengths.view(1, -1, count).expand(len(cosines), -1, -1)
            chosen = by_class.gather(2, index[:, :, None])[:, :, 0]
    logits: Tensor = functional_call(_Others(objective), parameters, (cosines, context))
    return logits if objective.unit_centres else logits * chosen


def lowest(dtype: torch.dtype) -> float:
    """The logit of a class that takes no part: finite, so that even a sample without other classes has no NaN."""
    return torch.finfo(dtype).min / 4
