"""Sampled head (Partial FC): a step looks at the classes of its batch and at a random share of the others.

An et al. 2022, arXiv:2203.15565. Centres that a step does not sample do not move: no gradient, no momentum, no decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.heads import collectives
from training.heads.collectives import Batch
from training.heads.head import Comparison, Head, Targets, UnsupportedHead
from training.heads.sharded import Gathered, compare_with_shard
from training.losses.objective import Objective


@dataclass(frozen=True)
class _Sample:
    """(S,) ascending rows of the centres, and those (S, D) rows as what is learned."""

    rows: Tensor
    centres: nn.Parameter


@dataclass(frozen=True)
class _Lent:
    """The sample that the optimiser holds, and the optimiser's state of all centres."""

    sample: _Sample
    state: dict[str, Any]


class SampledHead(Head):
    """Sharded centres of which a training step takes part: rate * the rank's classes, and all of the batch's.

    Outside training every class counts. The optimiser is lent the sampled rows, with their rows of its state, in
    the place of `centres` (prepare_step), and returns them (finish_step): so they move exactly as under an optimiser
    that knows only them, and its state has the shape of `centres` to whoever saves it. A count of steps that it
    keeps for a whole parameter (AdamW's, for the bias correction) counts the head's steps, not a row's.
    Buffer step: samples drawn so far; with `seed` and the rank it decides the next one. Micro-batches of one
    step draw each their own sample, and the step moves them all.
    """

    sharded = True
    step: Tensor

    def __init__(
        self, embedding_size: int, classes: int, objective: Objective, *, rate: float = 0.1, seed: int = 0
    ) -> None:
        if not 0 < rate <= 1:
            raise UnsupportedHead(f"SampledHead: rate must be above 0 and at most 1, not {rate}")
        super().__init__(embedding_size, classes, objective, seed=seed)
        self.rate = rate
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._samples: list[_Sample] = []
        self._lent: _Lent | None = None

    def _compare(self, unit: Tensor, labels: Tensor, batch: Batch) -> Comparison:
        gathered = Gathered.of(unit, labels, batch)
        targets = gathered.targets(self.local_classes)
        if not (self.training and torch.is_grad_enabled()):
            return compare_with_shard(self.objective, gathered.unit, self.centres, targets)
        classes = self._draw(targets.classes)
        self.step += 1
        count = self.objective.centres_per_class
        rows = (classes[:, None] * count + torch.arange(count, device=classes.device)).flatten()
        sample = _Sample(rows, nn.Parameter(self.centres.detach()[rows], self.centres.requires_grad))
        self._samples.append(sample)
        sampled = Targets(targets.samples, torch.searchsorted(classes, targets.classes))
        return compare_with_shard(self.objective, gathered.unit, sample.centres, sampled)

    def _draw(self, positives: Tensor) -> Tensor:
        """(M,) local classes of the batch -> (S,) ascending local classes: those, filled up at random."""
        local = len(self.local_classes)
        device = positives.device
        generator = torch.Generator(device).manual_seed(hash((self.seed, int(self.step), collectives.rank())))
        priority = torch.rand(local, generator=generator, device=device)
        priority[positives] = 2.0
        kept = max(round(self.rate * local), 1, int((priority == 2.0).sum()))
        return priority.topk(kept).indices.sort().values

    def _nobody(self, own: Tensor) -> Tensor:
        # Not a function of the centres: a gradient of zero would let momentum and decay move them.
        return sum((p.flatten()[:0].sum() for p in self.objective.parameters()), start=own.sum())

    def prepare_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Lend the optimiser the rows sampled since the last step, with their gradients and state."""
        sample = _merge([sample for sample in self._samples if sample.centres.grad is not None])
        self._samples = []
        if sample is None:
            return
        _replace(optimiser, self.centres, sample.centres)
        state = optimiser.state.pop(self.centres, {})
        optimiser.state[sample.centres] = {
            name: value[sample.rows] if _like(value, self.centres) else value for name, value in state.items()
        }
        self._lent = _Lent(sample, state)

    def finish_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Take the rows and their state back."""
        if self._lent is None:
            return
        sample, state = self._lent.sample, self._lent.state
        self._lent = None
        _replace(optimiser, sample.centres, self.centres)
        with torch.no_grad():
            self.centres[sample.rows] = sample.centres
        for name, value in optimiser.state.pop(sample.centres, {}).items():
            if not _like(value, sample.centres):
                state[name] = value
                continue
            if name not in state:
                state[name] = value.new_zeros(self.centres.shape)
            state[name][sample.rows] = value
        if state:
            optimiser.state[self.centres] = state


def _like(value: Any, parameter: Tensor) -> bool:
    """Whether an entry of an optimiser's state has a row for each row of the parameter."""
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _merge(samples: list[_Sample]) -> _Sample | None:
    """The samples of several micro-batches as one, with the sum of their gradients."""
    if len(samples) < 2:
        return samples[0] if samples else None
    rows, positions = torch.unique(torch.cat([sample.rows for sample in samples]), return_inverse=True)
    learned = torch.cat([sample.centres.detach() for sample in samples])
    gradients = torch.cat([sample.centres.grad for sample in samples if sample.centres.grad is not None])
    centres = nn.Parameter(learned.new_empty(len(rows), learned.shape[1]).index_copy_(0, positions, learned))
    centres.grad = torch.zeros_like(centres).index_add_(0, positions, gradients)
    return _Sample(rows, centres)


def _replace(optimiser: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> None:
    for group in optimiser.param_groups:
        for place, parameter in enumerate(group["params"]):
            if parameter is old:
                group["params"][place] = new
                return
    raise ValueError("the optimiser does not hold the centres of this head")
