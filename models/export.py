"""From a checkpoint to an OpenVINO graph, so that a server can run it without torch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import Checkpoint
from models.network import instantiate
from models.quiet_openvino import openvino


def export_openvino(checkpoint: Checkpoint, path: Path) -> None:
    """Write the network as an OpenVINO graph: `path` (.xml) and its .bin beside it, float32.

    The batch is dynamic; for a detector height and width are too. The .bin lands before the .xml,
    so a reader that sees the .xml finds both.
    """
    save_openvino(openvino_graph(checkpoint), path)


def openvino_graph(checkpoint: Checkpoint) -> openvino.Model:
    """The network as an OpenVINO graph, float32, with the dynamic dimensions of `export_openvino`."""
    from openvino.frontend import FrontEndManager  # not before quiet_openvino
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    network = instantiate(checkpoint)
    spec = checkpoint.metadata.input
    example = torch.from_numpy(np.zeros((2, 3, spec.height, spec.width), dtype=np.float32))
    sizes = [spec.height, spec.width] if checkpoint.metadata.task == "recognition" else [-1, -1]
    # The front end itself, since openvino.convert_model reports each use to its maker over the network.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.inference_mode():
        decoder = TorchScriptPythonDecoder(network, example_input=example)  # must outlive the conversion
        graph = frontend.convert(frontend.load(decoder))
    graph.reshape(openvino.PartialShape([-1, 3, *sizes]))
    return graph


def save_openvino(graph: openvino.Model, path: Path) -> None:
    """Write a graph as `path` (.xml) and its .bin beside it, weights as they are; the .bin lands first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        openvino.save_model(graph, temporary, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            shutil.move(temporary.with_suffix(suffix), path.with_suffix(suffix))
