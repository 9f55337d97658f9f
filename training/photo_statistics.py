"""A detector's batch-norm statistics as whole photos give them, which is what it searches once it serves.

In training each batch is normalised by its own statistics, be it of mosaics or of single faces. Means over batches of
all kinds fit none of them: whole photos and single faces have statistics of their own here (Chang et al. 2019,
arXiv:1906.03950; Xie et al. 2020, arXiv:1911.09665, section 3.2), as the same weights learned for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import update_bn

from models import probe
from models.checkpoint import LOOKS, Checkpoint
from models.detector.decode import STRIDES
from models.detector.find import fitted_size, network_input
from models.detector.refine import VIEW
from models.network import instantiate, torch_forward, weights_of

_STATISTICS = (".running_mean", ".running_var")


class PhotoStatisticsError(ValueError):
    """Nothing can be measured; the message says why."""


def with_photo_statistics(
    checkpoint: Checkpoint, photos: Sequence[Image.Image], share: float, looking: Checkpoint | None = None
) -> Checkpoint:
    """The detector with statistics drawn by `share` in [0, 1] to those of the photos.

    It looks again as before, or as `looking` does: a detector of the same architecture, trained on single faces.
    A share of the statistics of training steadies what few photos say (Schneider et al. 2020, arXiv:2006.16971,
    section 3). Raises PhotoStatisticsError, and what `models.network.instantiate` raises.
    """
    metadata, looking = checkpoint.metadata, looking or checkpoint
    _check_alike(checkpoint, looking)
    if not photos:
        raise PhotoStatisticsError("no photo to measure statistics on: name a source that has some")
    for photo in photos:
        if max(fitted_size(*photo.size)) <= STRIDES[-1]:  # one cell has a mean, and no variance
            raise PhotoStatisticsError(f"a photo of {photo.width}x{photo.height} pixels is too small: leave it out")
    looking = looking.further_looks() or looking
    network = instantiate(checkpoint)
    measure_on_photos(network, photos)
    weights = weights_of(network)
    for name in weights:
        if name.endswith(_STATISTICS):
            trained = checkpoint.weights[name].astype(np.float32)
            weights[name] = (trained + share * (weights[name] - trained)).astype(np.float16)
    looks = {
        LOOKS + name: array
        for name, array in looking.weights.items()
        if not np.array_equal(array.astype(np.float16), weights[name])
    }
    fitted = Checkpoint(metadata, weights | looks)
    spec = metadata.input
    told = {
        "probe": probe.make(torch_forward(instantiate(fitted)), spec.width, spec.height),
        "looks_probe": probe.make(torch_forward(instantiate(looking)), VIEW, VIEW),
        "int8_ranges": None,  # of inputs that are others now
    }
    return Checkpoint(metadata.model_copy(update=told), fitted.weights)


def _check_alike(checkpoint: Checkpoint, looking: Checkpoint) -> None:
    for detector in (checkpoint, looking):
        if detector.metadata.task != "detection":
            raise PhotoStatisticsError(f"{detector.model_id}: not a detector (task {detector.metadata.task})")
    wanted, found = ((c.metadata.architecture, c.metadata.arguments) for c in (checkpoint, looking))
    if found != wanted:
        raise PhotoStatisticsError(f"{looking.model_id}: {found}, but {checkpoint.model_id} is {wanted}")


def measure_on_photos(network: nn.Module, photos: Sequence[Image.Image]) -> None:
    """Set the batch norms' statistics to their means over the photos, each shown as `find_faces` would."""
    shown = (torch.from_numpy(network_input(np.asarray(photo), fitted_size(*photo.size))) for photo in photos)
    update_bn(shown, network)
