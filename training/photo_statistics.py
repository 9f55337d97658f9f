"""Batch-norm statistics as whole photos give them, which is what the detector meets once it serves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import update_bn

from models.detector.find import fitted_size, network_input


def measure_on_photos(network: nn.Module, photos: Sequence[Image.Image]) -> None:
    """Set the batch norms' statistics to their means over the photos, each shown as `find_faces` would.

    Training scenes are mosaics, recoloured, at other sizes, or faces alone; statistics of them all fit none of them,
    and a photo's own differ (Touvron et al. 2019, arXiv:1906.06423).
    """
    shown = (torch.from_numpy(network_input(np.asarray(photo), fitted_size(*photo.size))) for photo in photos)
    update_bn(shown, network)
