"""Which layers of a network may run in int8, and the ranges of their inputs that this takes."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.checkpoint import Checkpoint
from models.network import instantiate


class Int8RangesError(ValueError):
    """No ranges can be measured; the message says why."""


def with_int8_ranges(
    checkpoint: Checkpoint, inputs: Iterable[NDArray[np.float32]], layers: Sequence[str]
) -> Checkpoint:
    """The checkpoint with ranges for the convolutions whose path is of one of the patterns `layers`, as `stage8.*`.

    inputs: batches (N, 3, H, W) of what the network is fed. A range reaches from the mean over the images of the
    smallest value to the mean of the largest: values that few images reach are cut off for the sake of finer levels, as
    where ranges are smoothed over batches (Jacob et al. 2018, arXiv:1712.05877, section 3.1).
    Raises Int8RangesError, and what `models.network.instantiate` raises.
    """
    network = instantiate(checkpoint)
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    for pattern in layers:
        if not fnmatch.filter(convolutions, pattern):
            raise Int8RangesError(f"no convolution is called {pattern!r}; there are {', '.join(convolutions)}")
    chosen = {
        name: module
        for name, module in convolutions.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in layers)
    }
    ranges = measure_ranges(network, chosen, inputs)
    return Checkpoint(checkpoint.metadata.model_copy(update={"int8_ranges": ranges}), checkpoint.weights)


@torch.inference_mode()
def measure_ranges(
    network: nn.Module, layers: Mapping[str, nn.Module], inputs: Iterable[NDArray[np.float32]]
) -> dict[str, tuple[float, float]]:
    """Layer to the mean over all images of the smallest and of the largest value that it is fed."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    watches = []
    for name, layer in layers.items():

        def watch(_: nn.Module, fed: tuple[Tensor], name: str = name) -> None:
            flat = fed[0].flatten(1)
            seen[name].append(torch.stack([flat.amin(1), flat.amax(1)], dim=1))

        watches.append(layer.register_forward_pre_hook(watch))
    try:
        for planes in inputs:
            network(torch.from_numpy(planes))
    finally:
        for hook in watches:
            hook.remove()
    extremes = {name: torch.cat(values).mean(dim=0).tolist() for name, values in seen.items()}
    return {name: (smallest, largest) for name, (smallest, largest) in extremes.items()}
