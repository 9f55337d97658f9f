"""From a run's moving average to a checkpoint: fresh batch-norm statistics, metadata, the probe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from models import checkpoint, probe
from models.checkpoint import Metadata
from models.network import torch_forward, weights_of
from training.config import TrainConfig
from training.stepping import Stepper


def refresh_statistics(stepper: Stepper, batches: Iterator[dict[str, Tensor]], seed: int) -> None:
    """Measure the average's batch-norm statistics on the batches, in the precision of training.

    The statistics of averaged weights are not the average of the statistics (Izmailov et al. 2018,
    arXiv:1803.05407, section 3.2). Where all of them are frozen they stay as they are.
    """
    trained, average = stepper.network, stepper.average.module
    norms = [module for module in trained.modules() if isinstance(module, _BatchNorm)]
    if norms and not any(module.training for module in norms):
        return
    torch.manual_seed(seed)
    with stepper.autocast():
        shown = stepper.network_inputs(batches)
        if shown is not None:
            update_bn(shown, average)
            return
        stepper.learner.network = average
        update_bn((stepper.on_device(batch) for batch in batches), stepper.learner)
        stepper.learner.network = trained


def write_checkpoint(
    path: Path, network: nn.Module, metadata: Metadata, config: TrainConfig, facts: dict[str, object]
) -> None:
    """Write the network in half precision with its metadata, to which `facts` of the training are added."""
    training = metadata.training | {
        "config_sha256": hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        **facts,
        "date": datetime.now(UTC).date().isoformat(),
    }
    # The probe must be of the very weights stored, which half precision rounds.
    stored = weights_of(network)
    rounded = {name: torch.from_numpy(array).float() for name, array in stored.items()}
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(rounded, strict=False)
    expected = probe.make(torch_forward(network), metadata.input.width, metadata.input.height)
    network.load_state_dict(kept)
    checkpoint.write(path, stored, metadata.model_copy(update={"training": training, "probe": expected}))
