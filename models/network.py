"""Between checkpoints and torch modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.checkpoint import LOOKS, Checkpoint, WeightsMismatch
from models.faces import Forward
from models.registry import build


def instantiate(checkpoint: Checkpoint) -> nn.Module:
    """The checkpoint's network as a float32 torch module in evaluation mode.

    Raises UnknownArchitecture, or WeightsMismatch when a weight is missing, left over or misshapen.
    """
    metadata = checkpoint.metadata
    network = build(metadata.architecture, **metadata.arguments)
    weights = {
        name: torch.from_numpy(array.copy()) for name, array in checkpoint.weights.items() if not name.startswith(LOOKS)
    }
    # Batch counters are training state, not weights: a checkpoint leaves them out.
    expected = {
        name: tensor.shape for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    if difference := expected.keys() ^ weights.keys():
        raise WeightsMismatch(
            f"{metadata.name}: weights do not fit {metadata.architecture}: {sorted(difference)[0]!r} "
            f"and {len(difference) - 1} more are missing or left over"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise WeightsMismatch(
                f"{metadata.name}: {name} has shape {tuple(weights[name].shape)}, "
                f"{metadata.architecture} expects {tuple(shape)}"
            )
    network.load_state_dict(weights, strict=False)
    return network.eval()


def weights_of(network: nn.Module, dtype: Any = np.float16) -> dict[str, NDArray[Any]]:
    """A network's parameters and buffers as arrays of `dtype`, in the form a checkpoint stores."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype(dtype)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def torch_forward(network: nn.Module) -> Forward:
    """The reference engine: the network itself, on the device its weights are on, without gradients.

    Its weights are put into the channels-last order, in which a CPU takes some 40 % less time for these networks.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's own stubs
    device = next(network.parameters()).device

    @torch.inference_mode()
    def forward(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = network(torch.from_numpy(planes).to(device, memory_format=torch.channels_last))
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return [output.float().cpu().numpy() for output in outputs]

    return forward


def detector_forwards(checkpoint: Checkpoint) -> tuple[Forward, Forward]:
    """A detector's network and that of its further looks, run by torch; the same where it has none of its own.

    Raises what `instantiate` raises.
    """
    first = torch_forward(instantiate(checkpoint))
    looks = checkpoint.further_looks()
    return first, first if looks is None else torch_forward(instantiate(looks))
