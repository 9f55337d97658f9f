"""Class-sharded head: each rank holds a block of the centres and compares the embeddings of all ranks with it.

A distributed softmax: embeddings and labels are gathered, the target's cosine, the maximum and the sum are reduced
over ranks, and the gradient of the embeddings is scattered back (as in arcface_torch and Partial FC, An et al. 2022,
arXiv:2203.15565). Memory and time of the centres fall with the number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from training.heads import collectives
from training.heads.collectives import Batch
from training.heads.head import Comparison, Head, Settings, Targets, class_logits, compare_targets, lowest
from training.heads.unit import normalise
from training.losses.objective import Objective, reduce


class ShardedHead(Head):
    """Centres shared out over ranks; with one process, all of them on it."""

    sharded = True

    def _compare(self, unit: Tensor, labels: Tensor, batch: Batch) -> Comparison:
        gathered = Gathered.of(unit, labels, batch)
        targets = gathered.targets(self.local_classes)
        return compare_with_shard(self.objective, gathered.unit, self.centres, targets)


@dataclass(frozen=True)
class Gathered:
    """(N, D) unit embeddings and (N,) labels of all ranks, in the order of ranks."""

    unit: Tensor
    labels: Tensor

    @classmethod
    def of(cls, unit: Tensor, labels: Tensor, batch: Batch) -> Gathered:
        """From a rank's own samples."""
        return cls(collectives.gather_for_shards(unit, batch), collectives.gather(labels, batch))

    def own_classes(self, classes: range) -> Tensor:
        """(N,) places of the samples' classes among those of this rank, -1 where another rank has the class."""
        inside = (self.labels >= classes.start) & (self.labels < classes.stop)
        return (self.labels - classes.start).where(inside, -1)

    def targets(self, classes: range) -> Targets:
        """The samples whose class is among those of this rank."""
        own = self.own_classes(classes)
        samples = (own >= 0).nonzero()[:, 0]
        return Targets(samples, own[samples])


def compare_with_shard(objective: Objective, unit: Tensor, centres: Tensor, targets: Targets) -> Comparison:
    """(N, D) unit embeddings of all ranks against this rank's (C * K, D) centres, whose logits exist whole."""
    target, target_lengths, centres = compare_targets(objective, unit, centres, targets)
    directions, lengths = normalise(centres.to(unit.dtype))
    cosines = unit @ directions.T

    def reduce_others(settings: Settings) -> Tensor:
        logits = class_logits(objective, cosines, lengths, settings)
        return reduce_over_ranks(objective, reduce_masked(objective, logits, targets))

    return Comparison(
        spread(target, targets, len(unit)),
        None if target_lengths is None else spread(target_lengths, targets, len(unit)),
        reduce_others,
    )


def reduce_masked(objective: Objective, logits: Tensor, targets: Targets) -> Tensor:
    """(N, C) logits -> (N,) reductions over all classes but the sample's own."""
    nothing = logits.new_tensor(lowest(logits.dtype))
    return reduce(logits.index_put((targets.samples, targets.classes), nothing), objective.reduction)


def spread(values: Tensor, targets: Targets, total: int) -> Tensor:
    """(M,) values of the samples whose class this rank holds -> (N,) of all samples, from all ranks."""
    return collectives.sum_over_ranks(values.new_zeros(total).index_put((targets.samples,), values))


def reduce_over_ranks(objective: Objective, reduced: Tensor) -> Tensor:
    """(N,) reductions over this rank's classes -> over those of all ranks."""
    if objective.reduction == "softmax":
        return collectives.logsumexp_over_ranks(reduced)
    return collectives.sum_over_ranks(reduced)
