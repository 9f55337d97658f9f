"""Noticing a loss or weights that are not finite without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from training.distributed import Rank

_NAMED = 4  # images named in the message


class LossNotFinite(RuntimeError):
    """The loss or the weights became NaN or infinite; the message names the step, its images and the remedy."""


class FinitenessWatch:
    """Remembers on the device the first step whose loss was not finite, and on the CPU which images each step saw.

    keys: the name of every image by its `index`, or None where the task has no names.
    """

    def __init__(self, rank: Rank, keys: Sequence[str] | None) -> None:
        self._rank, self._keys = rank, keys
        self._first = torch.full((), -1, dtype=torch.int64, device=rank.device)
        self._seen: dict[int, list[Tensor]] = {}

    def observe(self, step: int, loss: Tensor, batches: Iterable[dict[str, Tensor]]) -> None:
        """Note step `step` (counted from 1), its loss and its batches; nothing waits for the device."""
        self._first = torch.where((self._first < 0) & ~torch.isfinite(loss), step, self._first)
        self._seen[step] = [batch["index"] for batch in batches if "index" in batch]

    def check(self, step: int, parameters: Iterable[Tensor] = ()) -> None:
        """Raise LossNotFinite on every rank if a loss since the last check, or a parameter now, is not finite."""
        first, what = int(self._first), "the loss is"
        if first < 0 and not _all_finite(parameters):
            first, what = step, "the weights are"
        if self._rank.any(first >= 0):
            raise LossNotFinite(self._message(first, what))
        self._seen.clear()

    def _message(self, first: int, what: str) -> str:
        if first < 0:
            return "the loss or the weights are not finite on another rank, which says more"
        return (
            f"{what} not finite at step {first}{self._names(first)}; look at these images, lower "
            "optimiser.learning_rate or optimiser.clip_norm, and start again under another name: the state in this "
            "run's folder is of a step before"
        )

    def _names(self, step: int) -> str:
        if self._keys is None or not self._seen.get(step):
            return ""
        index = torch.cat(self._seen[step]).tolist()
        more = f" and {len(index) - _NAMED} more" if len(index) > _NAMED else ""
        place = f" on rank {self._rank.rank}" if self._rank.world_size > 1 else ""
        return f"{place}, whose batch holds {', '.join(self._keys[one] for one in index[:_NAMED])}{more}"


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    flags = [tensor.detach().isfinite().all() for tensor in tensors]
    return not flags or bool(torch.stack(flags).all())
