"""From a checkpoint to an ONNX graph, for engines other than the service's own."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from models.checkpoint import Checkpoint
from models.detector.decode import STRIDES
from models.network import instantiate

OPSET = 17
INPUT = "images"
METADATA_KEY = "facemargin"
"""The graph's metadata property that holds the checkpoint's metadata as JSON: pixel format, size, flip, model id."""


def output_names(checkpoint: Checkpoint) -> list[str]:
    """What the graph's outputs are called: `embeddings`, or a detector's `stride8`, `stride16`, `stride32`."""
    if checkpoint.metadata.task == "recognition":
        return ["embeddings"]
    return [f"stride{stride}" for stride in STRIDES]


def export_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the network as an ONNX graph (opset 17, float32) with the checkpoint's metadata in it.

    One input `images`, (N, 3, H, W) float32 RGB as (x - 127.5) / 127.5. The batch is dynamic; for a detector
    height and width are too. Embeddings come as the network gives them, not scaled to unit length.
    """
    network = instantiate(checkpoint)
    spec = checkpoint.metadata.input
    names = output_names(checkpoint)
    axes = {name: {0: "batch"} for name in (INPUT, *names)}
    if checkpoint.metadata.task == "detection":
        axes[INPUT] |= {2: "height", 3: "width"}
        for name in names:
            axes[name] |= {2: f"rows_{name}", 3: f"columns_{name}"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The tracing exporter, deprecated though it is: it takes seconds where the other takes half a minute, needs
        # no package besides torch, and traces as OpenVINO does. The bound on torch holds the version that has it.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, spec.height, spec.width),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes=axes,
        )
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {METADATA_KEY: checkpoint.metadata.model_dump_json()})
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))
