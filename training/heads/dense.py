"""Dense heads: every class centre on every rank."""

from __future__ import annotations

import torch
from torch import Tensor

from training.heads import collectives
from training.heads.collectives import Batch
from training.heads.head import Comparison, Head, Settings, Targets, class_logits, compare_targets
from training.heads.sharded import reduce_masked
from training.heads.unit import normalise


class DenseHead(Head):
    """Each rank compares its own samples with a copy of all centres; what the objective sees is of all ranks."""

    sharded = False

    def _compare(self, unit: Tensor, labels: Tensor, batch: Batch) -> Comparison:
        targets = Targets(torch.arange(len(labels), device=labels.device), labels)
        replica = collectives.scale_gradient(self.centres)
        target, target_lengths, centres = compare_targets(self.objective, unit, replica, targets)
        directions, lengths = normalise(centres.to(unit.dtype))
        cosines = unit @ directions.T

        def reduce_others(settings: Settings) -> Tensor:
            context = {name: entry[batch.own] if entry.ndim else entry for name, entry in settings.context.items()}
            own = Settings(context, settings.parameters)
            logits = class_logits(self.objective, cosines, lengths, own)
            return collectives.gather(reduce_masked(self.objective, logits, targets), batch)

        return Comparison(
            collectives.gather(target, batch),
            None if target_lengths is None else collectives.gather(target_lengths, batch),
            reduce_others,
        )
